//! Replaces escaped lone surrogates in JSON.
//!
//! A JavaScript client can cut a string between the halves of a surrogate pair; in JSON, the remaining half is a `\u`
//! escape. A Rust string can't hold such a lone surrogate, and the backend rejects it. Each becomes U+FFFD, whose
//! escape has the same length, so the rest of the text doesn't move.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

const REPLACEMENT: &[u8; ESCAPE_BYTES] = br"\ufffd";
/// Length of a `\u` escape.
const ESCAPE_BYTES: usize = 6;

/// Returns JSON without lone surrogates in names and values. Copies the JSON only if it has one.
#[must_use]
pub fn replaced(json: &[u8]) -> Cow<'_, [u8]> {
    if next(json, 0).is_none() {
        return Cow::Borrowed(json);
    }
    let mut json = json.to_vec();
    replace(&mut json);
    Cow::Owned(json)
}

/// Replaces lone surrogates in the buffer of a body. Copies the buffer only if it is shared.
#[must_use]
pub fn replaced_in_place(json: Bytes) -> Bytes {
    if next(&json, 0).is_none() {
        return json;
    }
    let mut json = json.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
    replace(&mut json);
    json.freeze()
}

fn replace(json: &mut [u8]) {
    let mut from = 0;
    while let Some(at) = next(json, from) {
        from = at + ESCAPE_BYTES;
        if let Some(escape) = json.get_mut(at..from) {
            escape.copy_from_slice(REPLACEMENT);
        }
    }
}

/// The byte offset of the next lone surrogate at or after `from`.
fn next(json: &[u8], mut from: usize) -> Option<usize> {
    let finder = Finder::new(br"\u");
    loop {
        let at = from + finder.find(json.get(from..)?)?;
        let unit = code_unit(json, at).filter(|unit| is_escape(json, at) && (0xD800..0xE000).contains(unit));
        let Some(unit) = unit else {
            from = at + 2;
            continue;
        };
        let low = code_unit(json, at + ESCAPE_BYTES).filter(|next| (0xDC00..0xE000).contains(next));
        if unit >= 0xDC00 || low.is_none() {
            return Some(at);
        }
        from = at + 2 * ESCAPE_BYTES;
    }
}

/// Whether the backslash at this offset starts an escape, because it isn't escaped itself.
fn is_escape(json: &[u8], at: usize) -> bool {
    let before = json.get(..at).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count().is_multiple_of(2)
}

/// The code unit of the `\u` escape at this offset.
fn code_unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + ESCAPE_BYTES)?.strip_prefix(br"\u")?;
    digits.iter().try_fold(0, |unit, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{replaced, replaced_in_place};

    #[test]
    fn each_lone_surrogate_is_replaced() {
        for (json, expected) in [
            (r#"{"a":"x\ud83d"}"#, Some(r#"{"a":"x\ufffd"}"#)),
            (r#"{"\uDe00":1}"#, Some(r#"{"\ufffd":1}"#)),
            (r#""\ud83d\ud83d\ude00\ude00""#, Some(r#""\ufffd\ud83d\ude00\ufffd""#)),
            (r#""\ude00\ud83d""#, Some(r#""\ufffd\ufffd""#)),
            (r#""\ud83dx\ude00""#, Some(r#""\ufffdx\ufffd""#)),
            (r#""\ud83d\\ude00""#, Some(r#""\ufffd\\ude00""#)),
            (r#""\\\ud83d""#, Some(r#""\\\ufffd""#)),
            (r#""\ud83d\ude00 \u00e9 \\ud83d \ud83""#, None),
            (r#""\ud83d\uzzzz""#, Some(r#""\ufffd\uzzzz""#)),
            (r"\ud83", None),
            ("", None),
        ] {
            let got = replaced(json.as_bytes());
            assert_eq!(got, expected.unwrap_or(json).as_bytes(), "{json}");
            assert_eq!(matches!(got, Cow::Borrowed(_)), expected.is_none(), "{json}");
            let body = Bytes::copy_from_slice(json.as_bytes());
            assert_eq!(replaced_in_place(body.clone()), *got, "{json}");
            assert_eq!(body, json.as_bytes(), "a shared buffer is unchanged");
            assert_eq!(replaced_in_place(body), *got, "{json}");
        }
    }

    proptest! {
        #[test]
        fn the_result_equals_a_lossy_utf_16_conversion(units in prop::collection::vec(
            prop_oneof![any::<u16>(), 0xD800..0xE000_u16], 0..20)
        ) {
            let escaped: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let json = format!("\"{}\"", escaped.concat());
            let whole = replaced(json.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&whole).unwrap(), String::from_utf16_lossy(&units));
        }
    }
}
