//! Answers that are JSON, refusals above all, in the shapes that the real services use.
//!
//! The gateway says `{"detail": …}`, what lies behind it says `{"error": {…}}`. A client has to
//! read both, so both are used here where the real services use them.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};

/// A JSON answer with a status.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// A request that is refused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    pub(super) headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    /// The gateway's shape.
    pub(super) fn detail(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, body: json!({ "detail": detail.into() }), headers: Vec::new() }
    }

    /// A rule of the gateway: status 400.
    pub(super) fn rule(detail: impl Into<String>) -> Self {
        Self::detail(StatusCode::BAD_REQUEST, detail)
    }

    /// An error object: status 400, with the member at fault.
    pub(super) fn invalid(code: Option<&str>, param: impl Into<Value>, message: impl Into<String>) -> Self {
        let error = json!({
            "message": message.into(), "type": "invalid_request_error", "param": param.into(), "code": code,
        });
        Self { status: StatusCode::BAD_REQUEST, body: json!({ "error": error }), headers: Vec::new() }
    }

    /// An access token that is no good: status 401.
    pub(super) fn token(code: &str, message: &str) -> Self {
        let error = json!({ "message": message, "type": null, "param": null, "code": code });
        let status = StatusCode::UNAUTHORIZED;
        Self { status, body: json!({ "error": error, "status": 401 }), headers: Vec::new() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = answer(self.status, &self.body);
        for (name, value) in self.headers {
            let value = value.parse().expect("refusals carry plain ASCII headers");
            response.headers_mut().insert(name, value);
        }
        response
    }
}
