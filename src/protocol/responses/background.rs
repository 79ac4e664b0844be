//! Response objects and events of a response that runs in the background.
//!
//! The proxy creates the response before the backend responds: with `response.created` and `response.queued`. The
//! backend's events follow, numbered after these. A response that ends without a terminal event of the backend gets one
//! here.

use std::borrow::Cow;

use bytes::Bytes;

use super::RawEvent;
use super::error;
use super::raw_event::EventMembers;
use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::with_members;
use crate::protocol::{error_response, openai};

/// How a response ends without a terminal event of the backend.
#[derive(Clone, Debug)]
pub enum ForcedEnd<'e> {
    /// The client has cancelled it.
    Cancelled,
    /// It failed with this error.
    Failed(&'e ProxyError),
    /// The proxy was stopped while it ran, or before it could run.
    Interrupted,
}

/// The first events of a response with this object, which has the status `queued`.
#[must_use]
pub fn queued_events(object: &str) -> [Bytes; 2] {
    [event("response.created", object, 0), event("response.queued", object, 1)]
}

/// The response object with another status.
#[must_use]
pub fn with_status(object: &str, status: &str) -> String {
    with_members(object, &[("status", format!("\"{status}\""))])
}

/// The response object and the terminal event of a response that ends without one of the backend. A stream of a
/// cancelled response ends with `response.failed` too: the API has no event for it.
#[must_use]
pub fn forced_end(object: &str, end: &ForcedEnd<'_>, sequence_number: u64, commands: CommandHint) -> (String, Bytes) {
    let error = |code: &str, message: &str| error::to_json(&error::InResponse { code, message });
    let (status, error) = match end {
        ForcedEnd::Cancelled => ("cancelled", "null".to_owned()),
        ForcedEnd::Failed(cause) => {
            ("failed", error(&openai::error::code(cause), &error_response::message(cause, commands)))
        }
        ForcedEnd::Interrupted => {
            ("failed", error("interrupted", "The proxy was stopped before the response was complete."))
        }
    };
    let object = with_members(object, &[("status", format!("\"{status}\"")), ("error", error)]);
    let event = event("response.failed", &object, sequence_number);
    (object, event)
}

/// Whether an event of this type ends a response.
#[must_use]
pub fn is_terminal(kind: &str) -> bool {
    matches!(kind, "response.completed" | "response.incomplete" | "response.failed" | "error")
}

/// The final response object, from the data of a terminal event. `object` is the object so far, which the `error` event
/// of the backend lacks.
#[must_use]
pub fn final_object(data: &str, object: &str) -> Option<String> {
    let RawEvent::Event(event) = RawEvent::from(data) else { return None };
    match &*event.kind {
        "error" => Some(failed_object(&event, object)),
        kind if is_terminal(kind) => Some(event.get("response")?.get().to_owned()),
        _ => None,
    }
}

/// Whether the response object has this status.
#[must_use]
pub fn has_status(object: &str, status: &str) -> bool {
    RawObject::parse(object).is_ok_and(|members| members.text("status").is_some_and(|own| own == status))
}

/// Whether the response object is one of a response in the background.
#[must_use]
pub fn is_background(object: &str) -> bool {
    RawObject::parse(object).is_ok_and(|members| members.get("background").is_some_and(|own| own.get() == "true"))
}

fn failed_object(event: &EventMembers<'_>, object: &str) -> String {
    let text = |name: &str| event.all().text(name);
    let code = text("code").unwrap_or(Cow::Borrowed("server_error"));
    let message = text("message").unwrap_or_default();
    let error = error::to_json(&error::InResponse { code: &code, message: &message });
    with_members(object, &[("status", r#""failed""#.to_owned()), ("error", error)])
}

fn event(kind: &str, object: &str, sequence_number: u64) -> Bytes {
    Bytes::from(format!(
        "event: {kind}\ndata: {{\"type\":\"{kind}\",\"response\":{object},\"sequence_number\":{sequence_number}}}\n\n"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        ForcedEnd, final_object, forced_end, has_status, is_background, is_terminal, queued_events, with_status,
    };
    use crate::command_hint::CommandHint;
    use crate::error::Refusal;

    const QUEUED: &str = r#"{"id":"resp_1","status":"queued","background":true,"error":null,"output":[]}"#;

    fn data(event: &[u8]) -> Value {
        let text = std::str::from_utf8(event).unwrap();
        serde_json::from_str(text.split_once("data: ").unwrap().1.trim_end()).unwrap()
    }

    #[test]
    fn a_queued_response_begins_with_two_numbered_events() {
        let events = queued_events(QUEUED).map(|event| data(&event));
        assert_eq!(events[0]["type"], "response.created");
        assert_eq!((&events[1]["type"], &events[1]["sequence_number"]), (&json!("response.queued"), &json!(1)));
        assert_eq!(events[0]["response"]["status"], "queued");
        assert!(is_background(QUEUED) && has_status(&with_status(QUEUED, "in_progress"), "in_progress"));
    }

    #[test]
    fn a_response_that_is_ended_early_has_a_final_event_with_the_reason() {
        let refused = Refusal::coded("unknown_account", "x", "no such account");
        for (end, status, code) in [
            (ForcedEnd::Cancelled, "cancelled", Value::Null),
            (ForcedEnd::Interrupted, "failed", json!("interrupted")),
            (ForcedEnd::Failed(&refused), "failed", json!("unknown_account")),
        ] {
            let (object, event) = forced_end(QUEUED, &end, 7, CommandHint::default());
            let event = data(&event);
            assert_eq!((&event["type"], &event["sequence_number"]), (&json!("response.failed"), &json!(7)));
            assert_eq!((&event["response"]["status"], &event["response"]["error"]["code"]), (&json!(status), &code));
            assert_eq!(serde_json::from_str::<Value>(&object).unwrap(), event["response"]);
        }
    }

    #[test]
    fn only_terminal_events_have_a_final_object() {
        assert_eq!(final_object(r#"{"type":"response.in_progress","response":{}}"#, QUEUED), None);
        assert!(is_terminal("response.incomplete") && !is_terminal("response.in_progress"));
        let done = final_object(r#"{"type":"response.completed","response":{"status":"completed"}}"#, QUEUED);
        assert_eq!(done.as_deref(), Some(r#"{"status":"completed"}"#));
        let failed = final_object(r#"{"type":"error","code":"rate_limit_exceeded","message":"slow down"}"#, QUEUED);
        let failed: Value = serde_json::from_str(&failed.unwrap()).unwrap();
        assert_eq!((&failed["status"], &failed["id"]), (&json!("failed"), &json!("resp_1")));
        assert_eq!(failed["error"], json!({"code": "rate_limit_exceeded", "message": "slow down"}));
    }
}
