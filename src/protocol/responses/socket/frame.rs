//! What a client says on a socket: objects with a type, most of them a request for a response.
//!
//! A request is taken apart into what HTTP has in its place: the body, without the members that only
//! a frame has, and the headers of this turn, which a client of the backend puts into
//! `client_metadata` since a socket has only those it was opened with.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::RawValue;

use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::Str;
use crate::protocol::json::surrogates;
use crate::protocol::responses::options::Purpose;

/// Longest name of a lane.
const LANE_LENGTH: usize = 256;

/// Metadata that HTTP has as headers of the same name.
const OWN_HEADERS: [&str; 3] = ["x-codex-turn-metadata", "x-codex-turn-state", "x-codex-window-id"];
/// Metadata that stands for a header says so, with the header's hyphens as underscores.
const HEADER_PREFIX: &str = "ws_request_header_";

/// A frame that can be read.
#[derive(Debug)]
pub enum Frame {
    /// A response is asked for.
    Create(Box<Create>),
    /// The response under way is to be stopped.
    Cancel,
    /// There is nothing to do.
    Nothing,
}

/// A request for a response.
#[derive(Debug)]
pub struct Create {
    /// The body that HTTP would have brought.
    pub body: String,
    /// Headers that belong to this request alone.
    pub headers: HeaderMap,
    /// What it is for.
    pub purpose: Purpose,
    /// The lane that its events name, where it is in one.
    pub lane: Option<String>,
}

/// A frame that can't be used.
#[derive(Debug)]
pub enum FrameError {
    /// It is no JSON object: the two sides don't understand each other.
    Broken(ProxyError),
    /// It asks for what is not there.
    Refused(ProxyError),
}

impl Frame {
    /// Reads a frame.
    ///
    /// # Errors
    /// When it is not a JSON object, or of no known type.
    pub fn read(text: &str) -> Result<Self, FrameError> {
        let text = surrogates::replaced(text.as_bytes());
        let members = RawObject::from_body(&text).map_err(FrameError::Broken)?;
        let kind = members.get("type").and_then(|kind| serde_json::from_str::<Str<'_>>(kind.get()).ok());
        match kind.as_ref().map(Str::as_str) {
            Some("response.create") => {
                Create::read(members).map(|create| Self::Create(Box::new(create))).map_err(FrameError::Refused)
            }
            Some("response.cancel" | "response.interrupt") => Ok(Self::Cancel),
            // Older clients tell so that they have dealt with an answer.
            Some("response.processed") => Ok(Self::Nothing),
            _ => {
                let message =
                    "the type of a frame must be 'response.create', 'response.cancel' or 'response.interrupt'";
                Err(FrameError::Refused(Refusal::invalid("type", message)))
            }
        }
    }
}

impl Create {
    fn read(mut members: RawObject<'_>) -> Result<Self, ProxyError> {
        let generates = present(&members, "generate").map(|generate| Field::root("generate", generate).flag());
        let purpose = if generates.transpose()? == Some(false) { Purpose::Warmup } else { Purpose::Turn };
        let lane = present(&members, "stream_id").map(lane).transpose()?;
        let headers = present(&members, "client_metadata").map(headers).unwrap_or_default();
        for name in ["type", "generate", "stream", "stream_id"] {
            members.remove(name);
        }
        members.push("stream", serde_json::from_str("true").expect("it is JSON"));
        let body = serde_json::to_string(&members).expect("raw JSON always serialises");
        Ok(Self { body, headers, purpose, lane })
    }
}

fn present<'a>(members: &RawObject<'a>, name: &str) -> Option<&'a RawValue> {
    members.get(name).filter(|value| value.get() != "null")
}

fn lane(raw: &RawValue) -> Result<String, ProxyError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = Field::root("stream_id", raw).text().ok();
    let name = name.filter(|name| (1..=LANE_LENGTH).contains(&name.len()) && name.chars().all(is_plain));
    name.map(Cow::into_owned).ok_or_else(|| {
        let message = format!("'stream_id' must be 1 to {LANE_LENGTH} letters, digits, '_', '-' or '.'");
        Refusal::coded("invalid_stream_id", "stream_id", message)
    })
}

/// What of the metadata HTTP has as headers.
fn headers(metadata: &RawValue) -> HeaderMap {
    let members = RawObject::parse(metadata.get()).unwrap_or_default();
    members.members().iter().filter_map(|(name, value)| header(name, value.raw())).collect()
}

fn header(name: &str, value: &RawValue) -> Option<(HeaderName, HeaderValue)> {
    let name = match name.strip_prefix(HEADER_PREFIX) {
        Some(name) => name.replace('_', "-"),
        None => OWN_HEADERS.contains(&name).then(|| name.to_owned())?,
    };
    // Who is asking, and as whom, was settled when the socket was opened.
    if !["x-codex-", "x-openai-internal-codex-"].iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let text = serde_json::from_str::<Str<'_>>(value.get()).ok()?;
    Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(text.as_str()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Create, Frame, FrameError};
    use crate::protocol::responses::options::Purpose;

    fn create(text: &str) -> Create {
        match Frame::read(text) {
            Ok(Frame::Create(create)) => *create,
            other => panic!("not a request: {other:?}"),
        }
    }

    #[test]
    fn a_request_keeps_what_http_would_have_brought_byte_for_byte() {
        let text = r#"{"type":"response.create","generate":true,"model":"m","input":[{"x" : 1.0e2}],"stream_id":"a","stream":false,"store":false}"#;
        let create = create(text);
        assert_eq!(create.body, r#"{"model":"m","input":[{"x" : 1.0e2}],"store":false,"stream":true}"#);
        assert_eq!((create.purpose, create.lane.as_deref()), (Purpose::Turn, Some("a")));
    }

    #[test]
    fn a_request_that_generates_nothing_is_a_warmup() {
        assert_eq!(create(r#"{"type":"response.create","generate":false}"#).purpose, Purpose::Warmup);
        assert_eq!(create(r#"{"type":"response.create","generate":null}"#).purpose, Purpose::Turn);
    }

    #[test]
    fn metadata_that_stands_for_headers_becomes_headers() {
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
    fn what_is_no_object_is_broken_and_what_is_unknown_is_refused() {
        for text in ["", "[]", "{\"type\":", "\"response.create\""] {
            assert!(matches!(Frame::read(text), Err(FrameError::Broken(_))), "{text}");
        }
        for text in [
            "{}",
            r#"{"type":7}"#,
            r#"{"type":"response.steer"}"#,
            r#"{"type":"response.create","generate":1}"#,
            r#"{"type":"response.create","stream_id":""}"#,
            r#"{"type":"response.create","stream_id":"a b"}"#,
            r#"{"type":"response.create","stream_id":7}"#,
        ] {
            assert!(matches!(Frame::read(text), Err(FrameError::Refused(_))), "{text}");
        }
    }

    #[test]
    fn a_running_response_can_be_stopped() {
        for kind in ["response.cancel", "response.interrupt"] {
            assert!(matches!(Frame::read(&format!(r#"{{"type":"{kind}"}}"#)), Ok(Frame::Cancel)));
        }
    }
}
