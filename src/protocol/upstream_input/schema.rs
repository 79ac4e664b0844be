//! Repairs JSON schemas of tools.
//!
//! A schema loses `$schema`, and is otherwise changed only where the backend would reject it: it needs a type, an
//! object needs properties, and an array needs items.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::protocol::Warnings;
use crate::protocol::codex::request::{Item, Request};
use crate::protocol::json::raw_object::{RawObject, Value};
use crate::protocol::json::splice::Splice;
use crate::protocol::json::{constant, to_raw};

/// Keywords whose value is a schema or an array of schemas.
const SCHEMA_KEYWORDS: [&str; 15] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is an object of schemas.
const SCHEMA_MAP_KEYWORDS: [&str; 6] =
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];
/// How deep a tool is parsed. The server rejects requests that nest deeper.
const MAX_DEPTH: usize = 256;

/// Returns a schema without `$schema`, with a type, and with properties if the type is object. `members` are those of
/// `schema`.
#[must_use]
pub fn parameters<'a>(schema: &'a RawValue, mut members: RawObject<'a>) -> Cow<'a, RawValue> {
    const TYPED_BY: [&str; 5] = ["type", "anyOf", "oneOf", "allOf", "$ref"];
    let mut is_changed = members.remove("$schema");
    if !TYPED_BY.iter().any(|member| members.get(member).is_some()) {
        members.push("type", constant(r#""object""#));
        is_changed = true;
    }
    let is_object = members.get("type").is_some_and(|kind| kind.get() == r#""object""#);
    if is_object && members.get("properties").is_none() {
        members.push("properties", constant("{}"));
        is_changed = true;
    }
    if is_changed { Cow::Owned(to_raw(&members)) } else { Cow::Borrowed(schema) }
}

/// Adds `"items": {}` to every array without items in the schemas of tools, and notes a warning. JSON Schema gives both
/// the same meaning, but the backend rejects the whole request for one such array.
pub fn complete_arrays(request: &mut Request<'_>, warnings: &mut Warnings) {
    let mut is_changed = false;
    for tool in &mut request.tools {
        is_changed |= edit(tool.json_mut(), edit_tool);
    }
    for item in &mut request.input {
        if let Item::Raw { kind, json } = item
            && kind == "additional_tools"
        {
            is_changed |= edit(json, edit_tools);
        }
    }
    if is_changed {
        warnings.note("repaired:tool_schema");
    }
}

/// Applies the edits of `visit` to a value, if it mentions arrays. Returns whether it changed.
fn edit(json: &mut Cow<'_, RawValue>, visit: fn(&Value<'_>, &mut Splice<'_>)) -> bool {
    if memchr::memmem::find(json.get().as_bytes(), br#""array""#).is_none() {
        return false;
    }
    let Some(value) = Value::opened(json.get(), MAX_DEPTH) else { return false };
    let mut edits = Splice::new(json.get());
    visit(&value, &mut edits);
    let Some(edited) = edits.raw() else { return false };
    *json = Cow::Owned(edited);
    true
}

/// Edits the tools in the member `tools` of an object.
fn edit_tools(holder: &Value<'_>, edits: &mut Splice<'_>) {
    let tools = holder.object().and_then(|members| members.value("tools"));
    for tool in tools.map(Value::list).unwrap_or_default() {
        edit_tool(tool, edits);
    }
}

fn edit_tool(tool: &Value<'_>, edits: &mut Splice<'_>) {
    let Some(members) = tool.object() else { return };
    match members.value("type").map(Value::text) {
        Some(r#""function""#) => {
            if let Some(schema) = members.value("parameters") {
                edit_schema(schema, edits);
            }
        }
        Some(r#""namespace""#) => edit_tools(tool, edits),
        _ => {}
    }
}

/// Edits a schema or an array of schemas.
fn edit_schema(schema: &Value<'_>, edits: &mut Splice<'_>) {
    for schema in schema.list() {
        edit_schema(schema, edits);
    }
    let Some(members) = schema.object() else { return };
    for (name, value) in members.members() {
        if SCHEMA_KEYWORDS.contains(&&**name) {
            edit_schema(value, edits);
        } else if SCHEMA_MAP_KEYWORDS.contains(&&**name) {
            let named = value.object().map(RawObject::members).unwrap_or_default();
            for (_, schema) in named {
                edit_schema(schema, edits);
            }
        }
    }
    // After the nested schemas, so that edits are in the order of the text.
    let is_array =
        |kind: &Value<'_>| kind.text() == r#""array""# || kind.list().iter().any(|kind| kind.text() == r#""array""#);
    if members.value("type").is_some_and(is_array) {
        match members.value("items") {
            None => edits.add(schema.text(), r#""items":{}"#),
            Some(null) if null.is_null() => edits.replace(null.raw(), "{}"),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::value::RawValue;

    use super::{edit, edit_schema, edit_tool};

    fn completed(schema: &str) -> String {
        let mut json: Cow<'_, RawValue> = Cow::Borrowed(serde_json::from_str(schema).unwrap());
        let is_changed = edit(&mut json, edit_schema);
        assert_eq!(is_changed, json.get() != schema, "{schema}");
        json.get().to_owned()
    }

    #[test]
    fn every_array_gets_items_at_any_level() {
        for holder in [
            "#",
            r#"{"type":"object","properties":{"a":#,"array":{"type":"string"}}}"#,
            r#"{"$defs":{"a":#},"definitions":{"a":#},"patternProperties":{"^a":#},"dependentSchemas":{"a":#}}"#,
            r#"{"anyOf":[{"type":"null"},#],"oneOf":[#],"allOf":[#,#],"not":#,"if":#,"then":#,"else":#}"#,
            r#"{"type":"array","items":#}"#,
            r#"{"type":["array","null"],"items":[#,{"type":"string"}],"additionalItems":#,"contains":#}"#,
            r#"{"additionalProperties":#,"propertyNames":#,"unevaluatedItems":#,"unevaluatedProperties":#}"#,
            r#"{"dependencies":{"a":["b"],"c":#}}"#,
        ] {
            for (lacking, whole) in [
                (r#"{"type":"array"}"#, r#"{"type":"array","items":{}}"#),
                (
                    r#"{ "type" : ["array", "null"] , "maxItems":1.0e1 }"#,
                    r#"{ "type" : ["array", "null"] , "maxItems":1.0e1 ,"items":{}}"#,
                ),
                (r#"{"items":null,"type":"array"}"#, r#"{"items":{},"type":"array"}"#),
                (
                    r#"{"type":"array","prefixItems":[{"type":"array"},true]}"#,
                    r#"{"type":"array","prefixItems":[{"type":"array","items":{}},true],"items":{}}"#,
                ),
            ] {
                assert_eq!(completed(&holder.replace('#', lacking)), holder.replace('#', whole));
                assert_eq!(completed(&holder.replace('#', whole)), holder.replace('#', whole));
            }
        }
    }

    #[test]
    fn values_that_are_no_array_schemas_are_unchanged() {
        for schema in [
            r#"{"type":"object","properties":{"type":{"type":"string","const":"array"}}}"#,
            r#"{"enum":[{"type":"array"}],"default":{"type":"array"},"examples":[{"type":"array"}],"const":{"type":"array"}}"#,
            r#"{"type":"array","items":true}"#,
            r#"{"type":"array","items":[]}"#,
            r#"{"properties":[{"type":"array"}],"x":{"type":"array"}}"#,
        ] {
            assert_eq!(completed(schema), schema);
        }
    }

    #[test]
    fn tools_in_namespaces_are_edited() {
        let tool = r#"{"type":"namespace","name":"n","tools":[{"type":"function","name":"f","parameters":{"type":"array"},"strict":true},{"type":"custom","parameters":{"type":"array"}}]}"#;
        let mut json: Cow<'_, RawValue> = Cow::Borrowed(serde_json::from_str(tool).unwrap());
        assert!(edit(&mut json, edit_tool));
        let whole = tool.replacen(r#"{"type":"array"}"#, r#"{"type":"array","items":{}}"#, 1);
        assert_eq!(json.get(), whole);
    }
}
