//! A JSON value that may already be parsed to some depth.
//!
//! A conversation is read level by level: the list, a message, its content, a part. If each level were parsed on its
//! own, a long text would be scanned once per level. So arrays and objects are parsed in one pass, as deep as the
//! caller requests; deeper values stay raw and can be parsed later. String values are not decoded, and the text is
//! borrowed.

use serde::Deserialize;
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::RawObject;
use crate::protocol::json::string::Str;

/// Maximum number of arrays and objects parsed per text; further ones stay raw. Bounds the memory that a hostile body
/// can use.
const MAX_OPENED: usize = 200_000;

/// A JSON value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// Unparsed text of any type.
    Raw(&'a RawValue),
    /// A parsed array or object.
    Open(Box<Open<'a>>),
}

/// A parsed array or object, with its text.
#[derive(Clone, Debug)]
pub struct Open<'a> {
    text: &'a str,
    inside: Inside<'a>,
}

#[derive(Clone, Debug)]
enum Inside<'a> {
    List(Vec<Value<'a>>),
    Object(RawObject<'a>),
}

impl<'a> Value<'a> {
    /// Parses the outer `depth` levels of a value. `None` if the text is not JSON.
    #[must_use]
    pub fn opened(text: &'a str, depth: usize) -> Option<Self> {
        let mut reader = Reader { text, at: 0, left: MAX_OPENED };
        let value = reader.value(depth)?;
        reader.peek().is_none().then_some(value)
    }

    /// The elements of a parsed array; empty for any other value.
    #[must_use]
    pub fn list(&self) -> &[Self] {
        let list = if let Self::Open(open) = self { open.list() } else { None };
        list.unwrap_or_default()
    }

    /// The members of a parsed object; `None` for any other value.
    #[must_use]
    pub fn object(&self) -> Option<&RawObject<'a>> {
        if let Self::Open(open) = self { open.object() } else { None }
    }

    /// The JSON text of the value.
    #[must_use]
    pub fn text(&self) -> &'a str {
        match self {
            Self::Raw(raw) => raw.get(),
            Self::Open(open) => open.text,
        }
    }

    /// The value as raw JSON. Scans the text of a parsed value again.
    #[must_use]
    pub fn raw(&self) -> &'a RawValue {
        match self {
            Self::Raw(raw) => raw,
            Self::Open(open) => open.raw(),
        }
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.text() == "null"
    }
}

impl<'a> Open<'a> {
    /// The JSON text of the value.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The value as raw JSON. Scans the text again.
    #[must_use]
    pub fn raw(&self) -> &'a RawValue {
        serde_json::from_str(self.text).expect("the text was parsed before")
    }

    /// The elements, if the value is an array.
    #[must_use]
    pub fn list(&self) -> Option<&[Value<'a>]> {
        if let Inside::List(elements) = &self.inside { Some(elements) } else { None }
    }

    /// The members, if the value is an object.
    #[must_use]
    pub fn object(&self) -> Option<&RawObject<'a>> {
        if let Inside::Object(members) = &self.inside { Some(members) } else { None }
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw().serialize(serializer)
    }
}

/// Parses an object, and `depth(name)` levels of each member. `None` if the text is not a JSON object; the caller
/// reports the error of a full parser.
pub(super) fn open(text: &str, depth: impl Fn(&str) -> usize) -> Option<RawObject<'_>> {
    let mut reader = Reader { text, at: 0, left: MAX_OPENED };
    let members = reader.object(&depth)?;
    reader.peek().is_none().then_some(members)
}

