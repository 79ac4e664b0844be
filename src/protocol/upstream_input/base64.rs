//! Base64 that was wrapped into lines, as mail programs and shell tools write it.
//!
//! Other services skip the white space; the backend refuses it.

use crate::protocol::json::input_text::JsonText;

/// How a data URL ends before its content.
const MARK: &str = "base64";

/// Base64, or a data URL that holds it, without white space. Any other address stays as it is.
#[must_use]
pub fn unwrapped(data: JsonText<'_>) -> JsonText<'_> {
    let text = if is_plain(&data) { None } else { without_white_space(&data.read()) };
    text.map_or(data, JsonText::from)
}

/// Whether JSON text may hold a data URL with white space in it.
#[must_use]
pub fn may_be_wrapped(json: &str) -> bool {
    let json = json.as_bytes();
    memchr::memmem::find_iter(json, "base64,").any(|start| {
        let data = json.get(start..).unwrap_or_default();
        let end = memchr::memchr(b'"', data).unwrap_or(data.len());
        memchr::memchr2(b' ', b'\\', data.get(..end).unwrap_or_default()).is_some()
    })
}

/// Whether there is neither a space nor an escape, which other white space is in JSON.
fn is_plain(data: &JsonText<'_>) -> bool {
    let is_plain = |text: &str| memchr::memchr2(b' ', b'\\', text.as_bytes()).is_none();
    data.escaped().is_some_and(is_plain)
}

fn without_white_space(text: &str) -> Option<String> {
    let (head, content) = match text.split_once(',') {
        Some((head, content)) if ends_in_mark(head) => (head, content),
        _ if text.contains(':') => return None,
        _ => ("", text),
    };
    if !content.contains(|c: char| c.is_ascii_whitespace()) {
        return None;
    }
    let mut whole = String::with_capacity(text.len());
    if !head.is_empty() {
        whole.push_str(head.trim_start());
        whole.push(',');
    }
    whole.extend(content.split_ascii_whitespace());
    Some(whole)
}

fn ends_in_mark(head: &str) -> bool {
    let start = head.len().checked_sub(MARK.len());
    start.and_then(|start| head.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(MARK))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{may_be_wrapped, unwrapped};
    use crate::protocol::json::input_text::JsonText;

    #[test]
    fn white_space_goes_and_everything_else_stays() {
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
            assert_eq!(unwrapped(JsonText::from_literal(raw).unwrap()).read(), expected);
        }
        assert_eq!(unwrapped(JsonText::from("QU\nJD")).read(), "QUJD");
    }

    #[test]
    fn what_is_not_wrapped_keeps_its_literal() {
        for literal in [r#""QUJD""#, r#""QUJD\/w==""#, r#""data:image\/png;base64,QUJD""#] {
            let raw: &RawValue = serde_json::from_str(literal).unwrap();
            let words = unwrapped(JsonText::from_literal(raw).unwrap());
            assert_eq!(serde_json::to_string(&words).unwrap(), literal);
        }
    }

    #[test]
    fn wrapped_data_is_noticed_in_a_longer_text() {
        assert!(!may_be_wrapped(r#"[{"image_url":"data:image/png;base64,QUJD", "detail":"a b"}]"#));
        assert!(may_be_wrapped(
            r#"[{"image_url":"data:image/png;base64,QUJD"},{"file_data":"data:a/b;base64,QU\nJD"}]"#
        ));
    }
}
