//! A value of a request together with its path, for error messages.
//!
//! A [`Field`] is read as the type it must have. If it has another type, the error names its path, such as
//! `messages[0].content[1].text`. The path is a chain of borrows and is formatted only for an error. Strings are
//! borrowed if they have no escapes; a lone surrogate, which a Rust string can't hold, becomes U+FFFD.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use crate::error::{ProxyError, Refusal};
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::raw_object::{Open, RawObject, Value};
use crate::protocol::json::string::{RawText, Str};

/// A JSON value and its path in the request.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a, 'p> {
    value: FieldValue<'a, 'p>,
    parent: Option<&'p Field<'a, 'p>>,
    segment: Segment<'p>,
}

#[derive(Clone, Copy, Debug)]
enum FieldValue<'a, 'p> {
    Raw(&'a RawValue),
    /// An array or object that was parsed along with the body.
    Open(&'p Open<'a>),
}

/// The last segment of a path.
#[derive(Clone, Copy, Debug)]
enum Segment<'p> {
    Name(&'p str),
    Index(usize),
}

impl<'a, 'p> Field<'a, 'p> {
    /// A value whose path consists of `name`.
    #[must_use]
    pub fn root(name: &'p str, raw: &'a RawValue) -> Self {
        Self { value: FieldValue::Raw(raw), parent: None, segment: Segment::Name(name) }
    }

    /// A top-level member of a request body, which may be parsed already.
    #[must_use]
    pub fn from_body(name: &'p str, value: &'p Value<'a>) -> Self {
        Self { value: FieldValue::new(value), parent: None, segment: Segment::Name(name) }
    }

    /// Returns a member of `members`, which must come from this field's [`Self::object`]. `None` if the member is
    /// missing or null.
    #[must_use]
    pub fn member<'c>(&'c self, members: &'c RawObject<'a>, name: &'c str) -> Option<Field<'a, 'c>> {
        let value = members.value(name).filter(|value| !value.is_null())?;
        Some(Field { value: FieldValue::new(value), parent: Some(self), segment: Segment::Name(name) })
    }

