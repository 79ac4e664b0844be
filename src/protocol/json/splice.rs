//! Edits a JSON document in place: everything that is not edited keeps its bytes.
//!
//! A [`Splice`] records edits at any depth as ranges of the text, and writes the text between them unchanged: order,
//! white space, escapes and digits are preserved. Every value passed to a method must be a slice of that text: it is
//! located by its address. Edits must not overlap, except that an edit may contain another one, which is then dropped.

use std::borrow::Cow;
use std::ops::Range;

use bytes::BytesMut;
use serde_json::value::RawValue;

use super::from_string;
use super::raw_object::{RawObject, Value};

/// An object with other values of these members, if it has them. The values are JSON.
#[must_use]
pub fn with_members(object: &str, values: &[(&str, String)]) -> String {
    let members = RawObject::parse(object).unwrap_or_default();
    let mut splice = Splice::new(object);
    for (name, value) in values {
        if let Some(old) = members.get(name) {
            splice.replace(old, value.clone());
        }
    }
    splice.text().into_owned()
}

/// A JSON document and its edits.
#[derive(Clone, Debug)]
pub struct Splice<'t> {
    text: &'t str,
    /// Ordered by start.
    edits: Vec<Edit<'t>>,
}

#[derive(Clone, Debug)]
struct Edit<'t> {
    range: Range<usize>,
    with: Cow<'t, str>,
}

impl<'t> Splice<'t> {
    /// A document without edits.
    #[must_use]
    pub fn new(text: &'t str) -> Self {
        Self { text, edits: Vec::new() }
    }

    /// Whether there are no edits.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.edits.is_empty()
    }

    /// Replaces a value.
    pub fn replace(&mut self, value: &RawValue, with: impl Into<Cow<'t, str>>) {
        let range = self.range(value.get());
        self.edit(range, with.into());
    }

    /// Adds members at the end of an object, given as `"name":value` joined by commas. If the object has members, other
    /// edits must not remove all of them: the added text starts with a comma.
    pub fn add(&mut self, object: &str, members: impl Into<Cow<'t, str>>) {
        self.insert_before_end(object, ['{', '}'], members.into());
    }

    /// Adds elements at the end of an array, given as JSON texts joined by commas.
    pub fn append(&mut self, array: &str, elements: impl Into<Cow<'t, str>>) {
        self.insert_before_end(array, ['[', ']'], elements.into());
    }

    /// Removes every member with this name from an object, given its text and its members.
    pub fn remove(&mut self, object: &str, members: &RawObject<'_>, name: &str) {
        self.remove_where(object, members, |key, _| key == name);
    }

    /// Removes the members for which `is_removed` returns true from an object, given its text and its members. Call it
    /// at most once per object: the edits of two calls would overlap at the comma between their members.
    pub fn remove_where(
        &mut self,
        object: &str,
        members: &RawObject<'_>,
        is_removed: impl Fn(&str, &Value<'_>) -> bool,
    ) {
        let whole = self.range(object);
        let mut kept = false;
        let mut from = whole.start + 1;
        let mut rest = members.members().iter().peekable();
        while let Some((key, value)) = rest.next() {
            let end = self.range(value.text()).end;
            let past_comma = match rest.peek() {
                Some(_) => end + self.text.get(end..).and_then(|after| after.find(',')).map_or(0, |comma| comma + 1),
                None => end,
            };
            if !is_removed(key, value) {
                kept = true;
            } else if kept {
                // Including the comma after the previous member.
                self.edit(from - 1..end, Cow::Borrowed(""));
            } else {
                self.edit(from..past_comma, Cow::Borrowed(""));
            }
            from = past_comma;
        }
    }

    /// The edited document.
    #[must_use]
    pub fn text(&self) -> Cow<'t, str> {
        self.part(self.text)
    }

    /// The edited document as raw JSON; `None` if there are no edits.
    #[must_use]
    pub fn raw(&self) -> Option<Box<RawValue>> {
        (!self.is_unchanged()).then(|| from_string(self.text().into_owned()))
    }

    /// A slice of the document, with the edits inside it.
    #[must_use]
    pub fn part(&self, part: &'t str) -> Cow<'t, str> {
        let range = self.range(part);
        if !self.edits.iter().any(|edit| is_inside(edit, &range)) {
            return Cow::Borrowed(part);
        }
        let mut text = String::with_capacity(part.len() + 64);
        self.pieces(range, |piece| text.push_str(piece));
        Cow::Owned(text)
    }

    /// Appends the edited document to `wire`.
    pub fn write(&self, wire: &mut BytesMut) {
        self.pieces(0..self.text.len(), |piece| wire.extend_from_slice(piece.as_bytes()));
    }

    /// Adds text before the closing bracket of a value, after a comma if the value isn't empty.
    fn insert_before_end(&mut self, value: &str, [open, close]: [char; 2], mut text: Cow<'t, str>) {
        let inside = value.trim_end().strip_suffix(close).unwrap_or(value);
        let end = self.range(value).start + inside.len();
        if !inside.trim_end().ends_with(open) && !text.is_empty() {
            text.to_mut().insert(0, ',');
        }
        self.edit(end..end, text);
    }

    fn pieces(&self, range: Range<usize>, mut write: impl FnMut(&str)) {
        let mut at = range.start;
        for edit in self.edits.iter().filter(|edit| is_inside(edit, &range)) {
            if edit.range.start < at {
                continue;
            }
            write(self.text.get(at..edit.range.start).unwrap_or_default());
            write(&edit.with);
            at = edit.range.end;
        }
        write(self.text.get(at..range.end).unwrap_or_default());
    }

    fn edit(&mut self, range: Range<usize>, with: Cow<'t, str>) {
        // Of two edits with the same start, the longer one comes first and drops the other.
        let is_before = |edit: &Edit<'_>| {
            (edit.range.start, std::cmp::Reverse(edit.range.end)) <= (range.start, std::cmp::Reverse(range.end))
        };
        let index = self.edits.partition_point(is_before);
        self.edits.insert(index, Edit { range, with });
    }

    /// The byte range of a slice of the text.
    fn range(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr().addr().wrapping_sub(self.text.as_ptr().addr());
        debug_assert!(
            start <= self.text.len() && part.len() <= self.text.len() - start,
            "the value must be a slice of the text"
        );
        start..start.saturating_add(part.len())
    }
}

