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
}

/// The line for a response, without a line ending. A `body` that isn't JSON becomes a string.
///
/// # Panics
/// Never: strings and JSON always serialize.
#[must_use]
pub fn response_line(id: &str, custom_id: &str, status_code: u16, request_id: &str, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let body = match serde_json::from_str::<&RawValue>(&text) {
        // A line ending in the body would end the line.
        Ok(body) => from_string(compact(body.get()).into_owned()),
        Err(_) => to_raw(&text),
    };
    let response = LineResponse { status_code, request_id, body };
    let line = OutputLine { id, custom_id, response, error: None };
    serde_json::to_string(&line).expect("strings and JSON always serialize")
}

#[cfg(test)]
mod tests {
    use super::response_line;

    #[test]
    fn a_response_is_one_line() {
        let line = response_line("batch_req_1", "a \"b\"", 200, "req_1", b"{\n \"x\": 1.0\n}");
        let start = r#"{"id":"batch_req_1","custom_id":"a \"b\"","response":"#;
        let end = r#"{"status_code":200,"request_id":"req_1","body":{"x":1.0}},"error":null}"#;
        assert_eq!(line, format!("{start}{end}"));
        assert!(response_line("", "", 502, "", b"<html>").contains(r#""body":"<html>""#));
    }
}
