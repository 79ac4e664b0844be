//! Mutates valid data: its bytes, or its values if it is JSON.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

/// A mutation of bytes.
#[derive(Clone, Debug)]
pub(crate) enum Damage {
    Set(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize),
    Insert(Index, &'static str),
    End(Index),
}

/// Strings with a special meaning for some parser.
const WORDS: [&str; 26] = [
    "\n\n",
    "\r",
    "data: ",
    "event: x\n",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\ud83d",
    "\\u0000",
    ",",
    ":",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "true",
    "[DONE]",
    "\u{feff}",
    "\u{1f600}",
    "response.completed",
    "\"type\":\"error\",",
    "=",
    "'",
];

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        2 => (at(), 1_usize..200).prop_map(|(at, length)| Damage::Remove(at, length)),
        2 => (at(), 1_usize..400).prop_map(|(at, length)| Damage::Repeat(at, length)),
        4 => (at(), prop::sample::select(WORDS.to_vec())).prop_map(|(at, word)| Damage::Insert(at, word)),
        1 => at().prop_map(Damage::End),
    ]
}

/// Some of these mutations.
pub(crate) fn damages() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec(damage(), 0..8)
}

/// The bytes after all mutations.
pub(crate) fn spoilt(bytes: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for damage in damages {
        let length = bytes.len();
        let place = |at: &Index| at.index(length + 1);
        match damage {
            Damage::Set(at, byte) => {
                let at = place(at);
                bytes.splice(at..length.min(at + 1), [*byte]);
            }
            Damage::Remove(at, count) => {
                let at = place(at);
                bytes.drain(at..length.min(at + count));
            }
            Damage::Repeat(at, count) => {
                let at = place(at);
                let piece = bytes[at..length.min(at + count)].to_vec();
                bytes.splice(at..at, piece);
            }
            Damage::Insert(at, word) => {
                let at = place(at);
                bytes.splice(at..at, word.bytes());
            }
            Damage::End(at) => bytes.truncate(place(at)),
        }
    }
    bytes
}

/// A value to insert where another one was expected.
pub(crate) fn odd_value() -> impl Strategy<Value = Value> {
    let deep = (0..40).fold(json!("deep"), |inner, _| json!([inner]));
    prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("x"),
        json!("\u{0}\u{1f600}\r\n"),
        json!("a".repeat(300)),
        json!([]),
        json!([null]),
        json!({}),
        json!({"type": "x"}),
        json!({"type": "function", "name": "", "function": {}}),
        deep,
    ])
}

/// Replaces the node with this number, counted from the root.
pub(crate) fn replace(document: &mut Value, at: Index, value: Value) {
    let mut left = at.index(count(document));
    replace_at(document, &mut left, &mut Some(value));
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

fn replace_at(node: &mut Value, left: &mut usize, value: &mut Option<Value>) {
    if *left == 0 {
        if let Some(value) = value.take() {
            *node = value;
        }
        return;
    }
    *left -= 1;
    match node {
        Value::Array(items) => items.iter_mut().for_each(|item| step(item, left, value)),
        Value::Object(members) => members.values_mut().for_each(|member| step(member, left, value)),
        _ => {}
    }
}

fn step(node: &mut Value, left: &mut usize, value: &mut Option<Value>) {
    if value.is_some() {
        replace_at(node, left, value);
    }
}
