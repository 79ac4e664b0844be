//! A JSON object whose members stay in order and unread.
//!
//! Requests are read member by member, so that the field at fault can be named, and so that what
//! nobody understands can be carried byte for byte. An envelope borrows everything; a duplicate
//! member is no error, and the last one counts. Of a request's body, the conversation is opened
//! along with it ([`Value`]).

mod value;

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::{ProxyError, Refusal};
use crate::protocol::json::string::Str;

pub use value::{Open, Value};

/// The members of an object: name and unread value.
#[derive(Clone, Debug, Default)]
pub struct RawObject<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> RawObject<'a> {
    /// An object of these members.
    #[must_use]
    pub fn of(members: Vec<(Cow<'a, str>, Value<'a>)>) -> Self {
        Self(members)
    }

    /// Reads the text of an object.
    ///
    /// # Errors
    /// When it is not JSON, or not an object.
    pub fn parse(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// Reads the body of a request, and opens the members that hold the conversation.
    ///
    /// # Errors
    /// When it is not a JSON object. The refusal never repeats the body: an error may be logged, a
    /// prompt may not.
    pub fn from_body(body: &'a [u8]) -> Result<Self, ProxyError> {
        let text = std::str::from_utf8(body).map_err(|_| Refusal::body("the request body is not UTF-8"))?;
        if let Some(members) = value::open(text, opened) {
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

    /// The value of a member; of the last one, where several have the name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.value(name).map(Value::raw)
    }

    /// The same, with what was opened of it.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().rfind(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// All members, as they came.
    #[must_use]
    pub fn members(&self) -> &[(Cow<'a, str>, Value<'a>)] {
        &self.0
    }

    /// Takes out every member of that name; says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.remove_where(|key, _| key == name)
    }

    /// Takes out the members that `is_removed` chooses; says whether there was one.
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

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How many levels of a member somebody looks into: in `messages` the list, a message, its content, a
/// block, what a tool returned, a part, its source. The items of `input` are looked at, not into.
fn opened(name: &str) -> usize {
    match name {
        "messages" => 7,
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
    fn order_and_bytes_survive() {
        let text = r#"{"b":1.0e2,"a":{"x" : 1},"b":2}"#;
        let envelope = RawObject::parse(text).unwrap();
        assert_eq!(serde_json::to_string(&envelope).unwrap(), text);
        assert_eq!(envelope.get("b").unwrap().get(), "2");
        assert!(RawObject::parse("[]").is_err());
    }

    #[test]
    fn members_come_and_go() {
        let mut envelope = RawObject::parse(r#"{"a":1,"b":2,"a":3}"#).unwrap();
        assert!(envelope.remove("a"));
        assert!(!envelope.remove("a"));
        envelope.push("c", envelope.get("b").unwrap());
        assert_eq!(serde_json::to_string(&envelope).unwrap(), r#"{"b":2,"c":2}"#);
    }
}
