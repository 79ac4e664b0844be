//! Two kinds of string that the data path borrows instead of copying.
//!
//! [`Str`] is a text we have to read (a name, an id). [`RawText`] is a text we only pass on (a
//! delta): the characters between the quotes, still escaped, so that they can be spliced into the
//! client's JSON as they are. A lone surrogate, which no Rust string can hold, passes through.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

/// A JSON string, borrowed where it has no escapes. Unlike `Cow`, it borrows inside an `Option` too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Str<'a>(pub Cow<'a, str>);

impl<'a> Str<'a> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, borrowed or owned as it came.
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

/// The inside of a JSON string literal: escaped, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawText<'a>(&'a str);

impl<'a> RawText<'a> {
    /// Reads a literal; `None` when the JSON value is no string.
    #[must_use]
    pub fn from_raw(raw: &'a RawValue) -> Option<Self> {
        raw.get().strip_prefix('"')?.strip_suffix('"').map(Self)
    }

    /// The characters to place between two quotes of another JSON document.
    #[must_use]
    pub fn escaped(self) -> &'a str {
        self.0
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The text itself; a lone surrogate becomes replacement characters.
    #[must_use]
    pub fn decode(self) -> Cow<'a, str> {
        if memchr::memchr(b'\\', self.0.as_bytes()).is_none() {
            return Cow::Borrowed(self.0);
        }
        let literal = format!("\"{}\"", self.0);
        let read = serde_json::Deserializer::from_str(&literal).deserialize_bytes(LossyVisitor);
        Cow::Owned(read.unwrap_or_default())
    }

    /// Length in UTF-16 code units: the unit of a `\u` escape, so that a surrogate pair that is
    /// split between two deltas counts as in one text.
    #[must_use]
    pub fn units(self) -> usize {
        Units { rest: self.0 }.map(|(_, units)| units).sum()
    }

    /// What follows the first `units` UTF-16 code units; empty when there is nothing more.
    #[must_use]
    pub fn after(self, units: usize) -> Self {
        let mut at = 0;
        let mut steps = Units { rest: self.0 };
        while at < units {
            let Some((_, step)) = steps.next() else { break };
            at += step;
        }
        Self(steps.rest)
    }
}

/// Steps over the escaped characters of a literal: the escaped form, and its UTF-16 code units.
struct Units<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Units<'a> {
    type Item = (&'a str, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.rest.chars().next()?;
        let (bytes, units) = match first {
            '\\' if self.rest.as_bytes().get(1) == Some(&b'u') => (6, 1),
            '\\' => (2, 1),
            other => (other.len_utf8(), other.len_utf16()),
        };
        let (step, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        Some((step, units))
    }
}

struct LossyVisitor;

impl Visitor<'_> for LossyVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<String, E> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        Self::from_raw(raw).ok_or_else(|| D::Error::custom("expected a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::{RawText, Str};

    fn raw(inside: &str) -> RawText<'_> {
        RawText(inside)
    }

    #[test]
    fn an_optional_text_is_borrowed() {
        #[derive(serde::Deserialize)]
        struct Holder<'a> {
            #[serde(borrow)]
            name: Option<Str<'a>>,
        }
        let holder: Holder<'_> = serde_json::from_str(r#"{"name":"plain"}"#).unwrap();
        assert!(matches!(holder.name, Some(Str(std::borrow::Cow::Borrowed("plain")))));
    }

    #[test]
    fn a_lone_surrogate_survives_unread() {
        let text: RawText<'_> = serde_json::from_str(r#""a\ud83d""#).unwrap();
        assert_eq!(text.escaped(), r"a\ud83d");
        assert!(text.decode().starts_with('a'));
    }

    #[test]
    fn split_surrogate_pairs_count_like_whole_ones() {
        let whole = raw(r"\ud83d\ude00").units();
        assert_eq!(raw(r"\ud83d").units() + raw(r"\ude00").units(), whole);
        assert_eq!(raw("\u{1F600}").units(), whole);
    }

    #[test]
    fn the_tail_starts_where_the_stream_stopped() {
        assert_eq!(raw(r"a\n\u00e9b").after(3).escaped(), "b");
        assert_eq!(raw("ab").after(9).escaped(), "");
        assert_eq!(raw(r"tab\tend").decode(), "tab\tend");
    }
}
