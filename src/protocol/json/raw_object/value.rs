//! A value of a request, with what is in it where somebody is going to look.
//!
//! A conversation is looked into level by level: the list, a message, its content, a part. Read anew
//! at each level, a long text would be stepped over at every one of them. So lists and objects are
//! opened while they are read for the first time, as deep as a reader asks for; what is not opened
//! stays a raw value, and can be read later. Nothing is decoded here, and everything is borrowed.

use serde::Deserialize;
use serde::ser::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::RawObject;
use crate::protocol::json::string::Str;

/// What is opened in one body at the most, so that a hostile one can't grow into many times its size.
const MAX_OPENED: usize = 200_000;

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// Not opened.
    Raw(&'a RawValue),
    /// A list or an object that was opened.
    Open(Box<Open<'a>>),
}

/// A list or an object, its text and what is in it.
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
    /// Reads a value and opens what is in it, as deep as `depth` levels. `None` when it is not JSON.
    #[must_use]
    pub fn opened(text: &'a str, depth: usize) -> Option<Self> {
        let mut reader = Reader { text, at: 0, left: MAX_OPENED };
        let value = reader.value(depth)?;
        reader.peek().is_none().then_some(value)
    }

    /// The elements of a list that was opened; none for any other value.
    #[must_use]
    pub fn list(&self) -> &[Self] {
        let list = if let Self::Open(open) = self { open.list() } else { None };
        list.unwrap_or_default()
    }

    /// The members of an object that was opened.
    #[must_use]
    pub fn object(&self) -> Option<&RawObject<'a>> {
        if let Self::Open(open) = self { open.object() } else { None }
    }

    /// The value's text.
    #[must_use]
    pub fn text(&self) -> &'a str {
        match self {
            Self::Raw(raw) => raw.get(),
            Self::Open(open) => open.text,
        }
    }

    /// The value, unread. An opened one is read again for that.
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
    /// The value's text.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The value, unread.
    #[must_use]
    pub fn raw(&self) -> &'a RawValue {
        serde_json::from_str(self.text).expect("it has been read before")
    }

    /// The elements of a list.
    #[must_use]
    pub fn list(&self) -> Option<&[Value<'a>]> {
        if let Inside::List(elements) = &self.inside { Some(elements) } else { None }
    }

    /// The members of an object.
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

/// Reads an object. `depth` says how many levels of a member's value are opened.
///
/// `None` when it can't be read; what is wrong with it is for a parser to tell.
pub(super) fn open(text: &str, depth: impl Fn(&str) -> usize) -> Option<RawObject<'_>> {
    let mut reader = Reader { text, at: 0, left: MAX_OPENED };
    let members = reader.object(&depth)?;
    reader.peek().is_none().then_some(members)
}

/// Walks through a text. The brackets are ours; what stands between them is read by `serde_json`.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Values that may still be opened.
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
            return Some(RawObject::of(members));
        }
        loop {
            let name = self.leaf::<Str<'a>>()?.into_cow();
            self.take(b':')?;
            let value = self.value(depth(&name))?;
            members.push((name, value));
            if self.is_last(b'}')? {
                return Some(RawObject::of(members));
            }
        }
    }

    /// What follows an element: `end` after the last one, a comma after another.
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

    /// The next byte that is no white space.
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

    /// The text of everything that was opened, deepest last.
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
    fn as_much_is_opened_as_is_asked_for() {
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
    fn no_more_is_opened_than_may_be() {
        let text = format!(r#"{{"a":[{}]}}"#, vec!["[]"; MAX_OPENED + 10].join(","));
        let members = open(&text, |_| 9).unwrap();
        let Some(Value::Open(list)) = members.value("a") else { panic!("it is the first") };
        let opened = |value: &&Value<'_>| matches!(value, Value::Open(_));
        assert_eq!(list.list().unwrap().iter().filter(opened).count(), MAX_OPENED - 1);
    }

    #[test]
    fn broken_text_is_not_read() {
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
        fn what_is_opened_is_what_a_parser_reads(value in json(), depth in 0..5_usize, cut in any::<prop::sample::Index>()) {
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
