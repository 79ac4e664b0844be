//! Converts schemas in Google's form, a subset of `OpenAPI` 3.0 schemas, to JSON schemas.
//!
//! Google's schemas have types in upper case or as numbers, `nullable` in place of the type `null`, `ref` and `defs` in
//! place of `$ref` and `$defs`, and numbers that the SDKs write as strings. Everything else is kept, in the same order.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::spelling::camel_case;
use crate::protocol::json::raw_object::{RawObject, Value};
use crate::protocol::json::splice::Splice;
use crate::protocol::json::{from_string, quoted};

/// Keywords whose value is a schema or an array of schemas.
const SCHEMA_KEYWORDS: [&str; 3] = ["items", "prefixItems", "additionalProperties"];
/// Keywords whose value is an object of schemas.
const SCHEMA_MAP_KEYWORDS: [&str; 2] = ["properties", "$defs"];
/// The types, by number.
const TYPES: [&str; 8] = ["TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"];
/// Keywords that JSON schemas don't have.
const DROPPED: [&str; 3] = ["nullable", "propertyOrdering", "example"];
/// Keywords whose value may be a number in a string.
const COUNTS: [&str; 6] = ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"];
/// Keywords that the backend accepts in a schema that it enforces, apart from those with schemas.
const ENFORCED: [&str; 12] = [
    "type",
    "title",
    "description",
    "enum",
    "required",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "multipleOf",
    "pattern",
    "$ref",
];
/// Formats that the backend accepts in a schema that it enforces.
const ENFORCED_FORMATS: [&str; 9] = [
    r#""date-time""#,
    r#""time""#,
    r#""date""#,
    r#""duration""#,
    r#""email""#,
    r#""hostname""#,
    r#""ipv4""#,
    r#""ipv6""#,
    r#""uuid""#,
];
/// Formats that JSON schemas don't have; the type implies them.
const DROPPED_FORMATS: [&str; 5] = [r#""enum""#, r#""int32""#, r#""int64""#, r#""float""#, r#""double""#];
/// How deep a schema is converted. The server rejects requests that nest deeper.
const MAX_DEPTH: usize = 256;
/// The schema of null.
const NULL_SCHEMA: &str = r#"{"type":"null"}"#;

/// Whether a value may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nullable {
    Yes,
    No,
}

/// Converts a schema. A value that isn't JSON is returned as it is.
pub(super) fn to_json_schema(schema: &RawValue) -> Box<RawValue> {
    let Some(value) = Value::opened(schema.get(), MAX_DEPTH) else { return schema.to_owned() };
    let mut json = String::with_capacity(schema.get().len());
    write_schema(&value, &mut json);
    from_string(json)
}

/// Adds `"additionalProperties":false` to every object of a converted schema. `None` if that isn't enough for the
/// backend to enforce the schema: an object has an optional property or none, a value has no type, or the schema has a
/// keyword that the backend doesn't accept then.
pub(super) fn close_objects(schema: &RawValue) -> Option<Box<RawValue>> {
    let value = Value::opened(schema.get(), MAX_DEPTH)?;
    let mut edits = Splice::new(schema.get());
    if close(&value, &mut edits) { edits.raw() } else { None }
}