/// Parses the brackets itself and leaves scalars and unparsed values to `serde_json`. Methods return `None` for invalid
/// JSON.
struct Reader<'a> {
    text: &'a str,
    /// Byte offset of the next token.
    at: usize,
    /// Arrays and objects that may still be parsed.
    left: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        let first = self.peek()?;
        if depth == 0 || self.left == 0 || !matches!(first, b'[' | b'{') {
            return self.leaf().map(Value::Raw);
        }
        self.left -= 1;
        let start = self.at;
        let inside = match first {
            b'[' => Inside::List(self.list(depth - 1)?),
            _ => Inside::Object(self.object(&|_| depth - 1)?),
        };
        Some(Value::Open(Box::new(Open { text: self.text.get(start..self.at)?, inside })))
    }

    fn list(&mut self, depth: usize) -> Option<Vec<Value<'a>>> {
        let mut elements = Vec::new();
        self.take(b'[')?;
        if self.take(b']').is_some() {
            return Some(elements);
        }
        loop {
            elements.push(self.value(depth)?);
            if self.is_last(b']')? {
                return Some(elements);
            }
        }
    }

    fn object(&mut self, depth: &dyn Fn(&str) -> usize) -> Option<RawObject<'a>> {
        let mut members = Vec::new();
        self.take(b'{')?;
        if self.take(b'}').is_some() {
            return Some(RawObject::new(members));
        }
        loop {
            let name = self.leaf::<Str<'a>>()?.into_cow();
            self.take(b':')?;
            let value = self.value(depth(&name))?;
            members.push((name, value));
            if self.is_last(b'}')? {
                return Some(RawObject::new(members));
            }
        }
    }

    /// Consumes what follows an element. Returns true for `end`, false for a comma.
    fn is_last(&mut self, end: u8) -> Option<bool> {
        if self.take(end).is_some() { Some(true) } else { self.take(b',').map(|()| false) }
    }

    fn leaf<T: Deserialize<'a>>(&mut self) -> Option<T> {
        self.peek()?;
        let mut values = serde_json::Deserializer::from_str(self.text.get(self.at..)?).into_iter::<T>();
        let value = values.next()?.ok()?;
        self.at += values.byte_offset();
        Some(value)
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Skips white space and returns the next byte.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count();
        self.at += blank;
        rest.get(blank).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::RawObject;
    use super::{MAX_OPENED, Value, open};

    /// The text of every parsed value, outermost first.
    fn texts(value: &Value<'_>, found: &mut Vec<String>) {
        let Value::Open(open) = value else { return };
        found.push(open.text().to_owned());
        open.list().into_iter().flatten().for_each(|element| texts(element, found));
        let members = open.object().map(RawObject::members).unwrap_or_default();
        for (_, member) in members {
            texts(member, found);
        }
    }

    #[test]
    fn values_are_parsed_to_the_requested_depth() {
        let text = r#" { "a" : [ {"b":[1]} , 2 ], "c":[3]} "#;
        let members = open(text, |name| if name == "a" { 2 } else { 0 }).unwrap();
        let mut found = Vec::new();
        for (_, value) in members.members() {
            texts(value, &mut found);
        }
        assert_eq!(found, [r#"[ {"b":[1]} , 2 ]"#, r#"{"b":[1]}"#]);
        assert_eq!(serde_json::to_string(&members).unwrap(), r#"{"a":[ {"b":[1]} , 2 ],"c":[3]}"#);
    }

    #[test]
    fn the_number_of_parsed_values_is_bounded() {
        let text = format!(r#"{{"a":[{}]}}"#, vec!["[]"; MAX_OPENED + 10].join(","));
        let members = open(&text, |_| 9).unwrap();
        let Some(Value::Open(list)) = members.value("a") else { panic!("expected a parsed array") };
        let opened = |value: &&Value<'_>| matches!(value, Value::Open(_));
        assert_eq!(list.list().unwrap().iter().filter(opened).count(), MAX_OPENED - 1);
    }

    #[test]
    fn invalid_json_is_rejected() {
        let broken = r#"{"a":[1,]} {"a":1,} {"a" 1} {a:1} {"a":[1} {"a":{]} {"a":"x} {"a":1}} [] {"a":01} {"a":[,1]}"#;
        for text in broken.split(' ') {
            assert!(open(text, |_| 9).is_none(), "{text}");
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i32>().prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_result_equals_that_of_a_full_parser(value in json(), depth in 0..5_usize, cut in any::<prop::sample::Index>()) {
            let value = serde_json::json!({ "x": value });
            for text in [value.to_string(), format!("{value:#}")] {
                let members = open(&text, |_| depth).unwrap();
                prop_assert_eq!(&serde_json::to_value(&members).unwrap(), &value);
                let cut = cut.index(text.len());
                if let Some(broken) = text.get(..cut) {
                    prop_assert!(open(broken, |_| depth).is_none());
                }
            }
        }
    }
}
