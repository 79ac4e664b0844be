//! A JSON object that keeps the order and raw text of its members.
//!
//! Requests are read member by member, so that an error can name the member and so that unknown members are forwarded
//! byte for byte. A [`RawObject`] borrows its text; only names with escapes are copied. Duplicate members are not an
//! error; the last one counts. The members of a request body that hold the conversation are parsed in the same pass as
//! the body ([`Value`]).

mod value;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::json::string::Str;

pub use value::{Open, Value};

/// The members of an object, in order.
#[derive(Clone, Debug, Default)]
pub struct RawObject<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> RawObject<'a> {
    /// Creates an object with these members.
    #[must_use]
    pub fn new(members: Vec<(Cow<'a, str>, Value<'a>)>) -> Self {
        Self(members)
    }

    /// Parses the text of an object.
    ///
    /// # Errors
    /// If the text is not JSON or not an object.
    pub fn parse(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// Parses a request body, including the nested values of the conversation that the dialects read.
    ///
    /// # Errors
    /// If the body is not a JSON object. The error never quotes the body, since errors may be logged and prompts
    /// may not.
    pub fn from_body(body: &'a [u8]) -> Result<Self, ProxyError> {
        let text = std::str::from_utf8(body).map_err(|_| Refusal::body("the request body is not UTF-8"))?;
        if let Some(members) = value::open(text, parsed_levels) {
            return Ok(members);
        }
        Self::parse(text).map_err(|error| {
            if error.is_data() {
                return Refusal::body("the request body must be a JSON object");
            }
            let (line, column) = (error.line(), error.column());
            Refusal::body(format!("the request body is not valid JSON (line {line}, column {column})"))
        })
    }

    /// Returns a member as raw JSON; the last one if the name is duplicated.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.value(name).map(Value::raw)
    }

    /// Decodes a string member; `None` if it is missing or not a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        serde_json::from_str::<Str<'a>>(self.get(name)?.get()).ok().map(Str::into_cow)
    }

    /// Returns the elements of an array member; none if it is missing or not an array.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<&'a RawValue> {
        self.get(name).and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
    }

    /// Returns a member; the last one if the name is duplicated.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().rfind(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// All members in order, including duplicates and nulls.
    #[must_use]
    pub fn members(&self) -> &[(Cow<'a, str>, Value<'a>)] {
        &self.0
    }

    /// The members of a request body that are not null, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Field<'a, '_>)> {
        let sent = self.0.iter().filter(|(_, value)| !value.is_null());
        sent.map(|(name, value)| (&**name, Field::from_body(name, value)))
    }

    /// Removes every member with this name. Returns whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.remove_where(|key, _| key == name)
    }

    /// Removes the members for which `is_removed` returns true. Returns whether there was one.
    pub fn remove_where(&mut self, is_removed: impl Fn(&str, &Value<'a>) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|(key, value)| !is_removed(key, value));
        self.0.len() < before
    }

    /// Adds a member at the end.
    pub fn push(&mut self, name: &'a str, value: &'a RawValue) {
        self.0.push((Cow::Borrowed(name), Value::Raw(value)));
    }

    /// Adds the members of another object at the end.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Whether the object has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How many levels of a top-level member are parsed along with the body. For `messages`: the list, a message, its
/// content, a block, the content of a tool result, a part, its source. For `contents`: the list, a content, its parts, a
/// part, its data. For `input`: the list and its items.
fn parsed_levels(name: &str) -> usize {
    match name {
        "messages" => 7,
        "contents" => 5,
        "input" => 2,
        _ => 0,
    }
}

impl Serialize for RawObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawObjectVisitor)
    }
}

struct RawObjectVisitor;

impl<'de> Visitor<'de> for RawObjectVisitor {
    type Value = RawObject<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<Str<'de>, &'de RawValue>()? {
            members.push((name.into_cow(), Value::Raw(value)));
        }
        Ok(RawObject(members))
    }
}

#[cfg(test)]
mod tests {
    use super::RawObject;

    #[test]
    fn order_and_bytes_are_preserved() {
        let text = r#"{"b":1.0e2,"a":{"x" : 1},"b":2}"#;
        let object = RawObject::parse(text).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), text);
        assert_eq!(object.get("b").unwrap().get(), "2");
        assert!(RawObject::parse("[]").is_err());
    }

    #[test]
    fn members_can_be_removed_and_added() {
        let mut object = RawObject::parse(r#"{"a":1,"b":2,"a":3}"#).unwrap();
        assert!(object.remove("a"));
        assert!(!object.remove("a"));
        object.push("c", object.get("b").unwrap());
        assert_eq!(serde_json::to_string(&object).unwrap(), r#"{"b":2,"c":2}"#);
    }
}
