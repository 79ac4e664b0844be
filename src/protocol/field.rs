//! A value of a client's request that knows where it stands.
//!
//! A [`Field`] is read as the type it has to have; where it has another, the refusal names its
//! path (`messages[0].content[1].text`). The path is a chain of borrows, put into words only when
//! something is wrong. Texts are borrowed where they have no escapes; a lone surrogate, which no
//! Rust string can hold, becomes a replacement character.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use crate::error::{ProxyError, Refusal};
use crate::protocol::envelope::Envelope;
use crate::protocol::text::{RawText, Str};
use crate::protocol::words::Words;

/// A value and the way to it.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a, 'p> {
    raw: &'a RawValue,
    parent: Option<&'p Field<'a, 'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'p> {
    Name(&'p str),
    Index(usize),
}

impl<'a, 'p> Field<'a, 'p> {
    /// A member of the request itself.
    #[must_use]
    pub fn root(name: &'p str, raw: &'a RawValue) -> Self {
        Self { raw, parent: None, step: Step::Name(name) }
    }

    /// A member of `envelope`, which was read from this field; `None` where it is missing or null.
    #[must_use]
    pub fn member<'c>(&'c self, envelope: &Envelope<'a>, name: &'c str) -> Option<Field<'a, 'c>> {
        let raw = envelope.get(name)?;
        (raw.get() != "null").then_some(Field { raw, parent: Some(self), step: Step::Name(name) })
    }

    /// An element of the list that was read from this field.
    #[must_use]
    pub fn element<'c>(&'c self, index: usize, raw: &'a RawValue) -> Field<'a, 'c> {
        Field { raw, parent: Some(self), step: Step::Index(index) }
    }

    /// The value, unread.
    #[must_use]
    pub fn raw(&self) -> &'a RawValue {
        self.raw
    }

    /// Whether it is a string.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.raw.get().starts_with('"')
    }

    /// Whether it is a list.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.raw.get().starts_with('[')
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.raw.get().starts_with('{')
    }

    /// The value as a text.
    ///
    /// # Errors
    /// When it is no string.
    pub fn text(&self) -> Result<Cow<'a, str>, ProxyError> {
        let escaped = RawText::from_raw(self.raw).ok_or_else(|| self.must_be("a string"))?;
        match serde_json::from_str::<Str<'a>>(self.raw.get()) {
            Ok(text) => Ok(text.into_cow()),
            Err(_) => Ok(escaped.decode()),
        }
    }

    /// The value as a text to pass on.
    ///
    /// # Errors
    /// When it is no string.
    pub fn words(&self) -> Result<Words<'a>, ProxyError> {
        Words::of_literal(self.raw).ok_or_else(|| self.must_be("a string"))
    }

    /// The value as yes or no.
    ///
    /// # Errors
    /// When it is neither `true` nor `false`.
    pub fn flag(&self) -> Result<bool, ProxyError> {
        match self.raw.get() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.must_be("true or false")),
        }
    }

    /// The value as a number.
    ///
    /// # Errors
    /// When it is none.
    pub fn number(&self) -> Result<f64, ProxyError> {
        serde_json::from_str(self.raw.get()).map_err(|_| self.must_be("a number"))
    }

    /// The value as a list.
    ///
    /// # Errors
    /// When it is none.
    pub fn list(&self) -> Result<Vec<&'a RawValue>, ProxyError> {
        serde_json::from_str(self.raw.get()).map_err(|_| self.must_be("an array"))
    }

    /// The value as a list of texts.
    ///
    /// # Errors
    /// When it is none, or one of its elements is no string.
    pub fn texts(&self) -> Result<Vec<Cow<'a, str>>, ProxyError> {
        self.list()?.into_iter().enumerate().map(|(index, raw)| self.element(index, raw).text()).collect()
    }

    /// The elements of a list, each taken by one reader.
    ///
    /// # Errors
    /// When it is none, or the reader can't take an element.
    pub fn each<T>(&self, read: impl Fn(&Field<'a, '_>) -> Result<T, ProxyError>) -> Result<Vec<T>, ProxyError> {
        self.list()?.into_iter().enumerate().map(|(index, raw)| read(&self.element(index, raw))).collect()
    }

    /// Whether the value is another number than this one.
    ///
    /// # Errors
    /// When it is none.
    pub fn differs_from(&self, usual: f64) -> Result<bool, ProxyError> {
        Ok((self.number()? - usual).abs() > f64::EPSILON)
    }

    /// The value as an object.
    ///
    /// # Errors
    /// When it is none.
    pub fn object(&self) -> Result<Envelope<'a>, ProxyError> {
        Envelope::parse(self.raw.get()).map_err(|_| self.must_be("an object"))
    }

    /// The refusal of a value of the wrong type.
    #[must_use]
    pub fn must_be(&self, what: &str) -> ProxyError {
        Refusal::wrong_type(self.to_string(), format!("'{self}' must be {what}"))
    }

    /// The refusal of a value that can't be taken; `complaint` follows the path.
    #[must_use]
    pub fn invalid(&self, complaint: &str) -> ProxyError {
        Refusal::invalid(self.to_string(), format!("'{self}' {complaint}"))
    }

    /// The refusal of an object that lacks a member it has to have.
    #[must_use]
    pub fn lacks(&self, name: &str) -> ProxyError {
        Refusal::missing(format!("{self}.{name}"))
    }
}

impl fmt::Display for Field<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Name(name) if self.parent.is_none() => f.write_str(name),
            Step::Name(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::value::RawValue;

    use super::Field;
    use crate::error::ProxyError;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_refusal_names_the_whole_path() {
        let list = Field::root("messages", raw(r#"[0, {"content": 5}]"#));
        let message = list.element(1, list.list().unwrap()[1]);
        let members = message.object().unwrap();
        let content = message.member(&members, "content").unwrap();
        let Err(ProxyError::Refused(refusal)) = content.text() else { panic!("a number is no text") };
        assert_eq!(refusal.param.as_deref(), Some("messages[1].content"));
        assert_eq!(refusal.code, Some("invalid_type"));
    }

    #[test]
    fn a_plain_text_is_borrowed_and_a_lone_surrogate_replaced() {
        let plain = Field::root("x", raw(r#""data:image/png;base64,AAAA""#)).text().unwrap();
        assert!(matches!(plain, Cow::Borrowed(_)));
        let odd = Field::root("x", raw(r#""a\ud83db""#)).text().unwrap();
        assert!(odd.starts_with('a') && odd.ends_with('b'));
    }

    #[test]
    fn null_counts_as_missing() {
        let object = Field::root("x", raw(r#"{"a":null}"#));
        let members = object.object().unwrap();
        assert!(object.member(&members, "a").is_none());
    }
}
