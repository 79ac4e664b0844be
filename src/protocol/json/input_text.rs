//! A string that is forwarded from the client's JSON to the backend's.
//!
//! A string literal of the client is neither decoded nor escaped again, however long it is. Only a literal that may
//! contain a lone surrogate, which the backend rejects, is decoded; the lone surrogate becomes U+FFFD.

use std::borrow::Cow;

use memchr::memmem;
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::string::RawText;
use super::{from_string, quoted};

/// A string to forward. Two are equal if their decoded strings are.
#[derive(Clone, Debug)]
pub enum JsonText<'a> {
    /// A decoded string.
    Plain(Cow<'a, str>),
    /// A JSON string literal, with its quotes.
    Literal(Cow<'a, RawValue>),
}

impl<'a> JsonText<'a> {
    /// Wraps a JSON value; `None` if it is not a string.
    #[must_use]
    pub fn from_literal(raw: &'a RawValue) -> Option<Self> {
        let text = RawText::from_raw(raw)?;
        Some(if may_have_lone_surrogate(raw.get()) {
            Self::Plain(text.decode())
        } else {
            Self::Literal(Cow::Borrowed(raw))
        })
    }

    /// Returns the decoded string.
    #[must_use]
    pub fn read(&self) -> Cow<'_, str> {
        match self {
            Self::Plain(text) => Cow::Borrowed(text),
            Self::Literal(raw) => contents(raw).decode(),
        }
    }

    /// Whether the string is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Plain(text) => text.is_empty(),
            Self::Literal(raw) => contents(raw).is_empty(),
        }
    }

    /// Whether the string is empty or has only white space.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Plain(text) => text.trim().is_empty(),
            Self::Literal(raw) => contents(raw).is_blank(),
        }
    }

    /// The approximate length of the JSON literal in bytes, with quotes and escapes.
    #[must_use]
    pub fn written_bytes(&self) -> usize {
        match self {
            Self::Plain(text) => text.len() + text.len() / 16 + 2,
            Self::Literal(raw) => raw.get().len(),
        }
    }

    /// Whether the string starts with a prefix, ignoring ASCII case.
    #[must_use]
    pub fn starts_with(&self, prefix: &str) -> bool {
        let is_same = |(text, expected): (char, char)| text.eq_ignore_ascii_case(&expected);
        let length = prefix.chars().count();
        let same = match self {
            Self::Plain(text) => text.chars().zip(prefix.chars()).filter(|pair| is_same(*pair)).count(),
            Self::Literal(raw) => {
                let text = contents(raw).scalars().map(|(_, scalar)| scalar);
                text.zip(prefix.chars()).filter(|pair| is_same(*pair)).count()
            }
        };
        same == length
    }

    /// Returns the string with a prefix added.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Self {
        match self {
            Self::Plain(text) => Self::Plain(Cow::Owned([prefix, text].concat())),
            Self::Literal(raw) => {
                let prefix = quoted(prefix);
                let literal = [prefix.strip_suffix('"').unwrap_or_default(), contents(raw).escaped(), "\""].concat();
                Self::Literal(Cow::Owned(from_string(literal)))
            }
        }
    }

    /// The characters between the quotes of a literal, with their escapes; `None` if the string is decoded.
    #[must_use]
    pub fn escaped(&self) -> Option<&str> {
        match self {
            Self::Plain(_) => None,
            Self::Literal(raw) => Some(contents(raw).escaped()),
        }
    }
}

/// Whether a literal has an escape of a surrogate, which may be unpaired.
fn may_have_lone_surrogate(literal: &str) -> bool {
    let literal = literal.as_bytes();
    let Some(first) = memchr::memchr(b'\\', literal) else { return false };
    let literal = literal.get(first..).unwrap_or_default();
    let is_surrogate = |at: usize| matches!(literal.get(at + 2), Some(b'd' | b'D'));
    memmem::find_iter(literal, br"\u").any(is_surrogate)
}

fn contents(raw: &RawValue) -> RawText<'_> {
    RawText::from_raw(raw).unwrap_or(RawText::from_escaped(""))
}

impl Default for JsonText<'_> {
    fn default() -> Self {
        Self::Plain(Cow::Borrowed(""))
    }
}

impl PartialEq for JsonText<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.read() == other.read()
    }
}

impl Eq for JsonText<'_> {}

impl<'a> From<&'a str> for JsonText<'a> {
    fn from(text: &'a str) -> Self {
        Self::Plain(Cow::Borrowed(text))
    }
}

impl From<String> for JsonText<'_> {
    fn from(text: String) -> Self {
        Self::Plain(Cow::Owned(text))
    }
}

impl<'a> From<Cow<'a, str>> for JsonText<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self::Plain(text)
    }
}

impl Serialize for JsonText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(text) => serializer.serialize_str(text),
            Self::Literal(raw) => raw.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::JsonText;

    fn raw(literal: &str) -> &RawValue {
        serde_json::from_str(literal).unwrap()
    }

    #[test]
    fn a_literal_keeps_its_escapes() {
        let literal = r#""a\/\u00e9\n\"""#;
        let words = JsonText::from_literal(raw(literal)).unwrap();
        assert_eq!(serde_json::to_string(&words).unwrap(), literal);
        assert_eq!(words.read(), "a/é\n\"");
        assert!(JsonText::from_literal(raw("1")).is_none());
    }

    #[test]
    fn lone_surrogates_are_replaced() {
        for (literal, written) in
            [(r#""a\ud83d""#, "a\u{fffd}"), (r#""\uD83D\uDE00""#, "\u{1f600}"), (r#""\\ud83d""#, r"\ud83d")]
        {
            let left = serde_json::to_string(&JsonText::from_literal(raw(literal)).unwrap()).unwrap();
            assert_eq!(serde_json::from_str::<String>(&left).unwrap(), written);
        }
    }

    #[test]
    fn escaped_white_space_is_blank() {
        for (literal, is_blank) in [(r#""""#, true), (r#"" \n\u0020\t""#, true), (r#""\n.""#, false)] {
            assert_eq!(JsonText::from_literal(raw(literal)).unwrap().is_blank(), is_blank, "{literal}");
        }
    }

    #[test]
    fn a_prefix_can_be_added_and_found() {
        for text in [JsonText::from_literal(raw(r#""\u003cb\n""#)).unwrap(), JsonText::from("<b\n")] {
            assert!(text.starts_with("<B") && text.starts_with("") && !text.starts_with("<b\n "));
            assert_eq!(text.with_prefix("a \"").read(), "a \"<b\n");
        }
    }

    proptest! {
        #[test]
        fn a_literal_equals_its_decoded_string(text in any::<String>()) {
            let literal = serde_json::to_string(&text).unwrap();
            let words = JsonText::from_literal(raw(&literal)).unwrap();
            prop_assert_eq!(&words, &JsonText::from(text.as_str()));
            prop_assert_eq!(words.is_empty(), text.is_empty());
            prop_assert_eq!(serde_json::to_string(&words).unwrap(), literal.clone());
        }
    }
}
