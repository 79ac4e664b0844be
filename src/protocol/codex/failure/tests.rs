mod delays;
mod quota;

use base64::Engine as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::{BASE64, from_event, from_response, is_html, unsupported_parameter, wants_lite};
use crate::error::{Fault, UpstreamFailure};

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |&(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"))
    };
    pairs.iter().map(pair).collect()
}

fn response(status: u16, body: &str) -> UpstreamFailure {
    from_response(status, &HeaderMap::new(), body.as_bytes())
}

/// Status, body; class, code, message.
type Row = (u16, &'static str, Fault, Option<&'static str>, &'static str);

const ANSWERS: &[Row] = &[
    (
        400,
        r#"{"detail":"Unsupported parameter: seed"}"#,
        Fault::InvalidRequest,
        Some("unsupported_parameter"),
        "Unsupported parameter: seed",
    ),
    (400, r#"{"detail":"Store must be set to false"}"#, Fault::InvalidRequest, None, "Store must be set to false"),
    (
        400,
        r#"{"detail":"The 'gpt-5.4' model is not supported when using Codex with a ChatGPT account."}"#,
        Fault::ModelNotFound,
        None,
        "The 'gpt-5.4' model is not supported when using Codex with a ChatGPT account.",
    ),
    (
        400,
        r#"{"detail":"The 'gpt-9' model requires a newer version of Codex."}"#,
        Fault::ClientVersion,
        None,
        "The 'gpt-9' model requires a newer version of Codex.",
    ),
    (
        400,
        r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
        Fault::ContextLength,
        Some("context_length_exceeded"),
        "too long",
    ),
    (400, r#"{"error":{"code":"cyber_policy","message":"no"}}"#, Fault::Policy, Some("cyber_policy"), "no"),
    (
        400,
        r#"{"error":{"code":"invalid_value","param":"input[0].content[1].image_url","message":"bad"}}"#,
        Fault::InvalidImage,
        Some("invalid_value"),
        "bad",
    ),
    (
        400,
        r#"{"error":{"code":"invalid_encrypted_content","message":"other account"}}"#,
        Fault::EncryptedContent,
        Some("invalid_encrypted_content"),
        "other account",
    ),
    (
        400,
        r#"{"error":{"type":"invalid_request_error","message":"No tool output found for function call call_1."}}"#,
        Fault::InvalidRequest,
        None,
        "No tool output found for function call call_1.",
    ),
    (
        400,
        r#"{"error":{"code":"previous_response_not_found","message":"gone"}}"#,
        Fault::InvalidRequest,
        Some("previous_response_not_found"),
        "gone",
    ),
    (401, r#"{"detail":"Unauthorized"}"#, Fault::Unauthorized, None, "Unauthorized"),
    (
        401,
        r#"{"error":{"message":"expired","type":"invalid_request_error","code":"token_expired"},"status":401}"#,
        Fault::Unauthorized,
        Some("token_expired"),
        "expired",
    ),
    (
        402,
        r#"{"detail":{"code":"deactivated_workspace"}}"#,
        Fault::Permission,
        Some("deactivated_workspace"),
        "the ChatGPT backend refused the request: deactivated_workspace (HTTP 402)",
    ),
    (
        403,
        r#"{"detail":{"code":"something_new","message":"not you"}}"#,
        Fault::Permission,
        Some("something_new"),
        "not you",
    ),
    (404, r#"{"detail":"Model not found gpt-0"}"#, Fault::ModelNotFound, None, "Model not found gpt-0"),
    (404, "", Fault::WrongPlace, None, "the server at upstream.url is not the ChatGPT backend (HTTP 404)"),
    (413, "", Fault::TooLarge, None, "the ChatGPT backend gave no reason for the error (HTTP 413)"),
    (
        422,
        r#"{"detail":[{"loc":["body","input",0,"role"],"msg":"field required"}]}"#,
        Fault::InvalidRequest,
        None,
        "input.0.role: field required",
    ),
    (
        429,
        r#"{"error":{"type":"usage_not_included","message":"not in plan"}}"#,
        Fault::Permission,
        Some("usage_not_included"),
        "not in plan",
    ),
    (
        429,
        r#"{"error":{"code":"credit_balance_exhausted","message":"empty"}}"#,
        Fault::InsufficientQuota,
        Some("credit_balance_exhausted"),
        "empty",
    ),
    (
        429,
        r#"{"error":{"code":"flex_unavailable"}}"#,
        Fault::FlexUnavailable,
        Some("flex_unavailable"),
        "the ChatGPT backend refused the request: flex_unavailable (HTTP 429)",
    ),
    (429, r#"{"detail":"Rate limited"}"#, Fault::RateLimited, None, "Rate limited"),
    (
        503,
        r#"{"error":{"code":"server_is_overloaded","message":"busy"}}"#,
        Fault::Overloaded,
        Some("server_is_overloaded"),
        "busy",
    ),
    (500, r#"{"error":{"message":"oops","type":"server_error","code":null}}"#, Fault::Server, None, "oops"),
    (502, "upstream connect error", Fault::Server, None, "upstream connect error"),
    (520, "<html>520</html>", Fault::Server, None, "the ChatGPT backend answered with a web page (HTTP 520)"),
    (
        302,
        "",
        Fault::WrongPlace,
        None,
        "the ChatGPT backend answered with a redirect (HTTP 302), which is not followed because the request contains a token",
    ),
    (
        200,
        "<!doctype html>",
        Fault::WrongPlace,
        None,
        "the server at upstream.url is not the ChatGPT backend (HTTP 200)",
    ),
];

#[test]
fn only_messages_about_the_lite_format_request_it() {
    let refused = |status, body: &str| wants_lite(&from_response(status, &HeaderMap::new(), body.as_bytes()));
    for body in [
        r#"{"detail":"The 'gpt-9' model requires responses-lite."}"#,
        r#"{"detail":"Responses Lite is required for this model"}"#,
        r#"{"detail":"this model only takes lite requests"}"#,
        r#"{"error":{"code":"responses_lite_required","message":"no"}}"#,
        r#"{"error":{"message":"header x-openai-internal-codex-responses-lite is missing"}}"#,
        r#"{"error":{"param":"tools","message":"tools belong into an additional_tools item"}}"#,
    ] {
        assert!(refused(400, body), "{body}");
        assert!(!refused(422, body) && !refused(500, body), "{body}");
    }
    for body in [
        r#"{"detail":"The 'gpt-9-lite' model is not supported."}"#,
        r#"{"detail":"The 'gpt-9-lite' model requires a newer version of Codex."}"#,
        r#"{"detail":"Unsupported parameter: temperature"}"#,
        r#"{"detail":"an elite request"}"#,
        "",
    ] {
        assert!(!refused(400, body), "{body}");
    }
}

#[test]
fn every_status_and_form_has_its_class() {
    for (status, body, fault, code, message) in ANSWERS {
        let failure = response(*status, body);
        let got = (failure.fault, failure.code.as_deref(), failure.message.as_str());
        assert_eq!(got, (*fault, *code, *message), "{status} {body}");
        assert_eq!(failure.status, Some(*status));
    }
}

#[test]
fn every_code_of_an_event_has_its_class() {
    let table = [
        ("context_length_exceeded", Fault::ContextLength),
        ("insufficient_quota", Fault::InsufficientQuota),
        ("organization_spend_limit_exceeded", Fault::InsufficientQuota),
        ("project_spend_limit_exceeded", Fault::InsufficientQuota),
        ("usage_not_included", Fault::Permission),
        ("usage_limit_reached", Fault::UsageLimit),
        ("bio_policy", Fault::Policy),
        ("misalignment_policy_violation", Fault::Policy),
        ("invalid_prompt", Fault::Policy),
        ("content_policy_violation", Fault::Policy),
        ("access_program_not_enabled", Fault::Permission),
        ("policy_capacity_unavailable", Fault::PolicyCapacity),
        ("server_is_overloaded", Fault::Overloaded),
        ("flex_unavailable", Fault::FlexUnavailable),
        ("model_not_found", Fault::ModelNotFound),
        ("invalid_image_format", Fault::InvalidImage),
        ("invalid_audio_format", Fault::InvalidImage),
        ("rate_limit_exceeded", Fault::RateLimited),
        ("slow_down", Fault::RateLimited),
        ("server_error", Fault::Server),
        ("never_seen_before", Fault::Server),
        ("invalid_encrypted_content", Fault::EncryptedContent),
        ("websocket_connection_limit_reached", Fault::Server),
        ("previous_response_not_found", Fault::Server),
    ];
    for (code, fault) in table {
        let shapes = [
            format!(r#"{{"type":"response.failed","response":{{"error":{{"code":"{code}","message":"m"}}}}}}"#),
            format!(r#"{{"type":"error","error":{{"code":"{code}","message":"m"}}}}"#),
            format!(r#"{{"type":"error","code":"{code}","message":"m","param":null}}"#),
        ];
        for shape in shapes {
            let failure = from_event(&shape);
            assert_eq!((failure.fault, failure.code.as_deref(), failure.status), (fault, Some(code), None), "{shape}");
        }
    }
}

#[test]
fn a_type_without_a_code_decides_the_class() {
    let failure =
        from_event(r#"{"type":"error","error":{"type":"invalid_request_error","message":"bad","param":"input"}}"#);
    assert_eq!((failure.fault, failure.code, failure.param.as_deref()), (Fault::InvalidRequest, None, Some("input")));
}

#[test]
fn cloudflare_pages_are_recognized_and_not_forwarded() {
    let page = b"<!DOCTYPE html><title>Just a moment...</title>";
    let plain = from_response(403, &headers(&[("content-type", "text/html; charset=UTF-8")]), page);
    let marked = from_response(503, &headers(&[("cf-mitigated", "challenge")]), page);
    for failure in [plain, marked] {
        assert_eq!((failure.fault, failure.code.as_deref()), (Fault::Challenge, None));
        assert!(!failure.message.contains('<') && failure.message.contains("upstream.proxy"));
    }
}

#[test]
fn html_is_recognized_by_its_media_type() {
    let is_page = |kind: &str| is_html(&headers(&[("content-type", kind)]));
    for kind in ["text/html", "Text/HTML; charset=utf-8", "text/html ;charset=utf-8", "application/xhtml+xml"] {
        assert!(is_page(kind), "{kind}");
    }
    for kind in ["", "text/event-stream", "application/xml", "text/html5", "multipart/x; of=text/html"] {
        assert!(!is_page(kind), "{kind}");
    }
}

#[test]
fn the_message_says_how_cloudflare_blocks() {
    let parsed = |status: u16, body: &str| {
        let failure = response(status, body);
        (failure.fault, failure.message)
    };
    let (fault, message) = parsed(503, "<html><title>Just a moment...</title></html>");
    assert!(fault == Fault::Challenge && message.contains("classified this program as a bot (HTTP 503)"), "{message}");
    for body in ["<html><h1>Sorry, you have been blocked</h1></html>", "error code: 1020"] {
        let (fault, message) = parsed(403, body);
        assert!(fault == Fault::Challenge && message.contains("blocks this network"), "{message}");
    }
    assert_eq!(parsed(520, "<html>error code: 520</html>").0, Fault::Server);
    // JSON is from the backend, not from Cloudflare.
    assert_eq!(parsed(500, r#"{"detail":"Just a moment, cf-chl"}"#).0, Fault::Server);
}

#[test]
fn messages_contain_no_markup() {
    for body in [
        r#"{"detail":"<!DOCTYPE html><html>oops</html>"}"#,
        r#"{"error":{"message":"upstream: <HTML><body>oops","code":"server_error"}}"#,
        "upstream said: <title>oops",
    ] {
        let message = response(500, body).message;
        assert!(!message.contains('<') && message.contains("HTTP 500"), "{message}");
    }
    assert_eq!(response(400, r#"{"detail":"expected a < b, or <name>"}"#).message, "expected a < b, or <name>");
}

#[test]
fn an_unknown_member_gets_code_and_parameter() {
    let failure = response(400, r#"{"detail":"Unsupported parameter: seed"}"#);
    assert_eq!((failure.code.as_deref(), failure.param.as_deref()), (Some("unsupported_parameter"), Some("seed")));
    let failure = response(400, r#"{"error":{"message":"Unsupported parameter: a.b","code":"x","param":"a"}}"#);
    assert_eq!((failure.code.as_deref(), failure.param.as_deref()), (Some("x"), Some("a")));
}

#[test]
fn a_sentence_is_not_a_code() {
    for body in [
        r#"{"error":{"code":"what the user wrote","message":"m"}}"#,
        r#"{"error":{"type":"what the user wrote","message":"m"}}"#,
        r#"{"detail":{"code":"what the user wrote","message":"m"}}"#,
    ] {
        assert_eq!(response(400, body).code, None, "{body}");
    }
}

#[test]
fn unreadable_reasoning_is_recognized_without_a_code() {
    for message in [
        "The encrypted content gAAA could not be verified. Reason: it could not be decrypted or parsed.",
        "encrypted_content was not issued to this caller",
        "Encrypted content organization_id did not match the target organization.",
        "Reasoning item rs_1 was not issued to this caller.",
    ] {
        let flat = serde_json::json!({ "detail": message }).to_string();
        let typed = serde_json::json!({"error": {"type": "invalid_request_error", "message": message}}).to_string();
        for body in [flat, typed] {
            assert_eq!(response(400, &body).fault, Fault::EncryptedContent, "{body}");
        }
    }
    for message in ["Unsupported value: 'reasoning.encrypted_content'", "Unsupported parameter: encrypted_content"] {
        let body = serde_json::json!({ "detail": message }).to_string();
        assert_eq!(response(400, &body).fault, Fault::InvalidRequest, "{body}");
    }
}

#[test]
fn a_code_in_a_header_is_read() {
    let json = BASE64.encode(r#"{"error":{"code":"token_expired","message":"It has expired"}}"#);
    let failure = from_response(401, &headers(&[("x-error-json", &json), ("x-request-id", "req_1")]), b"");
    assert_eq!(failure.code.as_deref(), Some("token_expired"));
    assert!(failure.message.starts_with("It has expired"));
    assert_eq!(failure.request_id.as_deref(), Some("req_1"));
}

#[test]
fn the_rejected_parameter_is_named() {
    let name = |body: &str| unsupported_parameter(&response(400, body)).map(str::to_owned);
    assert_eq!(name(r#"{"detail":"Unsupported parameter: text"}"#).as_deref(), Some("text"));
    let quoted = r#"{"error":{"message":"Unsupported parameter: 'top_p' is not supported with this model."}}"#;
    assert_eq!(name(quoted).as_deref(), Some("top_p"));
    assert_eq!(name(r#"{"detail":"Unsupported parameter: "}"#), None);
    assert_eq!(name(r#"{"detail":"Unsupported value"}"#), None);
}

#[test]
fn white_space_is_not_a_message() {
    assert!(!from_response(502, &HeaderMap::new(), b"\x0b").message.is_empty());
}

proptest! {
    #[test]
    fn parsing_any_bytes_succeeds(
        status: u16,
        body: Vec<u8>,
        retry_after in "[0-9a-zA-Z .:-]{0,30}",
        used in "[0-9.]{0,5}",
        reset in "[0-9]{0,22}",
    ) {
        let from = headers(&[
            ("retry-after", &retry_after),
            ("x-codex-primary-used-percent", &used),
            ("x-codex-primary-reset-at", &reset),
            ("x-error-json", &retry_after),
        ]);
        let failure = from_response(status, &from, &body);
        prop_assert!(!failure.message.is_empty());
        let _ = unsupported_parameter(&failure);
    }

    #[test]
    fn parsing_any_event_succeeds(message in "\\PC{0,60}", seconds: u64, code in "[a-z_]{0,20}") {
        let data = serde_json::json!({
            "type": "error", "status": 429, "headers": {"retry-after": seconds, "date": message},
            "error": {"type": "usage_limit_reached", "code": code, "resets_in_seconds": seconds, "message": message},
        });
        prop_assert!(!from_event(&data.to_string()).message.is_empty());
        prop_assert!(!from_event(&message).message.is_empty());
    }
}
