//! Decodes the events of the backend's stream in one pass, borrowing from the event's JSON.
//!
//! Decoding never fails. The `type` member determines the event; the `event:` line is not used, since it may be missing
//! or differ. Unknown types become [`UpstreamEvent::Other`], unreadable events [`UpstreamEvent::Malformed`], which the
//! reply repairs with later events or reports as an error.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure;
use super::item::{ContentPart, OutputItem};
use super::usage::Usage;
use crate::error::UpstreamFailure;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::{RawText, Str};

/// An event of the backend's stream.
#[derive(Clone, Debug)]
pub enum UpstreamEvent<'a> {
    /// The response started (`response.created`).
    Created(ResponseObject<'a>),
    /// An item started (`response.output_item.added`).
    ItemAdded(ItemPosition<'a>, OutputItem<'a>),
    /// An item is complete (`response.output_item.done`). The event has its whole content, including that of the
    /// deltas.
    ItemDone(ItemPosition<'a>, OutputItem<'a>),
    /// A content part started (`response.content_part.added`).
    PartAdded(ItemPosition<'a>, ContentPart<'a>),
    /// A content part is complete (`response.content_part.done`).
    PartDone(ItemPosition<'a>, ContentPart<'a>),
    /// A delta of visible text.
    Text(ItemPosition<'a>, RawText<'a>),
    /// The complete visible text of a part.
    TextDone(ItemPosition<'a>, RawText<'a>),
    /// A citation of a text part, as JSON.
    Annotation(ItemPosition<'a>, &'a RawValue),
    /// A delta of a refusal.
    Refusal(ItemPosition<'a>, RawText<'a>),
    /// The complete text of a refusal.
    RefusalDone(ItemPosition<'a>, RawText<'a>),
    /// A delta of a reasoning summary or of reasoning text.
    Reasoning(ItemPosition<'a>, RawText<'a>),
    /// The complete text of a reasoning part.
    ReasoningDone(ItemPosition<'a>, RawText<'a>),
    /// A delta of a function call's arguments.
    Arguments(ItemPosition<'a>, RawText<'a>),
    /// The complete arguments of a function call.
    ArgumentsDone(ItemPosition<'a>, RawText<'a>),
    /// A delta of a custom tool call's input.
    Input(ItemPosition<'a>, RawText<'a>),
    /// The complete input of a custom tool call.
    InputDone(ItemPosition<'a>, RawText<'a>),
    /// The response is complete.
    Completed(ResponseObject<'a>),
    /// The response ended early, for the reason in `incomplete_reason`.
    Incomplete(ResponseObject<'a>),
    /// The response failed (`response.failed`, or an `error` event).
    Failed(Box<UpstreamFailure>),
    /// An event of an unknown type or of one that no translation needs; also empty data and `[DONE]`.
    Other {
        /// The event's type.
        kind: Str<'a>,
        /// The JSON of the whole event.
        data: &'a str,
    },
    /// Not a JSON object with a type, or of a known type without its required members.
    Malformed {
        /// The JSON of the whole event.
        data: &'a str,
    },
}

/// Identifies the item and the part that an event belongs to. The backend sometimes leaves members out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemPosition<'a> {
    /// Position of the item in the response.
    pub output_index: Option<u64>,
    /// Id of the item.
    pub item_id: Option<Str<'a>>,
    /// Call id of the item.
    pub call_id: Option<Str<'a>>,
    /// Position of the part in `list`: `content_index` or `summary_index`.
    pub part_index: Option<u64>,
    /// The list that the part belongs to.
    pub list: PartList,
}

/// The lists of parts in an item. Each has its own indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartList {
    /// `content`.
    #[default]
    Content,
    /// `summary` of reasoning.
    Summary,
}

/// The response object of `response.created` and of the terminal events.
#[derive(Clone, Debug, Default)]
pub struct ResponseObject<'a> {
    /// `resp_…`
    pub id: Option<Str<'a>>,
    /// Unix seconds.
    pub created_at: Option<u64>,
    /// Unix seconds; in terminal events only.
    pub completed_at: Option<u64>,
    /// The backend's name of the model.
    pub model: Option<Str<'a>>,
    /// The service tier that was used.
    pub service_tier: Option<Str<'a>>,
    /// Token usage; in terminal events only, and not in all of them.
    pub usage: Option<Usage>,
    /// Why the response ended early: `max_output_tokens`, `content_filter`, …
    pub incomplete_reason: Option<Str<'a>>,
    /// The JSON array of output items; in terminal events only, and often empty there.
    pub output: Option<&'a RawValue>,
}

