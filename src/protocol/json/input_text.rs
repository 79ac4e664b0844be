//! A text on its way from the client's JSON into the backend's.
//!
//! What is only passed on is not read: a literal of the client's keeps its escapes, and is neither
//! decoded nor escaped again, however long it is. Only a literal that no Rust string could hold (with
//! half a surrogate pair) is read, so that what leaves is always text.

use std::borrow::Cow;

use memchr::memmem;
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::string::RawText;

/// A text to pass on.
#[derive(Clone, Debug)]
pub enum JsonText<'a> {
    /// Made or changed on the way.
    Plain(Cow<'a, str>),
    /// A literal of the client's, with its quotes.
    Literal(Cow<'a, RawValue>),
}

impl<'a> JsonText<'a> {
    /// The text of a literal; `None` when the value is no string.
    #[must_use]
    pub fn from_literal(raw: &'a RawValue) -> Option<Self> {
        let text = RawText::from_raw(raw)?;
        Some(if may_have_half_a_pair(raw.get()) {
            Self::Plain(text.decode())
        } else {
            Self::Literal(Cow::Borrowed(raw))
        })
    }

    /// The text itself.
    #[must_use]
    pub fn read(&self) -> Cow<'_, str> {
        match self {
            Self::Plain(text) => Cow::Borrowed(text),
            Self::Literal(raw) => inside(raw).decode(),
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Plain(text) => text.is_empty(),
            Self::Literal(raw) => inside(raw).is_empty(),
        }
    }

    /// Whether there is nothing but white space in it.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        match self {
            Self::Plain(text) => text.trim().is_empty(),
            Self::Literal(raw) => inside(raw).is_blank(),
        }
    }

    /// About how many bytes it takes in JSON.
    #[must_use]
    pub fn written_bytes(&self) -> usize {
        match self {
            Self::Plain(text) => text.len() + text.len() / 16 + 2,
            Self::Literal(raw) => raw.get().len(),
        }
    }

    /// Whether it begins so, in upper or lower case.
    #[must_use]
    pub fn starts_with(&self, beginning: &str) -> bool {
        let is_same = |(text, expected): (char, char)| text.eq_ignore_ascii_case(&expected);
        let length = beginning.chars().count();
        let same = match self {
            Self::Plain(text) => text.chars().zip(beginning.chars()).filter(|pair| is_same(*pair)).count(),
            Self::Literal(raw) => {
                let text = inside(raw).scalars().map(|(_, scalar)| scalar);
                text.zip(beginning.chars()).filter(|pair| is_same(*pair)).count()
            }
        };
        same == length
    }

    /// The same text after another one.
    #[must_use]
    pub fn after(&self, before: &str) -> Self {
        match self {
            Self::Plain(text) => Self::Plain(Cow::Owned([before, text].concat())),
            Self::Literal(raw) => {
                let before = serde_json::to_string(before).expect("a string always serialises");
                let literal = [before.strip_suffix('"').unwrap_or_default(), inside(raw).escaped(), "\""].concat();
                let literal = RawValue::from_string(literal).expect("two literals make one");
                Self::Literal(Cow::Owned(literal))
            }
        }
    }

    /// The characters between the quotes of a literal, unread.
    #[must_use]
    pub fn escaped(&self) -> Option<&str> {
        match self {
            Self::Plain(_) => None,
            Self::Literal(raw) => Some(inside(raw).escaped()),
        }
    }
}

/// Whether an escape stands in it that may be half a surrogate pair.
fn may_have_half_a_pair(literal: &str) -> bool {
    let literal = literal.as_bytes();
    let Some(first) = memchr::memchr(b'\\', literal) else { return false };
    let literal = literal.get(first..).unwrap_or_default();
    let is_half = |at: usize| matches!(literal.get(at + 2), Some(b'd' | b'D'));
    memmem::find_iter(literal, br"\u").any(is_half)
}

fn inside(raw: &RawValue) -> RawText<'_> {
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
    fn half_a_pair_never_leaves() {
        for (literal, written) in
            [(r#""a\ud83d""#, "a\u{fffd}"), (r#""\uD83D\uDE00""#, "\u{1f600}"), (r#""\\ud83d""#, r"\ud83d")]
        {
            let left = serde_json::to_string(&JsonText::from_literal(raw(literal)).unwrap()).unwrap();
            assert_eq!(serde_json::from_str::<String>(&left).unwrap(), written);
        }
    }

    #[test]
    fn white_space_may_be_escaped() {
        for (literal, is_blank) in [(r#""""#, true), (r#"" \n\u0020\t""#, true), (r#""\n.""#, false)] {
            assert_eq!(JsonText::from_literal(raw(literal)).unwrap().is_blank(), is_blank, "{literal}");
        }
    }

    #[test]
    fn a_text_may_come_after_another() {
        for words in [JsonText::from_literal(raw(r#""\u003cb\n""#)).unwrap(), JsonText::from("<b\n")] {
            assert!(words.starts_with("<B") && words.starts_with("") && !words.starts_with("<b\n "));
            assert_eq!(words.after("a \"").read(), "a \"<b\n");
        }
    }

    proptest! {
        #[test]
        fn what_is_passed_on_says_the_same(text in any::<String>()) {
            let literal = serde_json::to_string(&text).unwrap();
            let words = JsonText::from_literal(raw(&literal)).unwrap();
            prop_assert_eq!(&words, &JsonText::from(text.as_str()));
            prop_assert_eq!(words.is_empty(), text.is_empty());
            prop_assert_eq!(serde_json::to_string(&words).unwrap(), literal.clone());
        }
    }
}
