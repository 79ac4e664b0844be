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
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::raw_object::{Open, RawObject, Value};
use crate::protocol::json::string::{RawText, Str};

/// A value and the way to it.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a, 'p> {
    value: Looked<'a, 'p>,
    parent: Option<&'p Field<'a, 'p>>,
    step: Step<'p>,
}

/// A value, opened or not.
#[derive(Clone, Copy, Debug)]
enum Looked<'a, 'p> {
    Raw(&'a RawValue),
    Open(&'p Open<'a>),
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
        Self { value: Looked::Raw(raw), parent: None, step: Step::Name(name) }
    }

    /// The same, with what was opened of it.
    #[must_use]
    pub fn from_body(name: &'p str, value: &'p Value<'a>) -> Self {
        Self { value: Looked::at(value), parent: None, step: Step::Name(name) }
    }

    /// A member of `envelope`, which was read from this field; `None` where it is missing or null.
    #[must_use]
    pub fn member<'c>(&'c self, envelope: &'c RawObject<'a>, name: &'c str) -> Option<Field<'a, 'c>> {
        let value = envelope.value(name).filter(|value| !value.is_null())?;
        Some(Field { value: Looked::at(value), parent: Some(self), step: Step::Name(name) })
    }

    /// An element of the list that was read from this field.
    #[must_use]
    pub fn element<'c>(&'c self, index: usize, value: &'c Value<'a>) -> Field<'a, 'c> {
        Field { value: Looked::at(value), parent: Some(self), step: Step::Index(index) }
    }

    /// The value's text.
    #[must_use]
    pub fn json(&self) -> &'a str {
        match self.value {
            Looked::Raw(raw) => raw.get(),
            Looked::Open(open) => open.text(),
        }
    }

    /// The value, unread.
    #[must_use]
    pub fn raw(&self) -> &'a RawValue {
        match self.value {
            Looked::Raw(raw) => raw,
            Looked::Open(open) => open.raw(),
        }
    }

    /// Whether it is a string.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.json().starts_with('"')
    }

    /// Whether it is a list.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.json().starts_with('[')
    }

    /// Whether it is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.json().starts_with('{')
    }

    /// The value as a text.
    ///
    /// # Errors
    /// When it is no string.
    pub fn text(&self) -> Result<Cow<'a, str>, ProxyError> {
        let escaped = self.literal().and_then(RawText::from_raw).ok_or_else(|| self.must_be("a string"))?;
        match serde_json::from_str::<Str<'a>>(self.json()) {
            Ok(text) => Ok(text.into_cow()),
            Err(_) => Ok(escaped.decode()),
        }
    }

    /// The value as a text to pass on.
    ///
    /// # Errors
    /// When it is no string.
    pub fn json_text(&self) -> Result<JsonText<'a>, ProxyError> {
        self.literal().and_then(JsonText::from_literal).ok_or_else(|| self.must_be("a string"))
    }

    /// What is neither a list nor an object, and may be a string.
    fn literal(&self) -> Option<&'a RawValue> {
        if let Looked::Raw(raw) = self.value { Some(raw) } else { None }
    }

    /// The value as yes or no.
    ///
    /// # Errors
    /// When it is neither `true` nor `false`.
    pub fn flag(&self) -> Result<bool, ProxyError> {
        match self.json() {
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
        serde_json::from_str(self.json()).map_err(|_| self.must_be("a number"))
    }

    /// The value as a whole number that is not negative. Some clients have only one type of number and write
    /// `4096.0`, which JSON Schema calls an integer.
    #[must_use]
    pub fn whole_number(&self) -> Option<u64> {
        let json = self.json();
        json.parse().ok().or_else(|| whole(serde_json::from_str(json).ok()?))
    }

    /// The value as a list.
    ///
    /// # Errors
    /// When it is none.
    pub fn list(&self) -> Result<Cow<'p, [Value<'a>]>, ProxyError> {
        let list = match self.value {
            Looked::Raw(raw) => serde_json::from_str(raw.get())
                .ok()
                .map(|list: Vec<&'a RawValue>| Cow::Owned(list.into_iter().map(Value::Raw).collect())),
            Looked::Open(open) => open.list().map(Cow::Borrowed),
        };
        list.ok_or_else(|| self.must_be("an array"))
    }

    /// The value as a list of texts.
    ///
    /// # Errors
    /// When it is none, or one of its elements is no string.
    pub fn texts(&self) -> Result<Vec<Cow<'a, str>>, ProxyError> {
        self.list()?.iter().enumerate().map(|(index, value)| self.element(index, value).text()).collect()
    }

    /// The elements of a list, each taken by one reader.
    ///
    /// # Errors
    /// When it is none, or the reader can't take an element.
    pub fn each<T>(&self, read: impl Fn(&Field<'a, '_>) -> Result<T, ProxyError>) -> Result<Vec<T>, ProxyError> {
        self.list()?.iter().enumerate().map(|(index, value)| read(&self.element(index, value))).collect()
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
    pub fn object(&self) -> Result<Cow<'p, RawObject<'a>>, ProxyError> {
        let members = match self.value {
            Looked::Raw(raw) => RawObject::parse(raw.get()).ok().map(Cow::Owned),
            Looked::Open(open) => open.object().map(Cow::Borrowed),
        };
        members.ok_or_else(|| self.must_be("an object"))
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

/// A number without a fraction that is not negative.
#[must_use]
pub fn whole(number: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and positive; `as` saturates")]
    (number >= 0.0 && number.fract() == 0.0).then_some(number as u64)
}

impl<'a, 'p> Looked<'a, 'p> {
    fn at(value: &'p Value<'a>) -> Self {
        match value {
            Value::Raw(raw) => Self::Raw(raw),
            Value::Open(open) => Self::Open(open),
        }
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
        let elements = list.list().unwrap();
        let message = list.element(1, &elements[1]);
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
        assert_eq!(odd, "a\u{fffd}b");
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction_of_zero() {
        for (json, number) in [
            ("4096", Some(4096)),
            ("4096.0", Some(4096)),
            ("4.096e3", Some(4096)),
            ("0.0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("1e300", Some(u64::MAX)),
            ("4096.5", None),
            ("-1", None),
            ("-1.0", None),
            (r#""4096""#, None),
            ("null", None),
        ] {
            assert_eq!(Field::root("x", raw(json)).whole_number(), number, "{json}");
        }
    }

    #[test]
    fn null_counts_as_missing() {
        let object = Field::root("x", raw(r#"{"a":null}"#));
        let members = object.object().unwrap();
        assert!(object.member(&members, "a").is_none());
    }
}
