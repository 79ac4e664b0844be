//! Parses a client's WebSocket frame: a JSON object with a `type`, usually a request for a response.
//!
//! A request is converted to the body and the headers of the equivalent HTTP request. Codex clients put the headers of
//! a request into `client_metadata`, because a connection has only the headers of its handshake.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;

use super::control::ControlFrame;
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::control::ControlKind;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::Str;
use crate::protocol::json::surrogates;
use crate::protocol::responses::options::Purpose;

/// Maximum length of a `stream_id`.
const MAX_STREAM_ID_BYTES: usize = 256;

/// Members of `client_metadata` that correspond to a header of the same name.
const SAME_NAME_HEADERS: [&str; 3] = ["x-codex-turn-metadata", "x-codex-turn-state", "x-codex-window-id"];
/// Prefix of other members that correspond to a header: its name follows, with underscores in place of hyphens.
const HEADER_PREFIX: &str = "ws_request_header_";

/// A valid frame.
#[derive(Debug)]
pub enum ClientFrame {
    /// Requests a response.
    Create(Box<CreateRequest>),
    /// Cancels the current response.
    Cancel,
    /// Is for the backend, about the current response.
    Control(ControlFrame),
    /// Needs no action: the client confirms a response.
    Ignored,
}

/// A request for a response.
#[derive(Debug)]
pub struct CreateRequest {
    /// The body of the equivalent HTTP request.
    pub body: String,
    /// The headers in the request's `client_metadata`.
    pub headers: HeaderMap,
    /// The purpose of the request.
    pub purpose: Purpose,
    /// The `stream_id` to add to its events.
    pub stream_id: Option<String>,
}

/// An invalid frame.
#[derive(Debug)]
pub enum FrameError {
    /// It isn't a JSON object. The server then closes the connection.
    Malformed(ProxyError),
    /// It's of an unknown type or has an invalid member. The connection continues.
    Rejected(ProxyError),
}

impl ClientFrame {
    /// Parses a frame.
    ///
    /// # Errors
    /// If it isn't a JSON object, is of an unknown type, or has an invalid member.
    pub fn read(original: &str) -> Result<Self, FrameError> {
        let text = surrogates::replaced(original.as_bytes());
        let members = RawObject::from_body(&text).map_err(FrameError::Malformed)?;
        let kind = members.get("type").and_then(|kind| serde_json::from_str::<Str<'_>>(kind.get()).ok());
        match kind.as_ref().map(Str::as_str) {
            Some("response.create") => {
                CreateRequest::read(members).map(|create| Self::Create(Box::new(create))).map_err(FrameError::Rejected)
            }
            Some("response.cancel") => Ok(Self::Cancel),
            // Older clients confirm that they processed a response.
            Some("response.processed") => Ok(Self::Ignored),
            other => {
                let control = other.and_then(ControlKind::of).ok_or_else(|| {
                    let message = "the type of a frame must be 'response.create', 'response.cancel', 'response.steer' or \
                                   'response.interrupt'";
                    FrameError::Rejected(Refusal::invalid("type", message))
                })?;
                let stream_id = present(&members, "stream_id").map(stream_id).transpose();
                let stream_id = stream_id.map_err(FrameError::Rejected)?;
                let json = std::str::from_utf8(&text).map_err(|_| FrameError::Malformed(ProxyError::Internal))?;
                Ok(Self::Control(ControlFrame::read(control, original, json, &members, stream_id)))
            }
        }
    }
}

impl CreateRequest {
    fn read(mut members: RawObject<'_>) -> Result<Self, ProxyError> {
        let generates = present(&members, "generate").map(|generate| Field::root("generate", generate).flag());
        let purpose = if generates.transpose()? == Some(false) { Purpose::Warmup } else { Purpose::WebSocket };
        let stream_id = present(&members, "stream_id").map(stream_id).transpose()?;
        let headers = present(&members, "client_metadata").map(headers).unwrap_or_default();
        for name in ["type", "generate", "stream", "stream_id"] {
            members.remove(name);
        }
        members.push("stream", serde_json::from_str("true").expect("a valid literal"));
        let body = serde_json::to_string(&members).expect("raw JSON always serializes");
        Ok(Self { body, headers, purpose, stream_id })
    }
}

fn present<'a>(members: &RawObject<'a>, name: &str) -> Option<&'a RawValue> {
    members.get(name).filter(|value| value.get() != "null")
}