fn is_inside(edit: &Edit<'_>, range: &Range<usize>) -> bool {
    range.start <= edit.range.start && edit.range.end <= range.end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Splice;
    use crate::protocol::json::raw_object::RawObject;

    fn edited(text: &str, edit: impl for<'t> Fn(&mut Splice<'t>, &'t str, &RawObject<'t>)) -> String {
        let members = RawObject::parse(text).unwrap();
        let mut splice = Splice::new(text);
        edit(&mut splice, text, &members);
        splice.text().into_owned()
    }

    #[test]
    fn unedited_text_keeps_its_bytes() {
        let text = "{ \"a\" : 1.0e2 , \"\\u0062\":{\"x\":[ 1 ]},\"c\":null }";
        assert_eq!(edited(text, |_, _, _| ()), text);
        let got = edited(text, |splice, _, members| splice.replace(members.get("c").unwrap(), "7"));
        assert_eq!(got, "{ \"a\" : 1.0e2 , \"\\u0062\":{\"x\":[ 1 ]},\"c\":7 }");
    }

    #[test]
    fn members_are_added_at_the_end() {
        assert_eq!(edited("{}", |splice, text, _| splice.add(text, r#""b":1"#)), r#"{"b":1}"#);
        let nested = edited(r#"{"a":{"x":1} }"#, |splice, text, members| {
            splice.add(members.get("a").unwrap().get(), r#""y":2"#);
            splice.add(text, r#""b":{}"#);
        });
        assert_eq!(nested, r#"{"a":{"x":1,"y":2} ,"b":{}}"#);
    }

    #[test]
    fn elements_are_added_at_the_end() {
        for (text, expected) in [(r#"{"a":[ ]}"#, r#"{"a":[ 7,8]}"#), (r#"{"a":[[1], 2 ]}"#, r#"{"a":[[1], 2 ,7,8]}"#)]
        {
            let got = edited(text, |splice, _, members| splice.append(members.get("a").unwrap().get(), "7,8"));
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_member_is_removed_with_its_comma() {
        for (text, left) in [
            (r#"{"x":1}"#, "{}"),
            (r#"{"x":1 , "a":2}"#, r#"{ "a":2}"#),
            (r#"{"a":1,"x":2}"#, r#"{"a":1}"#),
            (r#"{"a":1, "x":2 ,"b":3}"#, r#"{"a":1,"b":3}"#),
            (r#"{"x":1,"x":2,"a":3,"x":4,"b":5,"x":6}"#, r#"{"a":3,"b":5}"#),
            (r#"{"x":1,"x":2}"#, "{}"),
        ] {
            let got = edited(text, |splice, text, members| splice.remove(text, members, "x"));
            let same = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(same(&got), same(left), "{text} became {got}");
        }
    }

    #[test]
    fn several_members_are_removed_at_once() {
        let got = edited(r#"{"x":1,"y":2,"a":3,"x":4,"y":5}"#, |splice, text, members| {
            splice.remove_where(text, members, |name, _| name != "a");
        });
        assert_eq!(got, r#"{"a":3}"#);
    }

    #[test]
    fn a_part_has_only_its_own_edits() {
        let text = r#"{"item":{"a":1},"n":5}"#;
        let members = RawObject::parse(text).unwrap();
        let item = members.get("item").unwrap().get();
        let mut splice = Splice::new(text);
        splice.replace(members.get("n").unwrap(), "6");
        assert_eq!(splice.part(item), r#"{"a":1}"#);
        splice.add(item, r#""b":2"#);
        assert_eq!(splice.part(item), r#"{"a":1,"b":2}"#);
        assert_eq!(splice.text(), r#"{"item":{"a":1,"b":2},"n":6}"#);
    }

    proptest! {
        #[test]
        fn any_members_can_be_removed(names in prop::collection::vec("[abx]", 0..8), space in " {0,2}") {
            let members: Vec<_> = names.iter().enumerate().map(|(n, name)| format!("{space}\"{name}\"{space}:{space}[{n},\"}},\"]{space}")).collect();
            let text = format!("{{{}}}", members.join(","));
            let got = edited(&text, |splice, text, members| splice.remove(text, members, "x"));
            let left = RawObject::parse(&got).unwrap();
            let kept: Vec<_> = left.members().iter().map(|(name, _)| name.to_string()).collect();
            prop_assert_eq!(kept, names.into_iter().filter(|name| name != "x").collect::<Vec<_>>());
        }
    }
}
