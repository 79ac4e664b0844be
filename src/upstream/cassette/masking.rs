//! Texts replaced by their shape: as long, with the same escapes, and nothing of what they say.
//!
//! The replacement goes character by character, so that the pieces of a text that is streamed add
//! up to the replacement of the whole text, wherever it was split. Works on the inside of a JSON
//! string literal as it is written: an escape stays an escape. Pure.

/// One character of a string literal, as it is written there.
#[derive(Clone, Copy, Debug)]
struct Unit<'t> {
    raw: &'t str,
    character: Option<char>,
}

/// How far into a JSON text that comes in pieces we are. What is no JSON gives nothing away: from
/// the first character that can't be there, it is replaced like any other text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Inside {
    #[default]
    Value,
    Number,
    /// What is left of `true`, `false` or `null`.
    Literal(&'static str),
    Text,
    Escape,
    /// Digits of a `\u` escape so far.
    Hex(usize),
    /// It is no JSON.
    Lost,
}

/// The shape of a text; `literal` is the inside of a string literal, and so is what comes out.
pub(super) fn of_literal(literal: &str) -> String {
    units(literal).map(replacement).collect()
}

/// A text as long as this one, with its spaces and signs, and nothing of what it says.
#[must_use]
pub fn of_text(text: &str) -> String {
    text.chars().map(plain).collect()
}

impl Inside {
    /// The shape of a piece of a JSON text inside a string literal: texts and digits are replaced,
    /// and it is JSON as before.
    pub(super) fn of_literal(&mut self, literal: &str) -> String {
        units(literal).map(|unit| self.step(unit)).collect()
    }

    fn step<'t>(&mut self, unit: Unit<'t>) -> &'t str {
        let (next, written) = match *self {
            Self::Text => within_text(unit),
            Self::Escape => after_backslash(unit),
            Self::Hex(count) => hex(unit, count),
            Self::Lost => (Self::Lost, replacement(unit)),
            Self::Value | Self::Number | Self::Literal(_) => self.outside(unit),
        };
        *self = next;
        written
    }

    fn outside(self, unit: Unit<'_>) -> (Self, &str) {
        match (self, unit.character) {
            (_, Some('"')) => (Self::Text, unit.raw),
            (_, Some('{' | '}' | '[' | ']' | ':' | ',' | ' ' | '\n' | '\r' | '\t')) => (Self::Value, unit.raw),
            (Self::Value | Self::Number, Some('0'..='9')) => (Self::Number, "1"),
            (Self::Value | Self::Number, Some('-')) | (Self::Number, Some('+' | '.' | 'e' | 'E')) => {
                (Self::Number, unit.raw)
            }
            (Self::Value, Some('t')) => (Self::Literal("rue"), unit.raw),
            (Self::Value, Some('f')) => (Self::Literal("alse"), unit.raw),
            (Self::Value, Some('n')) => (Self::Literal("ull"), unit.raw),
            (Self::Literal(rest), Some(character)) => match rest.strip_prefix(character) {
                Some(rest) => (Self::Literal(rest), unit.raw),
                None => (Self::Lost, replacement(unit)),
            },
            _ => (Self::Lost, replacement(unit)),
        }
    }
}

fn within_text(unit: Unit<'_>) -> (Inside, &str) {
    match unit.character {
        Some('"') => (Inside::Value, unit.raw),
        Some('\\') => (Inside::Escape, unit.raw),
        _ => (Inside::Text, replacement(unit)),
    }
}

fn after_backslash(unit: Unit<'_>) -> (Inside, &str) {
    match unit.character {
        Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => (Inside::Text, unit.raw),
        Some('u') => (Inside::Hex(0), unit.raw),
        _ => (Inside::Lost, replacement(unit)),
    }
}

/// Every escaped character becomes an x.
fn hex(unit: Unit<'_>, count: usize) -> (Inside, &str) {
    const DIGITS: [&str; 4] = ["0", "0", "7", "8"];
    let digit = DIGITS.get(count).filter(|_| unit.character.is_some_and(|c| c.is_ascii_hexdigit()));
    match digit {
        Some(digit) if count == 3 => (Inside::Text, digit),
        Some(digit) => (Inside::Hex(count + 1), digit),
        None => (Inside::Lost, replacement(unit)),
    }
}

