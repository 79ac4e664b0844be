//! JSON schemas of tools: the form that the backend takes.
//!
//! A schema is touched only where the backend would refuse it: without a type, without the properties
//! of its object, and where an array says nothing about its items.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::protocol::Warnings;
use crate::protocol::codex::request::{Item, Request};
use crate::protocol::json::raw_object::{RawObject, Value};
use crate::protocol::json::splice::Splice;

/// Keywords whose value is a schema or a list of schemas.
const APPLIED: [&str; 15] = [
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
/// Keywords whose value names schemas.
const NAMED: [&str; 6] =
    ["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];
/// No request nests deeper than this.
const DEEPEST: usize = 256;

/// A value that we made up ourselves, as raw JSON.
#[must_use]
pub fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("strings and raw JSON always serialise")
}

/// A schema that the backend takes: with a type, and with properties where it is an object's.
#[must_use]
pub fn parameters<'a>(untouched: &'a RawValue, mut members: RawObject<'a>) -> Cow<'a, RawValue> {
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
    if is_changed { Cow::Owned(raw(&members)) } else { Cow::Borrowed(untouched) }
}

/// Adds `"items": {}` to every array of a tool's schema that lacks it. JSON Schema means the same by both,
/// but the backend refuses the whole request for one such array.
pub fn complete_arrays(request: &mut Request<'_>, warnings: &mut Warnings) {
    let mut is_changed = false;
    for tool in &mut request.tools {
        is_changed |= edit(tool.json_mut(), in_tool);
    }
    for item in &mut request.input {
        if let Item::Raw { kind, json } = item
            && kind == "additional_tools"
        {
            is_changed |= edit(json, in_tools);
        }
    }
    if is_changed {
        warnings.note("repaired:tool_schema");
    }
}

/// Edits a value in its place; says whether it is another one now.
fn edit(json: &mut Cow<'_, RawValue>, visit: fn(&Value<'_>, &mut Splice<'_>)) -> bool {
    if memchr::memmem::find(json.get().as_bytes(), br#""array""#).is_none() {
        return false;
    }
    let Some(value) = Value::opened(json.get(), DEEPEST) else { return false };
    let mut edits = Splice::new(json.get());
    visit(&value, &mut edits);
    let Some(edited) = edits.raw() else { return false };
    *json = Cow::Owned(edited);
    true
}

/// The tools that an object holds.
fn in_tools(holder: &Value<'_>, edits: &mut Splice<'_>) {
    let tools = holder.object().and_then(|members| members.value("tools"));
    for tool in tools.map(Value::list).unwrap_or_default() {
        in_tool(tool, edits);
    }
}

fn in_tool(tool: &Value<'_>, edits: &mut Splice<'_>) {
    let Some(members) = tool.object() else { return };
    match members.value("type").map(Value::text) {
        Some(r#""function""#) => {
            if let Some(schema) = members.value("parameters") {
                in_schema(schema, edits);
            }
        }
        Some(r#""namespace""#) => in_tools(tool, edits),
        _ => {}
    }
}

/// A schema, or a list of schemas.
fn in_schema(schema: &Value<'_>, edits: &mut Splice<'_>) {
    for schema in schema.list() {
        in_schema(schema, edits);
    }
    let Some(members) = schema.object() else { return };
    for (name, value) in members.members() {
        if APPLIED.contains(&&**name) {
            in_schema(value, edits);
        } else if NAMED.contains(&&**name) {
            let named = value.object().map(RawObject::members).unwrap_or_default();
            for (_, schema) in named {
                in_schema(schema, edits);
            }
        }
    }
    // After what is inside it, so that edits are noted in the order of the text.
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

/// A constant of ours as raw JSON.
#[must_use]
pub fn constant(json: &'static str) -> &'static RawValue {
    serde_json::from_str(json).expect("a constant of ours is JSON")
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::value::RawValue;

    use super::{edit, in_schema, in_tool};

    fn completed(schema: &str) -> String {
        let mut json: Cow<'_, RawValue> = Cow::Borrowed(serde_json::from_str(schema).unwrap());
        let is_changed = edit(&mut json, in_schema);
        assert_eq!(is_changed, json.get() != schema, "{schema}");
        json.get().to_owned()
    }

    #[test]
    fn every_array_gets_items_wherever_it_stands() {
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
    fn what_only_looks_like_an_array_is_left_alone() {
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
    fn tools_are_looked_for_in_namespaces() {
        let tool = r#"{"type":"namespace","name":"n","tools":[{"type":"function","name":"f","parameters":{"type":"array"},"strict":true},{"type":"custom","parameters":{"type":"array"}}]}"#;
        let mut json: Cow<'_, RawValue> = Cow::Borrowed(serde_json::from_str(tool).unwrap());
        assert!(edit(&mut json, in_tool));
        let whole = tool.replacen(r#"{"type":"array"}"#, r#"{"type":"array","items":{}}"#, 1);
        assert_eq!(json.get(), whole);
    }
}
