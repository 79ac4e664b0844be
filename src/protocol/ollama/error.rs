//! Errors in Ollama's API: a status and one message.
//!
//! There is no member for the parameter at fault, so the message names it.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::json::quoted;
use crate::protocol::{error_response, openai};

/// Status, headers and body of an error.
#[must_use]
pub fn to_error_response(error: &ProxyError, commands: CommandHint) -> (StatusCode, HeaderMap, Bytes) {
    let (status, headers) = openai::error::head(error);
    (status, headers, Bytes::from(body(error, commands)))
}

/// The last line of a stream that failed.
pub(super) fn line(error: &ProxyError, commands: CommandHint) -> Vec<u8> {
    let mut line = body(error, commands).into_bytes();
    line.push(b'\n');
    line
}

fn body(error: &ProxyError, commands: CommandHint) -> String {
    let message = error_response::message(error, commands);
    let message = match error_response::param(error).filter(|param| !message.contains(*param)) {
        Some(param) => format!("{param}: {message}"),
        None => message,
    };
    format!(r#"{{"error":{}}}"#, quoted(&message))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{line, to_error_response};
    use crate::command_hint::CommandHint;
    use crate::error::{ProxyError, Refusal};

    #[test]
    fn what_is_at_fault_is_named_once() {
        for (error, expected) in [
            (Refusal::unsupported_value("messages[0].x", "no such thing"), "messages[0].x: no such thing"),
            (Refusal::invalid("stop", "'stop' is odd"), "'stop' is odd"),
            (ProxyError::ShuttingDown, "the proxy is shutting down"),
        ] {
            let (_, headers, body) = to_error_response(&error, CommandHint::default());
            assert_eq!(headers["content-type"], "application/json");
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), json!({"error": expected}));
            assert_eq!(line(&error, CommandHint::default()), [&*body, b"\n"].concat());
        }
    }
}
