//! Borrowed strings for the data path.
//!
//! [`Str`] is a decoded string, such as a name or an id. [`RawText`] is a string that is only forwarded, such as a
//! delta: the escaped characters between the quotes, which can be copied into other JSON. A lone surrogate passes
//! through `RawText` unchanged; `Str` can't be read from a literal with one. [`Prefix`] is the fingerprint of a
//! string's beginning.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

/// A decoded JSON string, borrowed if it has no escapes. Unlike `Cow`, it also borrows inside an `Option`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Str<'a>(pub Cow<'a, str>);

impl<'a> Str<'a> {
    /// The string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Converts to a `Cow`.
    #[must_use]
    pub fn into_cow(self) -> Cow<'a, str> {
        self.0
    }
}

impl<'a> From<&'a str> for Str<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl serde::Serialize for Str<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

struct StrVisitor;

impl<'de> Visitor<'de> for StrVisitor {
    type Value = Str<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Str(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Str(Cow::Owned(text.to_owned())))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(StrVisitor)
    }
}

/// The contents of a JSON string literal: escaped, without quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawText<'a>(&'a str);

impl<'a> RawText<'a> {
    /// The contents of a JSON value; `None` if it is not a string.
    #[must_use]
    pub fn from_raw(raw: &'a RawValue) -> Option<Self> {
        raw.get().strip_prefix('"')?.strip_suffix('"').map(Self)
    }

    /// Wraps escaped contents, as returned by [`Self::escaped`].
    #[must_use]
    pub fn from_escaped(escaped: &'a str) -> Self {
        Self(escaped)
    }

    /// The escaped characters, for use between the quotes of another literal.
    #[must_use]
    pub fn escaped(self) -> &'a str {
        self.0
    }

    /// Whether the string is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Whether the string is empty or has only white space.
    #[must_use]
    pub fn is_blank(self) -> bool {
        self.scalars().all(|(_, scalar)| scalar.is_whitespace())
    }

    /// Decodes the string. A lone surrogate becomes U+FFFD.
    #[must_use]
    pub fn decode(self) -> Cow<'a, str> {
        if memchr::memchr(b'\\', self.0.as_bytes()).is_none() {
            return Cow::Borrowed(self.0);
        }
        let literal = format!("\"{}\"", self.0);
        Cow::Owned(
            serde_json::from_str(&literal).unwrap_or_else(|_| self.scalars().map(|(_, scalar)| scalar).collect()),
        )
    }

    /// The length in Unicode scalar values. Low surrogates don't count, so that a pair counts once even if it is split
    /// between two deltas.
    #[must_use]
    pub fn scalar_count(self) -> usize {
        if memchr::memchr(b'\\', self.0.as_bytes()).is_none() {
            return self.0.chars().count();
        }
        EscapedChars { rest: self.0 }.filter(|escaped| !code_unit(escaped).is_some_and(is_low_surrogate)).count()
    }

    /// The scalar values, each with its escaped form. A lone surrogate becomes U+FFFD.
    pub fn scalars(self) -> impl Iterator<Item = (&'a str, char)> {
        Scalars { rest: self.0 }
    }

    /// Whether the string ends in an unpaired high surrogate.
    #[must_use]
    pub fn ends_in_high_surrogate(self) -> bool {
        let last = self.0.len().checked_sub(6).and_then(|start| self.0.get(start..));
        // Only a scan from the start shows whether the backslash is itself escaped. It is rarely needed.
        last.and_then(code_unit).is_some_and(is_high_surrogate)
            && EscapedChars { rest: self.0 }.last().and_then(code_unit).is_some_and(is_high_surrogate)
    }
}

/// The length and the hash of a string's beginning, to compare it with a string that arrives later.
///
/// Both are computed over UTF-16 code units, the unit of a `\u` escape, so they depend neither on how the string is
/// escaped nor on how it is split into deltas. The hash isn't cryptographic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    units: usize,
    hash: u64,
}

impl Prefix {
    /// Adds the next delta to the prefix.
    pub fn push(&mut self, text: RawText<'_>) {
        self.advance(text.0, usize::MAX);
    }

