//! Classifies events by their type, for the commit point and the end of a response.
//!
//! Reads only the type: the server decodes the events. Events whose type can't be parsed are [`EventClass::Other`].

use crate::protocol::codex::event::kind;

/// Class of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventClass {
    /// `response.created`
    Created,
    /// An event about an output item or a part of one, or of an unknown `response.` type.
    Item,
    /// A content delta of a known type.
    Delta,
    /// The terminal event of a response that didn't fail: complete or incomplete.
    Completed,
    /// The terminal event of a response that failed.
    Failed,
    /// Rate limits, metadata, progress, keepalive.
    Other,
}

impl EventClass {
    /// Classifies the `data` of an event.
    pub(super) fn of(data: &[u8]) -> Self {
        kind(data).map_or(Self::Other, |kind| Self::of_kind(&kind))
    }

    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }

    fn of_kind(kind: &str) -> Self {
        match kind {
            "response.created" => Self::Created,
            "response.completed" | "response.done" | "response.incomplete" => Self::Completed,
            "response.failed" | "error" => Self::Failed,
            "response.queued" | "response.in_progress" | "response.metadata" | "response.safety_buffering" => {
                Self::Other
            }
            _ if is_known_delta(kind) => Self::Delta,
            _ if kind.starts_with("response.") => Self::Item,
            _ => Self::Other,
        }
    }
}

/// Whether events of this type are content deltas that some client API needs.
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

#[cfg(test)]
mod tests {
    use super::EventClass;

    #[test]
    fn the_type_decides_at_any_position() {
        let table = [
            (r#"{"type":"response.created","response":{}}"#, EventClass::Created),
            (r#"{"sequence_number":1,"type":"response.created"}"#, EventClass::Created),
            (r#"{ "type" : "response.completed" }"#, EventClass::Completed),
            (r#"{"type":"response.done"}"#, EventClass::Completed),
            (r#"{"type":"response.incomplete"}"#, EventClass::Completed),
            (r#"{"type":"response.failed"}"#, EventClass::Failed),
            (r#"{"type":"error","code":"x"}"#, EventClass::Failed),
            (r#"{"type":"response.output_item.added"}"#, EventClass::Item),
            (r#"{"type":"response.web_search_call.searching"}"#, EventClass::Item),
            (r#"{"type":"response.output_text.delta","delta":"a"}"#, EventClass::Delta),
            (r#"{"type":"response.in_progress"}"#, EventClass::Other),
            (r#"{"type":"codex.rate_limits"}"#, EventClass::Other),
            (r#"{"type":"codex.response.metadata"}"#, EventClass::Other),
            (r#"{"type":"keepalive"}"#, EventClass::Other),
            (r#"{"kind":"response.completed"}"#, EventClass::Other),
            ("not json", EventClass::Other),
        ];
        for (data, class) in table {
            assert_eq!(EventClass::of(data.as_bytes()), class, "{data}");
        }
    }
}
