//! The format of the answer: `output_config.format`, and its form upstream.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::ProxyError;
use crate::protocol::conversation::schema::raw;
use crate::protocol::field::Field;

#[derive(Serialize)]
struct JsonSchema<'a> {
    r#type: &'static str,
    name: &'static str,
    schema: &'a RawValue,
    strict: bool,
}

/// The backend's format object; `None` for plain text.
pub(super) fn read(format: &Field<'_, '_>) -> Result<Option<Box<RawValue>>, ProxyError> {
    let members = format.object()?;
    let kind = format.member(&members, "type").ok_or_else(|| format.lacks("type"))?;
    match &*kind.text()? {
        "text" => return Ok(None),
        "json_schema" => {}
        _ => return Err(kind.invalid("must be 'json_schema' or 'text'")),
    }
    let schema = format.member(&members, "schema").ok_or_else(|| format.lacks("schema"))?;
    if !schema.is_object() {
        return Err(schema.must_be("an object"));
    }
    let strict = serde_json::from_str(schema.raw().get()).is_ok_and(|schema| is_strict(&schema));
    Ok(Some(raw(&JsonSchema { r#type: "json_schema", name: "output", schema: schema.raw(), strict })))
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