    /// Returns the rest of a string after this prefix; `None` if the string doesn't start with it.
    #[must_use]
    pub fn rest_of(self, whole: RawText<'_>) -> Option<RawText<'_>> {
        let mut seen = Self::default();
        let rest = seen.advance(whole.0, self.units);
        (seen == self).then_some(RawText(rest))
    }

    /// Adds characters until the length reaches `units`. Returns the rest.
    fn advance<'t>(&mut self, escaped: &'t str, units: usize) -> &'t str {
        let mut chars = EscapedChars { rest: escaped };
        while self.units < units {
            match chars.rest.as_bytes() {
                [byte, ..] if byte.is_ascii() && *byte != b'\\' => {
                    self.add(u16::from(*byte));
                    chars.rest = chars.rest.get(1..).unwrap_or_default();
                }
                _ => {
                    let Some(escaped) = chars.next() else { break };
                    self.add_escaped(escaped);
                }
            }
        }
        chars.rest
    }

    /// Adds one escaped character.
    fn add_escaped(&mut self, escaped: &str) {
        let mut units = [0; 2];
        match code_unit(escaped) {
            Some(unit) => self.add(unit),
            None => {
                for unit in unescape(escaped).encode_utf16(&mut units) {
                    self.add(*unit);
                }
            }
        }
    }

    fn add(&mut self, unit: u16) {
        /// The prime of the 64-bit FNV hash.
        const PRIME: u64 = 0x0100_0000_01b3;
        self.units += 1;
        self.hash = (self.hash ^ u64::from(unit)).wrapping_mul(PRIME);
    }
}

/// Iterates over the characters of a literal in their escaped form.
struct EscapedChars<'a> {
    rest: &'a str,
}

impl<'a> Iterator for EscapedChars<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.rest.chars().next()?;
        let bytes = match first {
            '\\' if self.rest.as_bytes().get(1) == Some(&b'u') => 6,
            '\\' => 2,
            other => other.len_utf8(),
        };
        let (escaped, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        Some(escaped)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        Self::from_raw(raw).ok_or_else(|| D::Error::custom("expected a string"))
    }
}

/// Iterates over the scalar values of a literal.
struct Scalars<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Scalars<'a> {
    type Item = (&'a str, char);

    fn next(&mut self) -> Option<Self::Item> {
        let first = EscapedChars { rest: self.rest }.next()?;
        let pair = code_unit(first).filter(|unit| is_high_surrogate(*unit)).and_then(|high| self.pair(high));
        let (bytes, scalar) = pair.unwrap_or_else(|| (first.len(), unescape(first)));
        let (escaped, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some((escaped, scalar))
    }
}

impl Scalars<'_> {
    /// The escaped length and the value of the surrogate pair at the start, given its high surrogate.
    fn pair(&self, high: u16) -> Option<(usize, char)> {
        let low = code_unit(self.rest.get(6..12)?)?;
        let scalar = char::decode_utf16([high, low]).next()?.ok()?;
        Some((12, scalar))
    }
}

/// The code unit of a `\u` escape; `None` for any other character.
fn code_unit(escaped: &str) -> Option<u16> {
    u16::from_str_radix(escaped.strip_prefix("\\u")?, 16).ok()
}

fn is_high_surrogate(unit: u16) -> bool {
    (0xD800..0xDC00).contains(&unit)
}

fn is_low_surrogate(unit: u16) -> bool {
    (0xDC00..0xE000).contains(&unit)
}

