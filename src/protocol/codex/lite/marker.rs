//! How a lite body is announced: by a header over HTTP, by client metadata in a WebSocket frame.

use http::{HeaderMap, HeaderName};
use serde_json::value::RawValue;

use super::text;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

/// The header of a lite request over HTTP; its value is `true`.
pub const HEADER: HeaderName = HeaderName::from_static("x-openai-internal-codex-responses-lite");
/// The same in the metadata of a WebSocket frame, which has no headers.
const METADATA: &str = "ws_request_header_x_openai_internal_codex_responses_lite";
const YES: &str = "true";

/// Whether a client marked its own body as lite, in either way.
#[must_use]
pub fn is_marked(headers: &HeaderMap, client_metadata: Option<&RawValue>) -> bool {
    let says_yes = |value: &str| value.trim().eq_ignore_ascii_case(YES);
    let in_headers = headers.get(HEADER).and_then(|value| value.to_str().ok());
    let metadata = client_metadata.and_then(|metadata| RawObject::parse(metadata.get()).ok()).unwrap_or_default();
    in_headers.is_some_and(says_yes) || text(&metadata, METADATA).is_some_and(|value| says_yes(&value))
}

/// A body, marked for a WebSocket frame: the mark is among its client metadata, all else as it was.
/// What is no JSON object comes back unchanged.
#[must_use]
pub fn marked(body: &str) -> String {
    let body = body.trim();
    let Ok(members) = RawObject::parse(body) else { return body.to_owned() };
    let mark = format!(r#""{METADATA}":"{YES}""#);
    let mut splice = Splice::new(body);
    let Some(metadata) = members.get("client_metadata") else {
        splice.add(body, format!(r#""client_metadata":{{{mark}}}"#));
        return splice.text().into_owned();
    };
    match RawObject::parse(metadata.get()).map(|inside| inside.get(METADATA)) {
        Ok(Some(old)) => splice.replace(old, format!(r#""{YES}""#)),
        Ok(None) => splice.add(metadata.get(), mark),
        Err(_) => splice.replace(metadata, format!("{{{mark}}}")),
    }
    splice.text().into_owned()
}
