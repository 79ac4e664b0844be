//! An event of the backend, read no deeper than its own members.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::protocol::codex::Usage;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::Str;

/// What came.
#[derive(Clone, Debug)]
pub enum Incoming<'a> {
    /// An event.
    Event(Members<'a>),
    /// A line that means nothing.
    Nothing,
    /// What can't be read.
    Malformed(&'a str),
}

/// An event's text and its members.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    /// The whole event.
    pub(super) text: &'a str,
    /// Its type.
    pub(super) kind: Cow<'a, str>,
    all: RawObject<'a>,
}

impl<'a> From<&'a str> for Incoming<'a> {
    fn from(data: &'a str) -> Self {
        let text = data.trim();
        if matches!(text, "" | "[DONE]") {
            return Self::Nothing;
        }
        let event = RawObject::parse(text).ok().and_then(|members| {
            let kind = serde_json::from_str::<Str<'a>>(members.get("type")?.get()).ok()?;
            let kind = match kind.into_cow() {
                // An old name for the same.
                kind if kind == "response.done" => Cow::Borrowed("response.completed"),
                kind => kind,
            };
            // It becomes a line of its own.
            (!kind.contains(char::is_control)).then_some(Members { text, kind, all: members })
        });
        event.map_or(Self::Malformed(data), Self::Event)
    }
}

impl<'a> Members<'a> {
    /// A member, unread.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.all.get(name)
    }

    /// All of them.
    pub(super) fn all(&self) -> &RawObject<'a> {
        &self.all
    }

    /// Position of the item in the answer.
    pub(super) fn output_index(&self) -> Option<u64> {
        serde_json::from_str(self.get("output_index")?.get()).ok()
    }

    /// A member that is an object, and its members.
    pub(super) fn object(&self, name: &str) -> Option<(&'a RawValue, RawObject<'a>)> {
        object(self.get(name)?)
    }
}

/// An object and its members.
pub(super) fn object(raw: &RawValue) -> Option<(&RawValue, RawObject<'_>)> {
    Some((raw, RawObject::parse(raw.get()).ok()?))
}

/// A member that is a text.
pub(super) fn text<'a>(members: &RawObject<'a>, name: &str) -> Option<Cow<'a, str>> {
    serde_json::from_str::<Str<'a>>(members.get(name)?.get()).ok().map(Str::into_cow)
}

/// The token counts of a response.
pub(super) fn usage(response: &RawObject<'_>) -> Option<Usage> {
    serde_json::from_str(response.get("usage")?.get()).ok()
}

/// The elements of a list.
pub(super) fn list<'a>(members: &RawObject<'a>, name: &str) -> Vec<&'a RawValue> {
    members.get(name).and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
}