/// The scalar value of a character or an escape.
fn unescape(escaped: &str) -> char {
    if let Some(unit) = code_unit(escaped) {
        return char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER);
    }
    match escaped {
        "\\b" => '\u{8}',
        "\\f" => '\u{c}',
        "\\n" => '\n',
        "\\r" => '\r',
        "\\t" => '\t',
        other => other.chars().next_back().unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Prefix, RawText, Str};

    fn raw(inside: &str) -> RawText<'_> {
        RawText(inside)
    }

    #[test]
    fn an_optional_string_is_borrowed() {
        #[derive(serde::Deserialize)]
        struct Holder<'a> {
            #[serde(borrow)]
            name: Option<Str<'a>>,
        }
        let holder: Holder<'_> = serde_json::from_str(r#"{"name":"plain"}"#).unwrap();
        assert!(matches!(holder.name, Some(Str(std::borrow::Cow::Borrowed("plain")))));
    }

    #[test]
    fn a_lone_surrogate_is_preserved() {
        let text: RawText<'_> = serde_json::from_str(r#""a\ud83d""#).unwrap();
        assert_eq!(text.escaped(), r"a\ud83d");
        assert_eq!(text.decode(), "a\u{fffd}");
    }

    fn prefix(pieces: &[&str]) -> Prefix {
        let mut prefix = Prefix::default();
        for piece in pieces {
            prefix.push(raw(piece));
        }
        prefix
    }

    #[test]
    fn a_prefix_does_not_depend_on_splits_and_escapes() {
        let whole = prefix(&[r"a\u00ef\ud83d\ude00\n/"]);
        for pieces in [&["a\u{ef}\u{1F600}", r"\u000a\/"][..], &["a", "", r"\u00EF\ud83d", r"\ude00\n/"]] {
            assert_eq!(prefix(pieces), whole, "{pieces:?}");
        }
        assert_ne!(prefix(&["ab"]), prefix(&["ba"]));
    }

    #[test]
    fn the_rest_starts_where_the_prefix_ends() {
        let rest = |pieces: &[&str], whole| prefix(pieces).rest_of(raw(whole)).map(RawText::escaped);
        assert_eq!(rest(&["a", r"\n\u00e9"], "a\\n\u{e9}b"), Some("b"));
        assert_eq!(rest(&[], "ab"), Some("ab"));
        assert_eq!(rest(&["ab"], "ab"), Some(""));
        assert_eq!(rest(&["ab"], "a"), None, "the string is shorter");
        assert_eq!(rest(&["ac"], "abc"), None, "a delta is missing");
        assert_eq!(rest(&[r"\ud83d"], "\u{1F600}"), None, "a lone surrogate is no prefix of its pair");
        assert_eq!(raw(r"tab\tend").decode(), "tab\tend");
    }

    #[test]
    fn a_split_surrogate_pair_counts_once() {
        assert_eq!(raw(r"a\ud83d\ude00\n").scalar_count(), 3);
        assert_eq!(raw(r"a\ud83d").scalar_count() + raw(r"\ude00").scalar_count(), 2);
        assert!(raw(r"a\ud83d").ends_in_high_surrogate());
        assert!(!raw(r"a\ud83d\ude00").ends_in_high_surrogate());
        assert!(!raw(r"\\ud83d").ends_in_high_surrogate());
    }

    #[test]
    fn lone_surrogates_become_replacement_characters() {
        let found: Vec<_> = raw(r"\ud83dx\ude00\/\t").scalars().collect();
        let lost = char::REPLACEMENT_CHARACTER;
        assert_eq!(found, [(r"\ud83d", lost), ("x", 'x'), (r"\ude00", lost), (r"\/", '/'), (r"\t", '\t')]);
    }

    proptest! {
        #[test]
        fn scalars_are_those_of_the_decoded_string(text in any::<String>()) {
            let literal = serde_json::to_string(&text).unwrap();
            let ascii: String = literal.encode_utf16().map(|unit| match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
                _ => format!("\\u{unit:04x}"),
            }).collect();
            for literal in [literal, ascii] {
                let raw: RawText<'_> = serde_json::from_str(&literal).unwrap();
                prop_assert_eq!(raw.scalars().map(|(_, scalar)| scalar).collect::<String>(), text.clone());
                prop_assert_eq!(raw.scalars().map(|(escaped, _)| escaped).collect::<String>(), raw.escaped());
                prop_assert_eq!(raw.scalar_count(), text.chars().count());
                let mut whole = Prefix::default();
                whole.push(raw);
                prop_assert_eq!(whole.rest_of(raw).map(RawText::escaped), Some(""));
            }
        }
    }
}
