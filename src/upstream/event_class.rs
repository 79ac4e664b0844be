//! What an event means for the attempt loop, told from its type alone.
//!
//! A stream is not decoded here: the server does that once, for its dialect. All that counts is
//! whether the response has begun, whether something of the answer is there, and whether it is
//! over. An event that can't be read says nothing.

use std::borrow::Cow;

use serde::Deserialize;

/// What an event means for the attempt loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// `response.created`.
    Begun,
    /// Something about an item, without content of its own.
    Item,
    /// A piece of content of a kind that is known.
    Delta,
    /// The end of an answer, whole or cut short by the backend's word.
    Done,
    /// The end by a failure.
    Failed,
    /// Anything else: quota, metadata, progress, keepalive.
    Nothing,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

impl Sign {
    /// Reads the `data` of an event.
    pub(super) fn of(data: &[u8]) -> Self {
        kind(data).map_or(Self::Nothing, |kind| Self::of_kind(&kind))
    }

    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }

    fn of_kind(kind: &str) -> Self {
        match kind {
            "response.created" => Self::Begun,
            "response.completed" | "response.done" | "response.incomplete" => Self::Done,
            "response.failed" | "error" => Self::Failed,
            "response.queued" | "response.in_progress" | "response.metadata" | "response.safety_buffering" => {
                Self::Nothing
            }
            _ if is_known_delta(kind) => Self::Delta,
            _ if kind.starts_with("response.") => Self::Item,
            _ => Self::Nothing,
        }
    }
}

/// Whether an event of this type is a piece of content that some dialect reads.
pub(super) fn is_known_delta(kind: &str) -> bool {
    matches!(
        kind,
        "response.output_text.delta"
            | "response.reasoning_summary_text.delta"
            | "response.function_call_arguments.delta"
            | "response.custom_tool_call_input.delta"
            | "response.reasoning_text.delta"
            | "response.refusal.delta"
    )
}

/// The type of an event; `None` when it can't be read.
pub(super) fn kind(data: &[u8]) -> Option<Cow<'_, str>> {
    let leading = leading_kind(data).map(Cow::Borrowed);
    leading.or_else(|| serde_json::from_slice::<Head<'_>>(data).ok().map(|head| head.kind))
}

/// The type where it is the first member, as the backend writes it: then the rest of a long event
/// need not be read.
fn leading_kind(data: &[u8]) -> Option<&str> {
    let rest = data.strip_prefix(br#"{"type":""#)?;
    let end = memchr::memchr2(b'"', b'\\', rest)?;
    let (kind, rest) = rest.split_at_checked(end)?;
    rest.starts_with(b"\"").then(|| std::str::from_utf8(kind).ok())?
}

#[cfg(test)]
mod tests {
    use super::Sign;

    #[test]
    fn the_type_decides_wherever_it_stands() {
        let table = [
            (r#"{"type":"response.created","response":{}}"#, Sign::Begun),
            (r#"{"sequence_number":1,"type":"response.created"}"#, Sign::Begun),
            (r#"{ "type" : "response.completed" }"#, Sign::Done),
            (r#"{"type":"response.done"}"#, Sign::Done),
            (r#"{"type":"response.incomplete"}"#, Sign::Done),
            (r#"{"type":"response.failed"}"#, Sign::Failed),
            (r#"{"type":"error","code":"x"}"#, Sign::Failed),
            (r#"{"type":"response.output_item.added"}"#, Sign::Item),
            (r#"{"type":"response.web_search_call.searching"}"#, Sign::Item),
            (r#"{"type":"response.output_text.delta","delta":"a"}"#, Sign::Delta),
            (r#"{"type":"response.in_progress"}"#, Sign::Nothing),
            (r#"{"type":"codex.rate_limits"}"#, Sign::Nothing),
            (r#"{"type":"codex.response.metadata"}"#, Sign::Nothing),
            (r#"{"type":"keepalive"}"#, Sign::Nothing),
            (r#"{"kind":"response.completed"}"#, Sign::Nothing),
            ("not json", Sign::Nothing),
        ];
        for (data, sign) in table {
            assert_eq!(Sign::of(data.as_bytes()), sign, "{data}");
        }
    }
}
