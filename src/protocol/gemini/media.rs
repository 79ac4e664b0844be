//! Converts inline data, which is base64 with a media type, to the backend's parts.

use std::borrow::Cow;

use super::spelling::fields;
use crate::error::{ProxyError, Refusal};
use crate::protocol::Ignored;
use crate::protocol::codex::request::Part;
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::upstream_input::base64::without_white_space;

const DEFAULT_FILE_NAME: &str = "document.pdf";

/// Reads an image or a PDF.
pub(super) fn read<'a>(blob: &Field<'a, '_>, ignored: &mut Ignored) -> Result<Part<'a>, ProxyError> {
    let members = blob.object()?;
    let (mut media_type, mut data, mut display_name) = (None, None, None);
    for (name, field) in fields(blob, &members) {
        match &*name {
            "mimeType" => media_type = Some(field.text()?.to_ascii_lowercase()),
            "data" => data = Some(in_standard_alphabet(without_white_space(field.json_text()?))),
            "displayName" => display_name = Some(field.text()?).filter(|name| !name.is_empty()),
            name => ignored.note(name),
        }
    }
    let media_type = media_type.ok_or_else(|| blob.lacks("mimeType"))?;
    let url = data.ok_or_else(|| blob.lacks("data"))?.with_prefix(&format!("data:{media_type};base64,"));
    if media_type.starts_with("image/") {
        return Ok(Part::InputImage { image_url: url, detail: Cow::Borrowed("auto") });
    }
    if media_type == "application/pdf" {
        let filename = display_name.unwrap_or(Cow::Borrowed(DEFAULT_FILE_NAME));
        return Ok(Part::InputFile { filename, file_data: url });
    }
    let message = format!("{blob}: data of type '{media_type}' is not supported by this proxy, only images and PDFs");
    Err(Refusal::unsupported_value(format!("{blob}.mimeType"), message))
}

/// Converts base64 from the alphabet for URLs, in which the Python SDK sends it, to the one of data URLs.
fn in_standard_alphabet(data: JsonText<'_>) -> JsonText<'_> {
    let is_for_urls = |text: &str| memchr::memchr2(b'-', b'_', text.as_bytes()).is_some();
    let converted = match data.escaped() {
        Some(escaped) if !is_for_urls(escaped) => None,
        _ => Some(data.read().replace('-', "+").replace('_', "/")),
    };
    converted.map_or(data, JsonText::from)
}
