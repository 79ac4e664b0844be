//! Control frames: a client's frames for the response that is running on its connection.
//!
//! `response.steer` adds user input to the running response; `response.interrupt` ends it early, which the Codex CLI
//! does when the user types during a turn. They are forwarded to the backend, unchanged except for `stream_id`. A frame
//! that can't be forwarded is refused with the API's `….failed` event. An `error` event would make the client end the
//! running response, or fail the next one if none is running.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::protocol::codex::control::ControlKind;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;
use crate::protocol::responses::error::to_json;

/// A client's frame for the running response.
#[derive(Debug)]
pub struct ControlFrame {
    /// The kind of the frame.
    pub kind: ControlKind,
    /// The frame for the backend: the client's without its `stream_id`.
    pub text: String,
    /// The `stream_id` of the response that the frame applies to; `None` means any response.
    pub stream_id: Option<String>,
}

/// The reason for refusing a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRefusal {
    /// No response is running, or none with its `stream_id`.
    NotRunning,
    /// The response ended before the frame was sent.
    Ended,
    /// Too many frames wait to be sent.
    TooMany,
    /// The backend's connection of the response is not a WebSocket.
    NoWebSocket,
    /// The proxy runs tools for the model, so the response may consist of several backend responses.
    ProxyTools,
}

/// The event for a refused frame.
#[derive(Serialize)]
struct FailedEvent<'f> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_id: Option<&'f RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steer: Option<RefusedSteer<'f>>,
    error: FailedError<'f>,
}

/// The refused input, which the client can send again.
#[derive(Serialize)]
struct RefusedSteer<'f> {
    previous_response_id: &'f RawValue,
    input: &'f RawValue,
}

#[derive(Serialize)]
struct FailedError<'f> {
    r#type: &'static str,
    code: &'static str,
    message: &'f str,
    param: Option<&'static str>,
}

impl ControlFrame {
    /// Creates the frame for the backend. `json` is the JSON of `members`, `original` the client's text.
    pub(super) fn read(
        kind: ControlKind,
        original: &str,
        json: &str,
        members: &RawObject<'_>,
        stream_id: Option<String>,
    ) -> Self {
        let text = if members.get("stream_id").is_none() {
            original.to_owned()
        } else {
            let mut splice = Splice::new(json);
            splice.remove(json, members, "stream_id");
            splice.text().into_owned()
        };
        Self { kind, text, stream_id }
    }

    /// Returns the event for the client, with the reason for the refusal.
    #[must_use]
    pub fn refused(&self, refusal: ControlRefusal) -> String {
        let members = RawObject::parse(&self.text).unwrap_or_default();
        let member = |name: &str| members.get(name).unwrap_or(RawValue::NULL);
        let steer = || RefusedSteer { previous_response_id: member("previous_response_id"), input: member("input") };
        let message = refusal.message(self.kind);
        to_json(&FailedEvent {
            r#type: self.kind.failed_event(),
            response_id: (self.kind == ControlKind::Interrupt).then(|| member("response_id")),
            steer: (self.kind == ControlKind::Steer).then(steer),
            error: FailedError {
                r#type: "invalid_request_error",
                code: refusal.code(self.kind),
                message: &message,
                param: (refusal == ControlRefusal::NoWebSocket).then_some("type"),
            },
        })
    }
}

impl ControlRefusal {
    /// The error code; for `response.steer`, one of the public API.
    #[must_use]
    pub fn code(self, kind: ControlKind) -> &'static str {
        match (self, kind) {
            (Self::NotRunning | Self::Ended, _) => "response_not_active",
            (Self::TooMany, ControlKind::Steer) => "too_many_pending_steers",
            (Self::TooMany, ControlKind::Interrupt) => "too_many_pending_interrupts",
            (Self::NoWebSocket | Self::ProxyTools, ControlKind::Steer) => "steering_not_supported",
            (Self::NoWebSocket | Self::ProxyTools, ControlKind::Interrupt) => "interrupting_not_supported",
        }
    }

    fn message(self, kind: ControlKind) -> String {
        let name = kind.type_name();
        match self {
            Self::NotRunning => {
                format!("'{name}' applies to a running response, and none is running on this WebSocket")
            }
            Self::Ended => format!("the response ended before '{name}' was sent to the backend"),
            Self::TooMany => format!("too many '{name}' frames wait to be sent to the backend"),
            Self::NoWebSocket => format!(
                "'{name}' needs a WebSocket to the backend, and this response arrives as server-sent events; set \
                 upstream.transport = \"websocket\""
            ),
            Self::ProxyTools => format!(
                "'{name}' is not supported for a response with tools that the proxy runs (web_search or \
                 image_generation in the lite form)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::ControlRefusal;
    use crate::protocol::codex::control::ControlKind;
    use crate::protocol::responses::socket::{ClientFrame, ControlFrame};

    fn read(text: &str) -> ControlFrame {
        match ClientFrame::read(text) {
            Ok(ClientFrame::Control(control)) => control,
            other => panic!("not a control frame: {other:?}"),
        }
    }

    #[test]
    fn the_backend_gets_the_bytes_of_the_client() {
        let text =
            r#"{ "type": "response.steer", "previous_response_id": "resp_1","input" : "\ud83d 1.0e2", "x":[1] }"#;
        let control = read(text);
        assert_eq!((control.kind, control.text.as_str(), control.stream_id), (ControlKind::Steer, text, None));
    }

    #[test]
    fn only_the_stream_id_is_removed() {
        let control = read(r#"{"type":"response.interrupt","stream_id":"main", "response_id": "resp_1"}"#);
        assert_eq!(control.text, r#"{"type":"response.interrupt", "response_id": "resp_1"}"#);
        assert_eq!(control.stream_id.as_deref(), Some("main"));
    }

    #[test]
    fn a_refused_steer_returns_its_input() {
        let control = read(r#"{"type":"response.steer","previous_response_id":"resp_1","input":"shorter"}"#);
        let event: Value = serde_json::from_str(&control.refused(ControlRefusal::NoWebSocket)).unwrap();
        assert_eq!(event["type"], "response.steer.failed");
        assert_eq!(event["steer"], json!({"previous_response_id": "resp_1", "input": "shorter"}));
        let error = &event["error"];
        assert_eq!((&error["code"], &error["param"]), (&json!("steering_not_supported"), &json!("type")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("'response.steer'") && message.contains("upstream.transport = \"websocket\""));
    }

    #[test]
    fn a_refused_interrupt_names_its_response() {
        let control = read(r#"{"type":"response.interrupt","response_id":"resp_1","mode":"discard_partial_items"}"#);
        let event: Value = serde_json::from_str(&control.refused(ControlRefusal::NotRunning)).unwrap();
        let got = (&event["type"], &event["response_id"], &event["error"]["code"]);
        assert_eq!(got, (&json!("response.interrupt.failed"), &json!("resp_1"), &json!("response_not_active")));
        assert_eq!(event.get("steer"), None);
    }
}
