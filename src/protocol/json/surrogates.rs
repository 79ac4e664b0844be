//! Escapes in JSON that stand for half of a surrogate pair.
//!
//! JavaScript cuts a text between the two halves and escapes what is left. No Rust string can hold
//! that, and the backend refuses it. Each half becomes one U+FFFD, whose escape is as long, so that
//! nothing else in the text moves.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

const REPLACEMENT: &[u8; ESCAPE_BYTES] = br"\ufffd";
const ESCAPE_BYTES: usize = 6;

/// JSON without lone surrogates, in its names as in its values. Not copied where it has none.
#[must_use]
pub fn replaced(json: &[u8]) -> Cow<'_, [u8]> {
    if next(json, 0).is_none() {
        return Cow::Borrowed(json);
    }
    let mut json = json.to_vec();
    replace(&mut json);
    Cow::Owned(json)
}

/// The same in the buffer of a body, which is copied only if something else holds it too.
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

/// Where the next lone surrogate stands.
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

/// Whether the backslash is not one that another backslash escapes.
fn is_escape(json: &[u8], at: usize) -> bool {
    let before = json.get(..at).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count().is_multiple_of(2)
}

/// The code unit of the escape that begins there.
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
    fn each_half_of_a_pair_becomes_one_character() {
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
            assert_eq!(body, json.as_bytes(), "a buffer that is held elsewhere stays");
            assert_eq!(replaced_in_place(body), *got, "{json}");
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_is_the_text_as_another_reader_repairs_it(units in prop::collection::vec(
            prop_oneof![any::<u16>(), 0xD800..0xE000_u16], 0..20)
        ) {
            let escaped: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let json = format!("\"{}\"", escaped.concat());
            let whole = replaced(json.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&whole).unwrap(), String::from_utf16_lossy(&units));
        }
    }
}
