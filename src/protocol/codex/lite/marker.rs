//! Detects the marker of a lite body: a header over HTTP, a `client_metadata` member in a WebSocket frame.

use http::{HeaderMap, HeaderName};
use serde_json::value::RawValue;

use crate::protocol::json::raw_object::RawObject;

/// The header that marks a lite request over HTTP. Its value is `true`.
pub const HEADER: HeaderName = HeaderName::from_static("x-openai-internal-codex-responses-lite");
/// The `client_metadata` member that marks a WebSocket frame, which has no headers.
const METADATA_MEMBER: &str = "ws_request_header_x_openai_internal_codex_responses_lite";

/// Whether a client marked its body as lite, by the header or by the metadata.
#[must_use]
pub fn is_marked(headers: &HeaderMap, client_metadata: Option<&RawValue>) -> bool {
    let is_true = |value: &str| value.trim().eq_ignore_ascii_case("true");
    let in_headers = headers.get(HEADER).and_then(|value| value.to_str().ok());
    let metadata = client_metadata.and_then(|metadata| RawObject::parse(metadata.get()).ok()).unwrap_or_default();
    in_headers.is_some_and(is_true) || metadata.text(METADATA_MEMBER).is_some_and(|value| is_true(&value))
}
