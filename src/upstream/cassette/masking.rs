//! Masks text: letters become `x` and digits `1`; length and punctuation stay.
//!
//! Works character by character, so that the masked deltas of a stream add up to the masked text, wherever it was split
//! between characters. String literals of JSON are masked as they are spelled, without decoding them: an escape becomes
//! another escape. Characters beyond ASCII become others of the same length in UTF-8. Pure.

/// One character of a string literal.
#[derive(Clone, Copy, Debug)]
struct LiteralChar<'t> {
    /// Its spelling, which may be an escape.
    raw: &'t str,
    /// `None` for one half of a surrogate pair, or an invalid escape.
    decoded: Option<char>,
}

/// Masks a JSON text that arrives in pieces, and keeps it valid. The variants are the position in the text. From the
/// first character on that is not valid JSON, it is masked like any other text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum JsonMasker {
    /// Between tokens.
    #[default]
    Value,
    Number,
    /// The rest of `true`, `false` or `null`.
    Literal(&'static str),
    String,
    /// After the backslash in a string.
    Escape,
    /// Number of digits of a `\u` escape so far.
    Hex(usize),
    Invalid,
}

/// Masks the content of a string literal, without its quotes.
pub(super) fn mask_literal(literal: &str) -> String {
    characters(literal).map(replacement).collect()
}

/// Masks a text that is not a string literal.
#[must_use]
pub fn mask(text: &str) -> String {
    text.chars().map(mask_char).collect()
}

impl JsonMasker {
    /// Masks the next piece of a JSON text that is the content of a string literal.
    pub(super) fn mask_literal(&mut self, literal: &str) -> String {
        characters(literal).map(|character| self.step(character)).collect()
    }

    fn step<'t>(&mut self, character: LiteralChar<'t>) -> &'t str {
        let (next, masked) = match *self {
            Self::String => in_string(character),
            Self::Escape => after_backslash(character),
            Self::Hex(count) => in_hex(character, count),
            Self::Invalid => (Self::Invalid, replacement(character)),
            Self::Value | Self::Number | Self::Literal(_) => self.outside_string(character),
        };
        *self = next;
        masked
    }

    fn outside_string(self, character: LiteralChar<'_>) -> (Self, &str) {
        match (self, character.decoded) {
            (_, Some('"')) => (Self::String, character.raw),
            (_, Some('{' | '}' | '[' | ']' | ':' | ',' | ' ' | '\n' | '\r' | '\t')) => (Self::Value, character.raw),
            (Self::Value | Self::Number, Some('0'..='9')) => (Self::Number, "1"),
            (Self::Value | Self::Number, Some('-')) | (Self::Number, Some('+' | '.' | 'e' | 'E')) => {
                (Self::Number, character.raw)
            }
            (Self::Value, Some('t')) => (Self::Literal("rue"), character.raw),
            (Self::Value, Some('f')) => (Self::Literal("alse"), character.raw),
            (Self::Value, Some('n')) => (Self::Literal("ull"), character.raw),
            (Self::Literal(rest), Some(next)) => match rest.strip_prefix(next) {
                Some(rest) => (Self::Literal(rest), character.raw),
                None => (Self::Invalid, replacement(character)),
            },
            _ => (Self::Invalid, replacement(character)),
        }
    }
}

fn in_string(character: LiteralChar<'_>) -> (JsonMasker, &str) {
    match character.decoded {
        Some('"') => (JsonMasker::Value, character.raw),
        Some('\\') => (JsonMasker::Escape, character.raw),
        _ => (JsonMasker::String, replacement(character)),
    }
}

fn after_backslash(character: LiteralChar<'_>) -> (JsonMasker, &str) {
    match character.decoded {
        Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => (JsonMasker::String, character.raw),
        Some('u') => (JsonMasker::Hex(0), character.raw),
        _ => (JsonMasker::Invalid, replacement(character)),
    }
}

/// Replaces every `\u` escape with that of `x`, digit by digit.
fn in_hex(character: LiteralChar<'_>, count: usize) -> (JsonMasker, &str) {
    const DIGITS: [&str; 4] = ["0", "0", "7", "8"];
    let digit = DIGITS.get(count).filter(|_| character.decoded.is_some_and(|c| c.is_ascii_hexdigit()));
    match digit {
        Some(digit) if count == 3 => (JsonMasker::String, digit),
        Some(digit) => (JsonMasker::Hex(count + 1), digit),
        None => (JsonMasker::Invalid, replacement(character)),
    }
}