fn stream_id(raw: &RawValue) -> Result<String, ProxyError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = Field::root("stream_id", raw).text().ok();
    let name = name.filter(|name| (1..=MAX_STREAM_ID_BYTES).contains(&name.len()) && name.chars().all(is_plain));
    name.map(Cow::into_owned).ok_or_else(|| {
        let message = format!("'stream_id' must be 1 to {MAX_STREAM_ID_BYTES} letters, digits, '_', '-' or '.'");
        Refusal::coded("invalid_stream_id", "stream_id", message)
    })
}

/// Converts the members of `client_metadata` that correspond to headers.
fn headers(metadata: &RawValue) -> HeaderMap {
    let members = RawObject::parse(metadata.get()).unwrap_or_default();
    members.members().iter().filter_map(|(name, value)| header(name, value.raw())).collect()
}

fn header(name: &str, value: &RawValue) -> Option<(HeaderName, HeaderValue)> {
    let name = match name.strip_prefix(HEADER_PREFIX) {
        Some(name) => name.replace('_', "-"),
        None => SAME_NAME_HEADERS.contains(&name).then(|| name.to_owned())?,
    };
    // Credentials and account are fixed at the handshake, so only these headers are accepted.
    if !["x-codex-", "x-openai-internal-codex-"].iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let text = serde_json::from_str::<Str<'_>>(value.get()).ok()?;
    Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(text.as_str()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::{ClientFrame, CreateRequest, FrameError};
    use crate::protocol::responses::options::Purpose;

    fn create(text: &str) -> CreateRequest {
        match ClientFrame::read(text) {
            Ok(ClientFrame::Create(create)) => *create,
            other => panic!("not a request: {other:?}"),
        }
    }

    #[test]
    fn the_body_keeps_its_bytes() {
        let text = r#"{"type":"response.create","generate":true,"model":"m","input":[{"x" : 1.0e2}],"stream_id":"a","stream":false,"store":false}"#;
        let create = create(text);
        assert_eq!(create.body, r#"{"model":"m","input":[{"x" : 1.0e2}],"store":false,"stream":true}"#);
        assert_eq!((create.purpose, create.stream_id.as_deref()), (Purpose::WebSocket, Some("a")));
    }

    #[test]
    fn a_request_without_generation_is_a_warmup() {
        assert_eq!(create(r#"{"type":"response.create","generate":false}"#).purpose, Purpose::Warmup);
        assert_eq!(create(r#"{"type":"response.create","generate":null}"#).purpose, Purpose::WebSocket);
    }

    #[test]
    fn metadata_becomes_headers() {
        let text = r#"{"type":"response.create","client_metadata":{
            "x-codex-turn-state":"ts-1","turn_id":"t","x-codex-installation-id":"i","x-codex-window-id":7,
            "ws_request_header_x_openai_internal_codex_responses_lite":"true",
            "ws_request_header_x_proxy_account":"acct-2","ws_request_header_authorization":"Bearer x"}}"#;
        let headers = create(text).headers;
        assert_eq!(headers.len(), 2, "{headers:?}");
        assert_eq!(headers["x-codex-turn-state"], "ts-1");
        assert_eq!(headers["x-openai-internal-codex-responses-lite"], "true");
    }

    #[test]
    fn non_objects_are_malformed_and_unknown_types_rejected() {
        for text in ["", "[]", "{\"type\":", "\"response.create\""] {
            assert!(matches!(ClientFrame::read(text), Err(FrameError::Malformed(_))), "{text}");
        }
        for text in [
            "{}",
            r#"{"type":7}"#,
            r#"{"type":"response.explain"}"#,
            r#"{"type":"response.steer","stream_id":"a b"}"#,
            r#"{"type":"response.create","generate":1}"#,
            r#"{"type":"response.create","stream_id":""}"#,
            r#"{"type":"response.create","stream_id":"a b"}"#,
            r#"{"type":"response.create","stream_id":7}"#,
        ] {
            assert!(matches!(ClientFrame::read(text), Err(FrameError::Rejected(_))), "{text}");
        }
    }

    #[test]
    fn a_response_can_be_canceled() {
        assert!(matches!(ClientFrame::read(r#"{"type":"response.cancel"}"#), Ok(ClientFrame::Cancel)));
    }
}