/// The characters of a literal. What no literal can hold is taken as it stands.
fn units(literal: &str) -> impl Iterator<Item = Unit<'_>> {
    let mut rest = literal;
    std::iter::from_fn(move || {
        let length = length(rest)?;
        let (raw, after) = rest.split_at(length);
        rest = after;
        Some(Unit { raw, character: decoded(raw) })
    })
}

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

fn decoded(raw: &str) -> Option<char> {
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

/// What stands for a character.
fn replacement(unit: Unit<'_>) -> &str {
    let Some(escape) = unit.raw.strip_prefix('\\') else { return unit.raw.chars().next().map_or("", plain) };
    let Some(digits) = escape.strip_prefix('u') else {
        return if matches!(unit.raw, "\\\"" | "\\\\" | "\\/" | "\\b" | "\\f" | "\\n" | "\\r" | "\\t") {
            unit.raw
        } else {
            "x"
        };
    };
    match u32::from_str_radix(digits, 16) {
        Ok(0..=0x1f) => unit.raw,
        Ok(0xd800..=0xdbff) => "\\ud83d",
        Ok(0xdc00..=0xdfff) => "\\udc4b",
        _ => "\\u0078",
    }
}

fn plain(character: char) -> &'static str {
    const SIGNS: &str = " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\n\r\t";
    match character {
        '0'..='9' => "1",
        _ if character.is_ascii() => SIGNS.find(character).and_then(|at| SIGNS.get(at..=at)).unwrap_or("x"),
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

    use super::{Inside, of_literal, of_text};

    #[test]
    fn a_text_keeps_its_shape_and_says_nothing() {
        assert_eq!(
            of_literal(r"Dear Bob,\n4 Grüße \u00e9\ud83d\ude00 👋."),
            r"xxxx xxx,\n1 xxééx \u0078\ud83d\udc4b 👋."
        );
        assert_eq!(of_text("me@example.com 10.0.0.7"), "xx@xxxxxxx.xxx 11.1.1.1");
    }

    #[test]
    fn json_stays_json() {
        let literal = r#"{\"city\": \"Köln \\u00e9\\n\", \"n\": -12.5e3, \"ok\": [true, false, null]}"#;
        let shaped = Inside::default().of_literal(literal);
        assert_eq!(shaped, r#"{\"xxxx\": \"xéxx \\u0078\\n\", \"x\": -11.1e1, \"xx\": [true, false, null]}"#);
        let text: String = serde_json::from_str(&format!("\"{shaped}\"")).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn what_is_no_json_gives_nothing_away() {
        for (literal, shaped) in [("true lies", "true xxxx"), ("nothing", "nxxxxxx"), ("at_key", "xx_xxx")] {
            assert_eq!(Inside::default().of_literal(literal), shaped);
        }
    }

    proptest! {
        #[test]
        fn pieces_add_up_wherever_a_text_is_split(text in any::<String>(), at in any::<prop::sample::Index>()) {
            let literal = serde_json::to_string(&text).unwrap();
            let literal = literal.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            // The backend splits between characters.
            let mut cuts: Vec<usize> = super::units(literal).scan(0, |at, unit| { *at += unit.raw.len(); Some(*at) }).collect();
            cuts.push(0);
            let (left, right) = literal.split_at(cuts[at.index(cuts.len())]);
            prop_assert_eq!(of_literal(left) + &of_literal(right), of_literal(literal));
            let mut inside = Inside::default();
            let pieces = inside.of_literal(left) + &inside.of_literal(right);
            prop_assert_eq!(pieces, Inside::default().of_literal(literal));
        }

        #[test]
        fn no_letter_or_digit_survives(text in "[a-wyzA-Z02-9 ,.]{0,40}") {
            let shaped = of_text(&text);
            prop_assert!(shaped.chars().all(|c| !c.is_alphanumeric() || c == 'x' || c == '1'));
            prop_assert_eq!(shaped.len(), text.len());
        }
    }
}
