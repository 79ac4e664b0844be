//! JSON responses, mainly errors, in the formats of the real services.
//!
//! Of the real services, the gateway sends `{"detail": …}`, and those behind it send `{"error": {…}}`. Each format is
//! used where they use it.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};

/// Builds a JSON response.
pub(super) fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// An error response.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    pub(super) headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    /// An error in the gateway's format, with this status.
    pub(super) fn detail(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, body: json!({ "detail": detail.into() }), headers: Vec::new() }
    }

    /// Status 400 in the gateway's format.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::detail(StatusCode::BAD_REQUEST, detail)
    }

    /// Status 400 with an error object; `param` is the invalid member.
    pub(super) fn invalid(code: Option<&str>, param: impl Into<Value>, message: impl Into<String>) -> Self {
        let error = json!({
            "message": message.into(), "type": "invalid_request_error", "param": param.into(), "code": code,
        });
        Self { status: StatusCode::BAD_REQUEST, body: json!({ "error": error }), headers: Vec::new() }
    }

    /// Status 401 for an invalid access token.
    pub(super) fn invalid_token(code: &str, message: &str) -> Self {
        let error = json!({ "message": message, "type": null, "param": null, "code": code });
        let status = StatusCode::UNAUTHORIZED;
        Self { status, body: json!({ "error": error, "status": 401 }), headers: Vec::new() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.body);
        for (name, value) in self.headers {
            let value = value.parse().expect("header values of errors are ASCII");
            response.headers_mut().insert(name, value);
        }
        response
    }
}
