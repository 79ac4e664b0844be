//! Pictures: base64 alone, of which the first bytes tell the kind.

use std::borrow::Cow;

use crate::error::ProxyError;
use crate::protocol::codex::request::Part;
use crate::protocol::json::path::Field;
use crate::protocol::upstream_input::base64::unwrapped;

/// How the content of a picture begins, in base64, and its type.
const KINDS: [(&str, &str); 4] =
    [("iVBORw0KGgo", "image/png"), ("/9j/", "image/jpeg"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp")];

/// What the backend is told of a picture whose kind is not known; it looks for itself.
const USUAL_KIND: &str = "image/png";

/// Reads an element of `images`. Some clients send a whole data URL.
pub(super) fn read<'a>(image: &Field<'a, '_>) -> Result<Part<'a>, ProxyError> {
    let data = unwrapped(image.json_text()?);
    if data.is_empty() {
        return Err(image.invalid("must be a picture in base64"));
    }
    let image_url = if data.starts_with("data:image/") {
        data
    } else if data.read().contains(':') {
        return Err(image.invalid("must be a picture in base64, not its address"));
    } else {
        let kind = KINDS.iter().find(|(beginning, _)| data.starts_with(beginning)).map_or(USUAL_KIND, |(_, kind)| kind);
        data.after(&format!("data:{kind};base64,"))
    };
    Ok(Part::InputImage { image_url, detail: Cow::Borrowed("auto") })
}
