//! Reads images, which Ollama's clients send as base64 without a media type.

use std::borrow::Cow;

use crate::error::ProxyError;
use crate::protocol::codex::request::Part;
use crate::protocol::json::path::Field;
use crate::protocol::upstream_input::base64::without_white_space;

/// Media types by the first characters of the base64 text.
const SIGNATURES: [(&str, &str); 4] =
    [("iVBORw0KGgo", "image/png"), ("/9j/", "image/jpeg"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp")];

/// The media type of an unknown image. The backend detects the type itself.
const DEFAULT_TYPE: &str = "image/png";

/// Reads an element of `images`. Some clients send a data URL.
pub(super) fn read<'a>(image: &Field<'a, '_>) -> Result<Part<'a>, ProxyError> {
    let data = without_white_space(image.json_text()?);
    if data.is_empty() {
        return Err(image.invalid("must be an image in base64"));
    }
    let image_url = if data.starts_with("data:image/") {
        data
    } else if data.read().contains(':') {
        return Err(image.invalid("must be an image in base64, not a URL"));
    } else {
        let known = SIGNATURES.iter().find(|(prefix, _)| data.starts_with(prefix));
        let media_type = known.map_or(DEFAULT_TYPE, |(_, media_type)| media_type);
        data.with_prefix(&format!("data:{media_type};base64,"))
    };
    Ok(Part::InputImage { image_url, detail: Cow::Borrowed("auto") })
}