    /// Returns the members that are not null, in order. `members` must come from this field's [`Self::object`].
    pub fn fields<'c>(&'c self, members: &'c RawObject<'a>) -> impl Iterator<Item = (&'c str, Field<'a, 'c>)> {
        let sent = members.members().iter().filter(|(_, value)| !value.is_null());
        sent.map(|(name, value)| {
            (&**name, Field { value: FieldValue::new(value), parent: Some(self), segment: Segment::Name(name) })
        })
    }

    /// Returns a member that must be present.
    ///
    /// # Errors
    /// If the member is missing or null.
    pub fn required<'c>(&'c self, members: &'c RawObject<'a>, name: &'c str) -> Result<Field<'a, 'c>, ProxyError> {
        self.member(members, name).ok_or_else(|| self.lacks(name))
    }

    /// Returns a string member; `None` if it is missing or null.
    ///
    /// # Errors
    /// If the member is not a string.
    pub fn optional_text(&self, members: &RawObject<'a>, name: &str) -> Result<Option<Cow<'a, str>>, ProxyError> {
        self.member(members, name).map(|member| member.text()).transpose()
    }

    /// Returns a boolean member; `false` if it is missing or null.
    ///
    /// # Errors
    /// If the member is not a boolean.
    pub fn optional_flag(&self, members: &RawObject<'a>, name: &str) -> Result<bool, ProxyError> {
        self.member(members, name).map_or(Ok(false), |member| member.flag())
    }

    /// An element of this array, which must come from [`Self::list`].
    #[must_use]
    pub fn element<'c>(&'c self, index: usize, value: &'c Value<'a>) -> Field<'a, 'c> {
        Field { value: FieldValue::new(value), parent: Some(self), segment: Segment::Index(index) }
    }

    /// The JSON text of the value.
    #[must_use]
    pub fn json(&self) -> &'a str {
        match self.value {
            FieldValue::Raw(raw) => raw.get(),
            FieldValue::Open(open) => open.text(),
        }
    }

    /// The value as raw JSON.
    #[must_use]
    pub fn raw(&self) -> &'a RawValue {
        match self.value {
            FieldValue::Raw(raw) => raw,
            FieldValue::Open(open) => open.raw(),
        }
    }

    /// Whether the value is a string.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.json().starts_with('"')
    }

    /// Whether the value is an array.
    #[must_use]
    pub fn is_list(&self) -> bool {
        self.json().starts_with('[')
    }

    /// Whether the value is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.json().starts_with('{')
    }

    /// Decodes the value as a string.
    ///
    /// # Errors
    /// If the value is not a string.
    pub fn text(&self) -> Result<Cow<'a, str>, ProxyError> {
        let escaped = self.literal().and_then(RawText::from_raw).ok_or_else(|| self.must_be("a string"))?;
        match serde_json::from_str::<Str<'a>>(self.json()) {
            Ok(text) => Ok(text.into_cow()),
            Err(_) => Ok(escaped.decode()),
        }
    }

    /// Returns the value as a string to forward. Decodes it only if it may contain a lone surrogate.
    ///
    /// # Errors
    /// If the value is not a string.
    pub fn json_text(&self) -> Result<JsonText<'a>, ProxyError> {
        self.literal().and_then(JsonText::from_literal).ok_or_else(|| self.must_be("a string"))
    }

    /// The raw value, unless it is an array or object that is parsed already.
    fn literal(&self) -> Option<&'a RawValue> {
        if let FieldValue::Raw(raw) = self.value { Some(raw) } else { None }
    }

    /// Reads the value as a boolean.
    ///
    /// # Errors
    /// If the value is neither `true` nor `false`.
    pub fn flag(&self) -> Result<bool, ProxyError> {
        match self.json() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.must_be("true or false")),
        }
    }

    /// Reads the value as a number.
    ///
    /// # Errors
    /// If the value is not a number.
    pub fn number(&self) -> Result<f64, ProxyError> {
        serde_json::from_str(self.json()).map_err(|_| self.must_be("a number"))
    }

    /// Reads the value as a non-negative integer; `None` if it is anything else. Accepts `4096.0`, which clients with a
    /// single number type write and JSON Schema calls an integer.
    #[must_use]
    pub fn whole_number(&self) -> Option<u64> {
        let json = self.json();
        json.parse().ok().or_else(|| whole(serde_json::from_str(json).ok()?))
    }

    /// Reads the value as an array.
    ///
    /// # Errors
    /// If the value is not an array.
    pub fn list(&self) -> Result<Cow<'p, [Value<'a>]>, ProxyError> {
        let list = match self.value {
            FieldValue::Raw(raw) => serde_json::from_str(raw.get())
                .ok()
                .map(|list: Vec<&'a RawValue>| Cow::Owned(list.into_iter().map(Value::Raw).collect())),
            FieldValue::Open(open) => open.list().map(Cow::Borrowed),
        };
        list.ok_or_else(|| self.must_be("an array"))
    }

    /// Reads the value as an array of strings.
    ///
    /// # Errors
    /// If the value is not an array, or an element is not a string.
    pub fn texts(&self) -> Result<Vec<Cow<'a, str>>, ProxyError> {
        self.each(|element: &Field<'a, '_>| element.text())
    }

    /// Reads the value as an array, and each element with `read`.
    ///
    /// # Errors
    /// If the value is not an array, or `read` fails for an element.
    pub fn each<T>(&self, read: impl Fn(&Field<'a, '_>) -> Result<T, ProxyError>) -> Result<Vec<T>, ProxyError> {
        self.list()?.iter().enumerate().map(|(index, value)| read(&self.element(index, value))).collect()
    }

    /// Whether the value is a number other than `default`.
    ///
    /// # Errors
    /// If the value is not a number.
    pub fn differs_from(&self, default: f64) -> Result<bool, ProxyError> {
        Ok((self.number()? - default).abs() > f64::EPSILON)
    }

    /// Reads the value as an object.
    ///
    /// # Errors
    /// If the value is not an object.
    pub fn object(&self) -> Result<Cow<'p, RawObject<'a>>, ProxyError> {
        let members = match self.value {
            FieldValue::Raw(raw) => RawObject::parse(raw.get()).ok().map(Cow::Owned),
            FieldValue::Open(open) => open.object().map(Cow::Borrowed),
        };
        members.ok_or_else(|| self.must_be("an object"))
    }

    /// The error for a value of the wrong type.
    #[must_use]
    pub fn must_be(&self, expected: &str) -> ProxyError {
        Refusal::wrong_type(self.to_string(), format!("'{self}' must be {expected}"))
    }

    /// The error for an invalid value: the path, followed by `complaint`.
    #[must_use]
    pub fn invalid(&self, complaint: &str) -> ProxyError {
        Refusal::invalid(self.to_string(), format!("'{self}' {complaint}"))
    }

    /// The error for an object without the required member `name`.
    #[must_use]
    pub fn lacks(&self, name: &str) -> ProxyError {
        Refusal::missing(format!("{self}.{name}"))
    }
}

/// Converts a number to an integer; `None` if it is negative or has a fraction.
#[must_use]
pub fn whole(number: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and positive; `as` saturates")]
    (number >= 0.0 && number.fract() == 0.0).then_some(number as u64)
}

impl<'a, 'p> FieldValue<'a, 'p> {
    fn new(value: &'p Value<'a>) -> Self {
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
        match self.segment {
            Segment::Name(name) if self.parent.is_none() => f.write_str(name),
            Segment::Name(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
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
    fn an_error_names_the_whole_path() {
        let list = Field::root("messages", raw(r#"[0, {"content": 5}]"#));
        let elements = list.list().unwrap();
        let message = list.element(1, &elements[1]);
        let members = message.object().unwrap();
        let content = message.member(&members, "content").unwrap();
        let Err(ProxyError::Refused(refusal)) = content.text() else { panic!("expected a refusal") };
        assert_eq!(refusal.param.as_deref(), Some("messages[1].content"));
        assert_eq!(refusal.code, Some("invalid_type"));
    }

    #[test]
    fn a_string_without_escapes_is_borrowed_and_a_lone_surrogate_is_replaced() {
        let plain = Field::root("x", raw(r#""data:image/png;base64,AAAA""#)).text().unwrap();
        assert!(matches!(plain, Cow::Borrowed(_)));
        let odd = Field::root("x", raw(r#""a\ud83db""#)).text().unwrap();
        assert_eq!(odd, "a\u{fffd}b");
    }

    #[test]
    fn an_integer_may_have_a_zero_fraction() {
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
