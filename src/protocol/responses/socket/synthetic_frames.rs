//! Frames that the proxy creates: errors, response headers, and the response to a warmup request.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::value::RawValue;

use super::frames::HeaderEvent;
use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::codex::rate_limits::{self, RateLimits};
use crate::protocol::json::quoted;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::responses::error::{to_error_response, to_json};

type Headers<'h> = BTreeMap<&'h str, &'h str>;

#[derive(Serialize)]
struct ErrorFrame<'e> {
    r#type: &'static str,
    status: u16,
    error: &'e RawValue,
    headers: Headers<'e>,
}

/// The frame for an error: the status, headers and body of the HTTP error response.
#[must_use]
pub fn error_frame(error: &ProxyError, request_id: &str, commands: CommandHint) -> String {
    let (status, mut headers, body) = to_error_response(error, request_id, commands);
    if let ProxyError::Upstream(failure) = error {
        headers.extend(failure.headers.clone());
    }
    headers.remove(CONTENT_TYPE);
    let mut headers = texts(&headers, |_| true);
    if !request_id.is_empty() {
        headers.insert("x-request-id", request_id);
    }
    let members = RawObject::from_body(&body).unwrap_or_default();
    let error = members.get("error").unwrap_or(RawValue::NULL);
    to_json(&ErrorFrame { r#type: "error", status: status.as_u16(), error, headers })
}

#[derive(Serialize)]
struct Metadata<'h> {
    r#type: &'static str,
    headers: Headers<'h>,
}

/// The backend's response headers as events. Codex clients on a WebSocket read quota and turn state only from these.
#[must_use]
pub fn header_events(headers: &HeaderMap) -> Vec<HeaderEvent> {
    const METADATA: &str = "response.metadata";
    const TURN: [&str; 4] = ["openai-model", "x-codex-turn-state", "x-models-etag", "x-reasoning-included"];
    let event = RateLimits::from_headers(headers).to_event();
    let limits = event.map(|json| HeaderEvent { kind: rate_limits::EVENT, json });
    let turn = texts(headers, |name| TURN.contains(&name));
    let metadata = (!turn.is_empty())
        .then(|| HeaderEvent { kind: METADATA, json: to_json(&Metadata { r#type: METADATA, headers: turn }) });
    limits.into_iter().chain(metadata).collect()
}

fn texts(headers: &HeaderMap, is_included: impl Fn(&str) -> bool) -> Headers<'_> {
    let included = headers.iter().filter(|(name, _)| is_included(name.as_str()));
    included.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect()
}

/// The events of the response to a request that only starts a conversation
/// ([`Purpose::Warmup`](crate::protocol::responses::Purpose::Warmup)). `created_at` is in Unix seconds.
#[must_use]
pub fn warmup_events(id: &str, created_at: u64, model: &str) -> [String; 2] {
    const USAGE: &str = r#"{"input_tokens":0,"input_tokens_details":{"cached_tokens":0},"output_tokens":0,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":0}"#;
    let (id, model) = (quoted(id), quoted(model));
    [("created", "in_progress", "null", 0), ("completed", "completed", USAGE, 1)].map(|(event, status, usage, number)| {
        format!(
            r#"{{"type":"response.{event}","response":{{"id":{id},"object":"response","created_at":{created_at},"status":"{status}","model":{model},"output":[],"store":false,"usage":{usage}}},"sequence_number":{number}}}"#
        )
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use serde_json::{Value, json};

    use super::{error_frame, header_events, warmup_events};
    use crate::command_hint::CommandHint;
    use crate::error::Refusal;

    fn events(pairs: &[(&'static str, &'static str)]) -> Vec<Value> {
        let headers: HeaderMap =
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
        header_events(&headers).iter().map(|event| serde_json::from_str(&event.json).unwrap()).collect()
    }

    #[test]
    fn headers_with_quota_and_turn_state_become_events() {
        let events = events(&[
            ("x-codex-plan-type", "pro"),
            ("x-codex-primary-used-percent", "42.5"),
            ("x-codex-primary-window-minutes", "300"),
            ("x-codex-primary-reset-at", "1795300000"),
            ("x-codex-secondary-used-percent", "0"),
            ("x-codex-secondary-window-minutes", "0"),
            ("x-codex-credits-has-credits", "False"),
            ("x-codex-turn-state", "ts-1"),
            ("openai-model", "gpt-5.5"),
        ]);
        let primary = json!({"used_percent": 42.5, "window_minutes": 300, "reset_after_seconds": null, "reset_at": 1_795_300_000});
        let credits = json!({"has_credits": false, "unlimited": false, "balance": null});
        let limits = json!({"type": "codex.rate_limits", "plan_type": "pro", "rate_limits": {"primary": primary, "secondary": null}, "credits": credits});
        let headers = json!({"openai-model": "gpt-5.5", "x-codex-turn-state": "ts-1"});
        assert_eq!(events, [limits, json!({"type": "response.metadata", "headers": headers})]);
    }

    #[test]
    fn no_events_without_values() {
        assert!(events(&[("x-codex-primary-used-percent", ""), ("x-codex-active-limit", "premium")]).is_empty());
    }

    #[test]
    fn an_error_frame_has_status_error_and_headers() {
        let error = Refusal::coded("previous_response_not_found", "previous_response_id", "gone");
        let frame: Value = serde_json::from_str(&error_frame(&error, "req_1", CommandHint::default())).unwrap();
        let inner = json!({"message": "gone", "type": "invalid_request_error", "param": "previous_response_id", "code": "previous_response_not_found"});
        assert_eq!(
            frame,
            json!({"type": "error", "status": 400, "error": inner, "headers": {"x-request-id": "req_1"}})
        );
    }

    #[test]
    fn a_warmup_is_a_response_without_items() {
        let [created, completed] =
            warmup_events("resp_1", 7, "m\"x").map(|event| serde_json::from_str::<Value>(&event).unwrap());
        assert_eq!((&created["type"], &created["response"]["id"]), (&json!("response.created"), &json!("resp_1")));
        assert_eq!(completed["response"]["status"], "completed");
        assert_eq!((&completed["response"]["output"], &completed["response"]["model"]), (&json!([]), &json!("m\"x")));
    }
}
