//! Writes the lines of output and error files.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::protocol::json::{compact, from_string, to_raw};

/// A line of an output or error file.
#[derive(Serialize)]
struct OutputLine<'l> {
    id: &'l str,
    custom_id: &'l str,
    response: LineResponse<'l>,
    /// Always null: every request gets a response.
    error: Option<&'l str>,
}

#[derive(Serialize)]
struct LineResponse<'l> {
    status_code: u16,
    request_id: &'l str,
    body: Box<RawValue>,
    /// Only if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_warnings: Option<&'l str>,
}

/// The response to the request of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputResponse<'r> {
    /// The HTTP status.
    pub status_code: u16,
    /// The id of the request in the log.
    pub request_id: &'r str,
    /// The header `x-proxy-warnings`.
    pub warnings: Option<&'r str>,
    /// The body. It should be JSON; anything else becomes a string.
    pub body: &'r [u8],
}

/// The line for a response, without a line ending.
///
/// # Panics
/// Never: strings and JSON always serialize.
#[must_use]
pub fn response_line(id: &str, custom_id: &str, response: &OutputResponse<'_>) -> String {
    let OutputResponse { status_code, request_id, warnings, body } = *response;
    let text = String::from_utf8_lossy(body);
    let body = match serde_json::from_str::<&RawValue>(&text) {
        // A line ending in the body would end the line.
        Ok(body) => from_string(compact(body.get()).into_owned()),
        Err(_) => to_raw(&text),
    };
    let response = LineResponse { status_code, request_id, body, proxy_warnings: warnings };
    let line = OutputLine { id, custom_id, response, error: None };
    serde_json::to_string(&line).expect("strings and JSON always serialize")
}

#[cfg(test)]
mod tests {
    use super::{OutputResponse, response_line};

    #[test]
    fn a_response_is_one_line() {
        let document = b"{\n \"x\": 1.0\n}";
        let response = OutputResponse { status_code: 200, request_id: "req_1", warnings: None, body: document };
        let line = response_line("batch_req_1", "a \"b\"", &response);
        let start = r#"{"id":"batch_req_1","custom_id":"a \"b\"","response":"#;
        let end = r#"{"status_code":200,"request_id":"req_1","body":{"x":1.0}},"error":null}"#;
        assert_eq!(line, format!("{start}{end}"));
        let response = OutputResponse { warnings: Some("ignored:x"), body: b"<html>", ..OutputResponse::default() };
        let expected = r#""body":"<html>","proxy_warnings":"ignored:x"}"#;
        assert!(response_line("", "", &response).contains(expected));
    }
}
