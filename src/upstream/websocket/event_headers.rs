//! What the events of a WebSocket say that an HTTP response says in its headers.
//!
//! Quota comes as an event of its own, everything else inside the metadata of a response or of an
//! error. Written as the headers that a client knows. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::protocol::codex::failure;

/// The family of quota that has no name of its own.
const GENERAL: &str = "codex";
const WINDOW: [(&str, &str); 4] = [
    ("used_percent", "used-percent"),
    ("window_minutes", "window-minutes"),
    ("reset_after_seconds", "reset-after-seconds"),
    ("reset_at", "reset-at"),
];
const CREDITS: [(&str, &str); 3] = [("has_credits", "has-credits"), ("unlimited", "unlimited"), ("balance", "balance")];

/// The headers that an event of this type stands for.
pub(super) fn told(kind: &str, data: &str) -> HeaderMap {
    match kind {
        "codex.rate_limits" => quota(data),
        "error" | "response.metadata" | "codex.response.metadata" => failure::headers_of_event(data),
        _ => HeaderMap::new(),
    }
}

fn quota(data: &str) -> HeaderMap {
    let event: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    let mut headers = HeaderMap::new();
    put(&mut headers, "x-codex-plan-type", &event["plan_type"]);
    let family = event["metered_limit_name"].as_str().or(event["limit_name"].as_str()).unwrap_or(GENERAL);
    put(&mut headers, "x-codex-active-limit", &Value::from(family));
    windows(&mut headers, family, &event["rate_limits"]);
    for (name, limits) in event["additional_rate_limits"].as_object().into_iter().flatten() {
        windows(&mut headers, name, limits);
    }
    for (member, header) in CREDITS {
        put(&mut headers, &format!("x-codex-credits-{header}"), &event["credits"][member]);
    }
    headers
}

fn windows(headers: &mut HeaderMap, family: &str, limits: &Value) {
    let family = family.to_ascii_lowercase().replace(['_', ' '], "-");
    for slot in ["primary", "secondary"] {
        for (member, header) in WINDOW {
            put(headers, &format!("x-{family}-{slot}-{header}"), &limits[slot][member]);
        }
    }
}

/// Adds what is there and can be a header.
fn put(headers: &mut HeaderMap, name: &str, value: &Value) {
    let text = match value {
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return,
    };
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&text)) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::told;

    fn lines(kind: &str, data: &str) -> Vec<String> {
        let headers = told(kind, data);
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn quota_comes_as_the_headers_of_a_response() {
        let event = r#"{"type":"codex.rate_limits","plan_type":"pro","rate_limits":{"allowed":true,
            "primary":{"used_percent":42,"window_minutes":300,"reset_after_seconds":1000,"reset_at":1795300000},
            "secondary":null},"additional_rate_limits":{"codex_bengal":{"primary":{"used_percent":7}}},
            "metered_limit_name":null,"credits":{"has_credits":false,"unlimited":false,"balance":"0"}}"#;
        let want = [
            "x-codex-active-limit: codex",
            "x-codex-bengal-primary-used-percent: 7",
            "x-codex-credits-balance: 0",
            "x-codex-credits-has-credits: False",
            "x-codex-credits-unlimited: False",
            "x-codex-plan-type: pro",
            "x-codex-primary-reset-after-seconds: 1000",
            "x-codex-primary-reset-at: 1795300000",
            "x-codex-primary-used-percent: 42",
            "x-codex-primary-window-minutes: 300",
        ];
        assert_eq!(lines("codex.rate_limits", event), want);
    }

    #[test]
    fn metadata_and_errors_carry_headers_as_they_are() {
        let event = r#"{"headers":{"X-Codex-Turn-State":"t","openai-model":["gpt-5.5"],"x-codex-n":3}}"#;
        for kind in ["response.metadata", "codex.response.metadata", "error"] {
            assert_eq!(lines(kind, event), ["openai-model: gpt-5.5", "x-codex-n: 3", "x-codex-turn-state: t"]);
        }
        assert!(lines("response.created", event).is_empty());
        assert!(lines("codex.rate_limits", "junk").len() <= 1);
    }
}
