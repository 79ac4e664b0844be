//! The format of an answer, where a client says no more of it than a schema, or that it be JSON.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::json;
use super::schema::raw;
use crate::protocol::codex::request::{Item, Part, Role};

#[derive(Serialize)]
struct JsonSchema<'a> {
    r#type: &'static str,
    name: &'static str,
    schema: &'a RawValue,
    strict: bool,
}

/// The backend's format object for a schema that has no name; strict where the backend takes it so.
#[must_use]
pub fn of_schema(schema: &RawValue) -> Box<RawValue> {
    let strict = serde_json::from_str(schema.get()).is_ok_and(|schema| is_strict(&schema));
    raw(&JsonSchema { r#type: "json_schema", name: "output", schema, strict })
}

/// Whether the backend would take the schema as a strict one: every object in it is closed, and
/// requires all that it names.
fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            let is_object = members.get("type").is_some_and(|kind| kind == "object" || lists(kind, "object"));
            let named = members.get("properties").and_then(Value::as_object);
            let required = members.get("required").unwrap_or(&Value::Null);
            let is_closed = members.get("additionalProperties") == Some(&Value::Bool(false))
                && named.is_none_or(|named| named.keys().all(|name| lists(required, name)));
            (is_closed || !(is_object || named.is_some())) && members.values().all(is_strict)
        }
        Value::Array(elements) => elements.iter().all(is_strict),
        _ => true,
    }
}

fn lists(list: &Value, word: &str) -> bool {
    list.as_array().is_some_and(|words| words.iter().any(|one| one == word))
}

/// Asks for JSON where no message does. The backend insists on the word in JSON mode, and looks
/// for it in the input, not in the instructions (case `chat/09-json-object`).
pub fn ask_for_json(input: &mut Vec<Item<'_>>) {
    let is_asked = input.iter().any(|item| match item {
        Item::Message { content, .. } => content.iter().any(names_json),
        _ => false,
    });
    if !is_asked {
        let content = vec![Part::InputText(json::PLEA.into())];
        input.insert(0, Item::Message { role: Role::Developer, content });
    }
}

fn names_json(part: &Part<'_>) -> bool {
    match part {
        Part::InputText(text) | Part::OutputText(text) => json::is_asked_for(&text.read()),
        Part::InputImage { .. } | Part::InputFile { .. } | Part::RemoteFile { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::is_strict;

    #[test]
    fn a_strict_schema_is_closed_and_complete_all_the_way_down() {
        let inner = |inner: serde_json::Value| json!({"type": "object", "properties": {"a": inner}, "required": ["a"], "additionalProperties": false});
        assert!(is_strict(&inner(json!({"type": "string"}))));
        assert!(is_strict(&inner(json!({"type": "array", "items": inner(json!({"enum": ["x"]}))}))));
        for open in [
            inner(json!({"type": "object"})),
            inner(json!({"anyOf": [{"type": ["object", "null"]}, {"type": "string"}]})),
            inner(json!({"properties": {"b": {}}})),
            json!({"type": "object", "properties": {"a": {}}, "required": [], "additionalProperties": false}),
            json!({"type": "object", "properties": {"a": {}}, "required": ["a"]}),
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
        ] {
            assert!(!is_strict(&open), "{open}");
        }
    }
}