/// Splits the content of a string literal into characters. Invalid escapes are single characters.
fn characters(literal: &str) -> impl Iterator<Item = LiteralChar<'_>> {
    let mut rest = literal;
    std::iter::from_fn(move || {
        let length = length(rest)?;
        let (raw, after) = rest.split_at(length);
        rest = after;
        Some(LiteralChar { raw, decoded: decode(raw) })
    })
}

/// The length in bytes of the first character's spelling.
fn length(rest: &str) -> Option<usize> {
    let mut characters = rest.chars();
    let first = characters.next()?;
    if first != '\\' {
        return Some(first.len_utf8());
    }
    match characters.next() {
        Some('u') if rest.get(2..6).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit())) => Some(6),
        Some(second) => Some(1 + second.len_utf8()),
        None => Some(1),
    }
}

fn decode(raw: &str) -> Option<char> {
    let Some(escape) = raw.strip_prefix('\\') else { return raw.chars().next() };
    match escape.chars().next()? {
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'u' => char::from_u32(u32::from_str_radix(escape.get(1..)?, 16).ok()?),
        other => Some(other),
    }
}

/// The masked spelling of a character.
fn replacement(character: LiteralChar<'_>) -> &str {
    let Some(escape) = character.raw.strip_prefix('\\') else {
        return character.raw.chars().next().map_or("", mask_char);
    };
    let Some(digits) = escape.strip_prefix('u') else {
        return if matches!(character.raw, "\\\"" | "\\\\" | "\\/" | "\\b" | "\\f" | "\\n" | "\\r" | "\\t") {
            character.raw
        } else {
            "x"
        };
    };
    match u32::from_str_radix(digits, 16) {
        Ok(0..=0x1f) => character.raw,
        Ok(0xd800..=0xdbff) => "\\ud83d",
        Ok(0xdc00..=0xdfff) => "\\udc4b",
        _ => "\\u0078",
    }
}

fn mask_char(character: char) -> &'static str {
    const KEPT: &str = " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\n\r\t";
    match character {
        '0'..='9' => "1",
        _ if character.is_ascii() => KEPT.find(character).and_then(|at| KEPT.get(at..=at)).unwrap_or("x"),
        _ => match character.len_utf8() {
            2 => "é",
            3 => "文",
            _ => "👋",
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{JsonMasker, mask, mask_literal};

    #[test]
    fn masking_keeps_length_and_punctuation() {
        assert_eq!(
            mask_literal(r"Dear Bob,\n4 Grüße \u00e9\ud83d\ude00 👋."),
            r"xxxx xxx,\n1 xxééx \u0078\ud83d\udc4b 👋."
        );
        assert_eq!(mask("me@example.com 10.0.0.7"), "xx@xxxxxxx.xxx 11.1.1.1");
    }

    #[test]
    fn masked_json_is_valid_json() {
        let literal = r#"{\"city\": \"Köln \\u00e9\\n\", \"n\": -12.5e3, \"ok\": [true, false, null]}"#;
        let masked = JsonMasker::default().mask_literal(literal);
        assert_eq!(masked, r#"{\"xxxx\": \"xéxx \\u0078\\n\", \"x\": -11.1e1, \"xx\": [true, false, null]}"#);
        let text: String = serde_json::from_str(&format!("\"{masked}\"")).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn invalid_json_is_masked() {
        for (literal, masked) in [("true lies", "true xxxx"), ("nothing", "nxxxxxx"), ("at_key", "xx_xxx")] {
            assert_eq!(JsonMasker::default().mask_literal(literal), masked);
        }
    }

    proptest! {
        #[test]
        fn masked_pieces_add_up_to_the_masked_text(text in any::<String>(), at in any::<prop::sample::Index>()) {
            let literal = serde_json::to_string(&text).unwrap();
            let literal = literal.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            // The backend splits texts between characters.
            let mut cuts: Vec<usize> = super::characters(literal).scan(0, |at, character| { *at += character.raw.len(); Some(*at) }).collect();
            cuts.push(0);
            let (left, right) = literal.split_at(cuts[at.index(cuts.len())]);
            prop_assert_eq!(mask_literal(left) + &mask_literal(right), mask_literal(literal));
            let mut masker = JsonMasker::default();
            let pieces = masker.mask_literal(left) + &masker.mask_literal(right);
            prop_assert_eq!(pieces, JsonMasker::default().mask_literal(literal));
        }

        #[test]
        fn no_letter_or_digit_survives(text in "[a-wyzA-Z02-9 ,.]{0,40}") {
            let masked = mask(&text);
            prop_assert!(masked.chars().all(|c| !c.is_alphanumeric() || c == 'x' || c == '1'));
            prop_assert_eq!(masked.len(), text.len());
        }
    }
}
