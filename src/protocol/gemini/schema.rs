//! Converts schemas in Google's form, a subset of `OpenAPI` 3.0 schemas, to JSON schemas.
//!
//! Google's schemas have types in upper case, `nullable` in place of the type `null`, and numbers that the SDKs write as
//! strings. Everything else is kept, in the same order.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::spelling::camel_case;
use crate::protocol::json::raw_object::Value;
use crate::protocol::json::{from_string, quoted};

/// Keywords whose value is a schema or an array of schemas.
const SCHEMA_KEYWORDS: [&str; 4] = ["items", "prefixItems", "anyOf", "additionalProperties"];
/// Keywords whose value is an object of schemas.
const SCHEMA_MAP_KEYWORDS: [&str; 3] = ["properties", "$defs", "defs"];
/// Keywords that JSON schemas don't have.
const DROPPED: [&str; 3] = ["nullable", "propertyOrdering", "example"];
/// Keywords whose value may be a number in a string.
const COUNTS: [&str; 6] = ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"];
/// Formats that JSON schemas don't have; the type implies them.
const DROPPED_FORMATS: [&str; 5] = [r#""enum""#, r#""int32""#, r#""int64""#, r#""float""#, r#""double""#];
/// How deep a schema is converted. The server rejects requests that nest deeper.
const MAX_DEPTH: usize = 256;

/// Converts a schema. A value that isn't JSON is returned as it is.
pub(super) fn to_json_schema(schema: &RawValue) -> Box<RawValue> {
    let Some(value) = Value::opened(schema.get(), MAX_DEPTH) else { return schema.to_owned() };
    let mut json = String::with_capacity(schema.get().len());
    write_schema(&value, &mut json);
    from_string(json)
}

/// Writes a schema or an array of schemas.
fn write_schema(schema: &Value<'_>, json: &mut String) {
    let Some(members) = schema.object() else { return write_list(schema, json) };
    let is_nullable = members.members().iter().any(|(name, value)| name == "nullable" && value.text() == "true");
    let kept = members.members().iter().filter(|(name, value)| is_kept(&camel_case(name), value));
    write_object(kept.map(|(name, value)| (camel_case(name), value)), json, |name, value, json| match name {
        "type" => write_type(value.text(), is_nullable, json),
        name if SCHEMA_KEYWORDS.contains(&name) => write_schema(value, json),
        name if SCHEMA_MAP_KEYWORDS.contains(&name) => write_map(value, json),
        name if COUNTS.contains(&name) => json.push_str(&count(value).unwrap_or_default()),
        _ => json.push_str(value.text()),
    });
}

fn is_kept(name: &str, value: &Value<'_>) -> bool {
    let is_dropped = DROPPED.contains(&name)
        || (name == "format" && DROPPED_FORMATS.contains(&value.text()))
        || (name == "type" && value.text() == r#""TYPE_UNSPECIFIED""#)
        || (COUNTS.contains(&name) && count(value).is_none());
    !is_dropped
}

/// The JSON of a count, which may be written as a string. `None` if the string is not a number.
fn count<'v>(value: &Value<'v>) -> Option<Cow<'v, str>> {
    let Some(digits) = value.text().strip_prefix('"') else { return Some(Cow::Borrowed(value.text())) };
    let number: u64 = digits.trim_end_matches('"').parse().ok()?;
    Some(Cow::Owned(number.to_string()))
}

fn write_list(list: &Value<'_>, json: &mut String) {
    if list.list().is_empty() {
        return json.push_str(list.text());
    }
    json.push('[');
    for (index, schema) in list.list().iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        write_schema(schema, json);
    }
    json.push(']');
}

/// Writes an object of schemas. Its names are those of properties, which are kept.
fn write_map(map: &Value<'_>, json: &mut String) {
    let Some(members) = map.object() else { return json.push_str(map.text()) };
    let named = members.members().iter().map(|(name, value)| (name, value));
    write_object(named, json, |_, schema, json| write_schema(schema, json));
}

fn write_object<'v, N: AsRef<str>>(
    members: impl Iterator<Item = (N, &'v Value<'v>)>,
    json: &mut String,
    write: impl Fn(&str, &Value<'_>, &mut String),
) {
    json.push('{');
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(&quoted(name.as_ref()));
        json.push(':');
        write(name.as_ref(), value, json);
    }
    json.push('}');
}

/// Writes a type in lower case, with `null` beside it if the value may be null.
fn write_type(kind: &str, is_nullable: bool, json: &mut String) {
    let kind = kind.to_ascii_lowercase();
    if is_nullable && kind.starts_with('"') {
        json.extend(["[", &kind, r#","null"]"#]);
    } else {
        json.push_str(&kind);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::to_json_schema;

    #[test]
    fn google_s_schemas_become_json_schemas_in_the_same_order() {
        for (schema, expected) in [
            (r#"{"type":"STRING","nullable":true}"#, r#"{"type":["string","null"]}"#),
            (r#"{"type":"TYPE_UNSPECIFIED","description":"x"}"#, r#"{"description":"x"}"#),
            (r#"{"min_items":"007","maxItems":3,"minLength":"x"}"#, r#"{"minItems":7,"maxItems":3}"#),
            (r#"{"format":"int64","type":"INTEGER"}"#, r#"{"type":"integer"}"#),
            (r#"{"format":"date-time","enum":["STRING"]}"#, r#"{"format":"date-time","enum":["STRING"]}"#),
            (
                r#"{"properties":{"b_c":{"type":"OBJECT"},"nullable":{"type":"BOOLEAN"}},"property_ordering":["b_c"]}"#,
                r#"{"properties":{"b_c":{"type":"object"},"nullable":{"type":"boolean"}}}"#,
            ),
            (
                r#"{"any_of":[{"type":"NULL"},{"items":{"type":"NUMBER"}}]}"#,
                r#"{"anyOf":[{"type":"null"},{"items":{"type":"number"}}]}"#,
            ),
            (
                r#"{"type":["string","null"],"additionalProperties":false}"#,
                r#"{"type":["string","null"],"additionalProperties":false}"#,
            ),
            ("{}", "{}"),
        ] {
            let schema: &RawValue = serde_json::from_str(schema).unwrap();
            assert_eq!(to_json_schema(schema).get(), expected, "{schema}");
        }
    }
}
