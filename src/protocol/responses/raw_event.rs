//! A backend event whose top-level members are raw JSON: all that is needed to forward it.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::protocol::codex::Usage;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::Str;

/// The data of a server-sent event or WebSocket frame.
#[derive(Clone, Debug)]
pub enum RawEvent<'a> {
    /// An object with a `type`.
    Event(EventMembers<'a>),
    /// Empty, or `[DONE]`.
    Ignored,
    /// Anything else.
    Malformed(&'a str),
}

/// The JSON of an event and its members.
#[derive(Clone, Debug)]
pub struct EventMembers<'a> {
    /// The JSON.
    pub(super) text: &'a str,
    /// The `type`; `response.completed` for its older name `response.done`.
    pub(super) kind: Cow<'a, str>,
    all: RawObject<'a>,
}

impl<'a> From<&'a str> for RawEvent<'a> {
    fn from(data: &'a str) -> Self {
        let text = data.trim();
        if matches!(text, "" | "[DONE]") {
            return Self::Ignored;
        }
        let event = RawObject::parse(text).ok().and_then(|members| {
            let kind = serde_json::from_str::<Str<'a>>(members.get("type")?.get()).ok()?;
            let kind = match kind.into_cow() {
                kind if kind == "response.done" => Cow::Borrowed("response.completed"),
                kind => kind,
            };
            // The type is sent in an `event:` line, which a control character could end.
            (!kind.contains(char::is_control)).then_some(EventMembers { text, kind, all: members })
        });
        event.map_or(Self::Malformed(data), Self::Event)
    }
}

impl<'a> EventMembers<'a> {
    /// The JSON of a member; `None` if it is missing.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.all.get(name)
    }

    /// All members.
    pub(super) fn all(&self) -> &RawObject<'a> {
        &self.all
    }

    /// Position in the response of the item that the event belongs to.
    pub(super) fn output_index(&self) -> Option<u64> {
        serde_json::from_str(self.get("output_index")?.get()).ok()
    }

    /// The JSON and the members of an object member.
    pub(super) fn object(&self, name: &str) -> Option<(&'a RawValue, RawObject<'a>)> {
        object(self.get(name)?)
    }
}

/// The JSON and the members of an object.
pub(super) fn object(raw: &RawValue) -> Option<(&RawValue, RawObject<'_>)> {
    Some((raw, RawObject::parse(raw.get()).ok()?))
}

/// The token usage of a response object.
pub(super) fn usage(response: &RawObject<'_>) -> Option<Usage> {
    serde_json::from_str(response.get("usage")?.get()).ok()
}