/// Closes the objects of a schema or of an array of schemas. Returns whether all of them could be closed.
fn close(schema: &Value<'_>, edits: &mut Splice<'_>) -> bool {
    let Some(members) = schema.object() else { return schema.list().iter().all(|schema| close(schema, edits)) };
    for (name, value) in members.members() {
        let is_closed = match &**name {
            "properties" | "$defs" => {
                let named = value.object().map(RawObject::members).unwrap_or_default();
                named.iter().all(|(_, schema)| close(schema, edits))
            }
            "items" | "anyOf" => close(value, edits),
            "format" => ENFORCED_FORMATS.contains(&value.text()),
            name => ENFORCED.contains(&name),
        };
        if !is_closed {
            return false;
        }
    }
    let has = |keyword: &str| members.value(keyword).is_some();
    let is_of = |kind: &str| {
        let types = members.value("type");
        types.is_some_and(|types| types.text() == kind || types.list().iter().any(|one| one.text() == kind))
    };
    if !is_of(r#""object""#) {
        let is_typed = has("type") || has("anyOf") || has("$ref");
        return is_typed && !has("properties") && (has("items") || !is_of(r#""array""#));
    }
    // After the nested schemas, so that edits are in the order of the text.
    let required = members.list("required");
    let is_required =
        |name: &str| required.iter().any(|one| serde_json::from_str::<&str>(one.get()).is_ok_and(|one| one == name));
    let properties = members.value("properties").and_then(Value::object).map(RawObject::members).unwrap_or_default();
    if properties.is_empty() || !properties.iter().all(|(name, _)| is_required(name)) {
        return false;
    }
    edits.add(schema.text(), r#""additionalProperties":false"#);
    true
}

/// Writes a schema or an array of schemas.
fn write_schema(schema: &Value<'_>, json: &mut String) {
    let Some(members) = schema.object() else { return write_list(schema, Nullable::No, json) };
    let has = |keyword: &str| members.members().iter().any(|(name, _)| keyword_of(name) == keyword);
    let is_nullable = members.members().iter().any(|(name, value)| name == "nullable" && value.text() == "true");
    if is_nullable && has("$ref") {
        json.push_str(r#"{"anyOf":["#);
        write_keywords(members, Nullable::No, json);
        json.extend([",", NULL_SCHEMA, "]}"]);
    } else {
        write_keywords(members, if is_nullable { Nullable::Yes } else { Nullable::No }, json);
    }
}

fn write_keywords(members: &RawObject<'_>, nullable: Nullable, json: &mut String) {
    let named = members.members().iter().map(|(name, value)| (keyword_of(name), value));
    let kept = named.filter(|(name, value)| is_kept(name, value));
    write_object(kept, json, |name, value, json| match name {
        "type" => write_type(value, nullable, json),
        "enum" => write_enum(value, nullable, json),
        "anyOf" => write_list(value, nullable, json),
        "$ref" => json.push_str(&value.text().replacen("#/defs/", "#/$defs/", 1)),
        name if SCHEMA_KEYWORDS.contains(&name) => write_schema(value, json),
        name if SCHEMA_MAP_KEYWORDS.contains(&name) => write_map(value, json),
        name if COUNTS.contains(&name) => json.push_str(&count(value).unwrap_or_default()),
        _ => json.push_str(value.text()),
    });
}

/// The keyword of JSON schemas for one of Google's.
fn keyword_of(name: &str) -> Cow<'_, str> {
    match name {
        "ref" => Cow::Borrowed("$ref"),
        "defs" => Cow::Borrowed("$defs"),
        name => camel_case(name),
    }
}

fn is_kept(name: &str, value: &Value<'_>) -> bool {
    let is_dropped = DROPPED.contains(&name)
        || (name == "format" && DROPPED_FORMATS.contains(&value.text()))
        || (name == "type" && type_name(value) == r#""type_unspecified""#)
        || (COUNTS.contains(&name) && count(value).is_none());
    !is_dropped
}

/// The JSON of a count, which may be written as a string. `None` if the string is not a number.
fn count<'v>(value: &Value<'v>) -> Option<Cow<'v, str>> {
    let Some(digits) = value.text().strip_prefix('"') else { return Some(Cow::Borrowed(value.text())) };
    let number: u64 = digits.trim_end_matches('"').parse().ok()?;
    Some(Cow::Owned(number.to_string()))
}

/// Writes an array of schemas, with one for null if the value may be null.
fn write_list(list: &Value<'_>, nullable: Nullable, json: &mut String) {
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
    if nullable == Nullable::Yes {
        json.extend([",", NULL_SCHEMA]);
    }
    json.push(']');
}

/// Writes the values of an enumeration, with null if the value may be null.
fn write_enum(values: &Value<'_>, nullable: Nullable, json: &mut String) {
    match values.text().trim_end().strip_suffix(']') {
        Some(start) if nullable == Nullable::Yes && !values.list().iter().any(Value::is_null) => {
            let comma = if values.list().is_empty() { "" } else { "," };
            json.extend([start, comma, "null]"]);
        }
        _ => json.push_str(values.text()),
    }
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
fn write_type(kind: &Value<'_>, nullable: Nullable, json: &mut String) {
    let kind = type_name(kind);
    if nullable == Nullable::Yes && kind.starts_with('"') {
        json.extend(["[", &kind, r#","null"]"#]);
    } else {
        json.push_str(&kind);
    }
}

/// The JSON of a type, in lower case.
fn type_name(kind: &Value<'_>) -> String {
    let name = kind.text().parse().ok().and_then(|number: usize| TYPES.get(number));
    name.map_or_else(|| kind.text().to_owned(), |name| quoted(name)).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{close_objects, to_json_schema};

    #[test]
    fn a_schema_is_closed_only_if_all_its_objects_can_be() {
        let part = r#"{"type":"object","properties":{"b":{"type":"integer"}},"required":["b"]#}"#;
        let schema = |part: &str| {
            format!(r#"{{"type":["object","null"],"properties":{{"a":{{"anyOf":[{part}]}}}},"required":["a"]#}}"#)
        };
        let closed = |text: &str| text.replace('#', r#","additionalProperties":false"#);
        let text = schema(part).replace('#', "");
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        assert_eq!(close_objects(raw).unwrap().get(), closed(&schema(part)));
        for open in [
            r#"{"type":"object","properties":{"b":{}}}"#,
            r#"{"type":"object"}"#,
            r#"{"properties":{"b":{}},"required":["b"]}"#,
            r#"{"type":"object","properties":{"b":{}},"required":["b"],"additionalProperties":{}}"#,
            r#"{"type":"string","default":"x"}"#,
            r#"{"description":"anything"}"#,
            r#"{"type":"array"}"#,
            r#"{"type":"string","format":"uri"}"#,
        ] {
            let text = schema(open).replace('#', "");
            assert!(close_objects(serde_json::from_str(&text).unwrap()).is_none(), "{open}");
        }
    }

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
            (
                r#"{"type":6,"properties":{"a":{"type":1,"nullable":true},"b":{"type":0}}}"#,
                r#"{"type":"object","properties":{"a":{"type":["string","null"]},"b":{}}}"#,
            ),
            (
                r#"{"any_of":[{"type":"STRING"},{"type":"NUMBER"}],"nullable":true}"#,
                r#"{"anyOf":[{"type":"string"},{"type":"number"},{"type":"null"}]}"#,
            ),
            (
                r#"{"type":"STRING","enum":["a","b"],"nullable":true}"#,
                r#"{"type":["string","null"],"enum":["a","b",null]}"#,
            ),
            (r#"{"enum":["a", null],"nullable":true}"#, r#"{"enum":["a", null]}"#),
            (
                r##"{"defs":{"A":{"type":"STRING"}},"items":{"ref":"#/defs/A"}}"##,
                r##"{"$defs":{"A":{"type":"string"}},"items":{"$ref":"#/$defs/A"}}"##,
            ),
            (
                r##"{"properties":{"ref":{"ref":"#/$defs/A","nullable":true}}}"##,
                r##"{"properties":{"ref":{"anyOf":[{"$ref":"#/$defs/A"},{"type":"null"}]}}}"##,
            ),
        ] {
            let schema: &RawValue = serde_json::from_str(schema).unwrap();
            assert_eq!(to_json_schema(schema).get(), expected, "{schema}");
        }
    }
}