impl ResponseObject<'_> {
    /// Whether the content filter ended the response.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        self.incomplete_reason.as_ref().is_some_and(|reason| reason.as_str() == "content_filter")
    }

    /// Whether the client has interrupted or steered the response.
    #[must_use]
    pub fn is_stopped_by_client(&self) -> bool {
        self.incomplete_reason.as_ref().is_some_and(|reason| matches!(reason.as_str(), "interrupted" | "steered"))
    }

    /// The items in `output`, without unreadable ones.
    #[must_use]
    pub fn output_items(&self) -> Vec<OutputItem<'_>> {
        let listed: Vec<&RawValue> =
            self.output.and_then(|output| serde_json::from_str(output.get()).ok()).unwrap_or_default();
        listed.into_iter().filter_map(OutputItem::read).collect()
    }
}

/// The members that events of any type may have.
#[derive(Default, Deserialize)]
struct EventWire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Str<'a>,
    #[serde(default)]
    output_index: Option<u64>,
    #[serde(borrow, default)]
    item_id: Option<Str<'a>>,
    #[serde(borrow, default)]
    call_id: Option<Str<'a>>,
    #[serde(default)]
    content_index: Option<u64>,
    #[serde(default)]
    summary_index: Option<u64>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    annotation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    item: Option<&'a RawValue>,
    #[serde(borrow, default)]
    part: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct ResponseWire<'a> {
    #[serde(borrow, default)]
    id: Option<Str<'a>>,
    #[serde(default)]
    created_at: Option<serde_json::Number>,
    #[serde(default)]
    completed_at: Option<serde_json::Number>,
    #[serde(borrow, default)]
    model: Option<Str<'a>>,
    #[serde(borrow, default)]
    service_tier: Option<Str<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    incomplete_details: Option<IncompleteWire<'a>>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct IncompleteWire<'a> {
    #[serde(borrow, default)]
    reason: Option<Str<'a>>,
}

impl<'a> From<&'a str> for UpstreamEvent<'a> {
    fn from(data: &'a str) -> Self {
        Self::decode(data)
    }
}

impl<'a> UpstreamEvent<'a> {
    /// Decodes the `data` of one event. Never fails.
    #[must_use]
    pub fn decode(data: &'a str) -> Self {
        if matches!(data, "" | "[DONE]") {
            return Self::Other { kind: Str::from(data), data };
        }
        let wire = object::<EventWire<'a>>(data.trim_start());
        wire.and_then(|wire| wire.event(data)).unwrap_or(Self::Malformed { data })
    }

    /// Decodes an event whose members have been read already. Never fails.
    #[must_use]
    pub fn of_members(members: &RawObject<'a>, data: &'a str) -> Self {
        EventWire::of_members(members).and_then(|wire| wire.event(data)).unwrap_or(Self::Malformed { data })
    }

    /// Whether the response ends with this event.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed(_) | Self::Incomplete(_) | Self::Failed(_))
    }
}

impl<'a> EventWire<'a> {
    fn of_members(members: &RawObject<'a>) -> Option<Self> {
        let mut wire = Self::default();
        for (name, value) in members.members().iter().filter(|(_, value)| !value.is_null()) {
            let raw = value.raw();
            match &**name {
                "type" => wire.kind = serde_json::from_str(raw.get()).ok()?,
                "output_index" => wire.output_index = Some(raw.get().parse().ok()?),
                "item_id" => wire.item_id = Some(serde_json::from_str(raw.get()).ok()?),
                "call_id" => wire.call_id = Some(serde_json::from_str(raw.get()).ok()?),
                "content_index" => wire.content_index = Some(raw.get().parse().ok()?),
                "summary_index" => wire.summary_index = Some(raw.get().parse().ok()?),
                "delta" => wire.delta = Some(raw),
                "text" => wire.text = Some(raw),
                "refusal" => wire.refusal = Some(raw),
                "arguments" => wire.arguments = Some(raw),
                "input" => wire.input = Some(raw),
                "annotation" => wire.annotation = Some(raw),
                "item" => wire.item = Some(raw),
                "part" => wire.part = Some(raw),
                "response" => wire.response = Some(raw),
                _ => {}
            }
        }
        Some(wire)
    }

