//! Removes white space from base64, which mail programs and shell tools wrap into lines.
//!
//! Other services skip the white space; the backend rejects it.

use crate::protocol::json::input_text::JsonText;

/// The end of a data URL's part before the comma.
const BASE64_MARKER: &str = "base64";

/// Returns base64, or a data URL with base64, without white space. Any other URL is returned unchanged.
#[must_use]
pub fn without_white_space(data: JsonText<'_>) -> JsonText<'_> {
    let text = if is_plain(&data) { None } else { remove_white_space(&data.read()) };
    text.map_or(data, JsonText::from)
}

/// Whether JSON may contain a data URL with white space in its base64.
#[must_use]
pub fn may_have_white_space(json: &str) -> bool {
    let json = json.as_bytes();
    memchr::memmem::find_iter(json, "base64,").any(|start| {
        let data = json.get(start..).unwrap_or_default();
        let end = memchr::memchr(b'"', data).unwrap_or(data.len());
        memchr::memchr2(b' ', b'\\', data.get(..end).unwrap_or_default()).is_some()
    })
}

/// Whether a string has no spaces and no escapes. JSON escapes all other white space.
fn is_plain(data: &JsonText<'_>) -> bool {
    let is_plain = |text: &str| memchr::memchr2(b' ', b'\\', text.as_bytes()).is_none();
    data.escaped().is_some_and(is_plain)
}

/// `None` if there is no white space to remove, or the text is another URL.
fn remove_white_space(text: &str) -> Option<String> {
    let (head, content) = match text.split_once(',') {
        Some((head, content)) if ends_with_marker(head) => (head, content),
        _ if text.contains(':') => return None,
        _ => ("", text),
    };
    if !content.contains(|c: char| c.is_ascii_whitespace()) {
        return None;
    }
    let mut compact = String::with_capacity(text.len());
    if !head.is_empty() {
        compact.push_str(head.trim_start());
        compact.push(',');
    }
    compact.extend(content.split_ascii_whitespace());
    Some(compact)
}

fn ends_with_marker(head: &str) -> bool {
    let start = head.len().checked_sub(BASE64_MARKER.len());
    start.and_then(|start| head.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(BASE64_MARKER))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{may_have_white_space, without_white_space};
    use crate::protocol::json::input_text::JsonText;

    #[test]
    fn only_white_space_is_removed() {
        for (literal, expected) in [
            (r#""QUJD\r\nREVG\n""#, "QUJDREVG"),
            (r#""QUJD REVG\u000aR0hJ""#, "QUJDREVGR0hJ"),
            (r#""data:image/png;base64,QU\nJD\tRE VG""#, "data:image/png;base64,QUJDREVG"),
            (r#""data:image\/png;BASE64,\nQU""#, "data:image/png;BASE64,QU"),
            (r#""QUJD\/w==""#, "QUJD/w=="),
            (r#""data:text/plain,a b""#, "data:text/plain,a b"),
            (r#""https://example.org/a b,base64, c""#, "https://example.org/a b,base64, c"),
        ] {
            let raw: &RawValue = serde_json::from_str(literal).unwrap();
            assert_eq!(without_white_space(JsonText::from_literal(raw).unwrap()).read(), expected);
        }
        assert_eq!(without_white_space(JsonText::from("QU\nJD")).read(), "QUJD");
    }

    #[test]
    fn data_without_white_space_keeps_its_literal() {
        for literal in [r#""QUJD""#, r#""QUJD\/w==""#, r#""data:image\/png;base64,QUJD""#] {
            let raw: &RawValue = serde_json::from_str(literal).unwrap();
            let words = without_white_space(JsonText::from_literal(raw).unwrap());
            assert_eq!(serde_json::to_string(&words).unwrap(), literal);
        }
    }

    #[test]
    fn white_space_is_found_in_longer_json() {
        assert!(!may_have_white_space(r#"[{"image_url":"data:image/png;base64,QUJD", "detail":"a b"}]"#));
        assert!(may_have_white_space(
            r#"[{"image_url":"data:image/png;base64,QUJD"},{"file_data":"data:a/b;base64,QU\nJD"}]"#
        ));
    }
}