    /// `None` if a required member is missing or has the wrong type. `data` is the whole event.
    fn event(self, data: &'a str) -> Option<UpstreamEvent<'a>> {
        type E<'e> = UpstreamEvent<'e>;
        let text = |raw: Option<&'a RawValue>| raw.and_then(RawText::from_raw);
        Some(match self.kind.as_str() {
            "response.output_text.delta" => E::Text(self.position(), text(self.delta)?),
            "response.function_call_arguments.delta" => E::Arguments(self.position(), text(self.delta)?),
            "response.custom_tool_call_input.delta" => E::Input(self.position(), text(self.delta)?),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                E::Reasoning(self.position(), text(self.delta)?)
            }
            "response.refusal.delta" => E::Refusal(self.position(), text(self.delta)?),
            "response.output_text.done" => E::TextDone(self.position(), text(self.text)?),
            "response.function_call_arguments.done" => E::ArgumentsDone(self.position(), text(self.arguments)?),
            "response.custom_tool_call_input.done" => E::InputDone(self.position(), text(self.input)?),
            "response.reasoning_summary_text.done" | "response.reasoning_text.done" => {
                E::ReasoningDone(self.position(), text(self.text)?)
            }
            "response.refusal.done" => E::RefusalDone(self.position(), text(self.refusal)?),
            "response.output_text.annotation.added" => E::Annotation(self.position(), self.annotation?),
            "response.output_item.added" => E::ItemAdded(self.position(), read(self.item)?),
            "response.output_item.done" => E::ItemDone(self.position(), read(self.item)?),
            "response.content_part.added" => E::PartAdded(self.position(), read(self.part)?),
            "response.content_part.done" => E::PartDone(self.position(), read(self.part)?),
            "response.created" => E::Created(ResponseObject::read(self.response)),
            "response.completed" | "response.done" => E::Completed(ResponseObject::read(self.response)),
            "response.incomplete" => E::Incomplete(ResponseObject::read(self.response)),
            "response.failed" | "error" => E::Failed(Box::new(failure::from_event(data))),
            _ => E::Other { kind: self.kind, data },
        })
    }

    fn position(&self) -> ItemPosition<'a> {
        let is_summary = self.content_index.is_none() && self.summary_index.is_some();
        ItemPosition {
            output_index: self.output_index,
            item_id: self.item_id.clone(),
            call_id: self.call_id.clone(),
            part_index: self.content_index.or(self.summary_index),
            list: if is_summary { PartList::Summary } else { PartList::Content },
        }
    }
}

impl<'a> ResponseObject<'a> {
    /// Reads a response object. Unreadable members are absent: the event's type alone starts or ends a response.
    fn read(raw: Option<&'a RawValue>) -> Self {
        let wire: ResponseWire<'a> = raw.and_then(|raw| object(raw.get())).unwrap_or_default();
        Self {
            id: wire.id,
            created_at: wire.created_at.and_then(|number| whole_seconds(&number)),
            completed_at: wire.completed_at.and_then(|number| whole_seconds(&number)),
            model: wire.model,
            service_tier: wire.service_tier,
            usage: wire.usage.and_then(|usage| serde_json::from_str(usage.get()).ok()),
            incomplete_reason: wire.incomplete_details.and_then(|details| details.reason),
            output: wire.output,
        }
    }
}

/// Truncates a time to seconds. The backend sometimes sends a fraction.
fn whole_seconds(number: &serde_json::Number) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time in seconds; `as` saturates")]
    number.as_u64().or_else(|| number.as_f64().map(|seconds| seconds as u64))
}

fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    object(raw?.get())
}

/// Parses a JSON object. (A derived struct would also accept an array.)
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    if json.starts_with('{') { serde_json::from_str(json).ok() } else { None }
}

/// The member of an event that is read.
#[derive(Deserialize)]
struct KindOnly<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

/// Returns the type of an event, reading nothing else if possible. `None` if it can't be parsed.
#[must_use]
pub fn kind(data: &[u8]) -> Option<Cow<'_, str>> {
    let leading = leading_kind(data).map(Cow::Borrowed);
    leading.or_else(|| serde_json::from_slice::<KindOnly<'_>>(data).ok().map(|head| head.kind))
}

/// Returns the type if it is the first member, which saves parsing the rest of a long event.
fn leading_kind(data: &[u8]) -> Option<&str> {
    let rest = data.strip_prefix(br#"{"type":""#)?;
    let end = memchr::memchr2(b'"', b'\\', rest)?;
    let (kind, rest) = rest.split_at_checked(end)?;
    rest.starts_with(b"\"").then(|| std::str::from_utf8(kind).ok())?
}

#[cfg(test)]
mod tests;
