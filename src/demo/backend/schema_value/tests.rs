use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn filled(schema: &Value) -> Value {
    fill(schema, MemberScope::All, &Hints::read(""))
}

/// An independent checker for the keywords that the strategy generates.
fn conforms(value: &Value, schema: &Value, root: &Value) -> bool {
    if let Some(target) = schema["$ref"].as_str() {
        return conforms(value, root.pointer(target.trim_start_matches('#')).unwrap(), root);
    }
    if let Some(constant) = schema.get("const") {
        return value == constant;
    }
    if let Some(choices) = schema["enum"].as_array() {
        return choices.contains(value);
    }
    if let Some(union) = schema["anyOf"].as_array() {
        return union.iter().any(|variant| conforms(value, variant, root));
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return parts.iter().all(|part| conforms(value, part, root));
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        kind => vec![kind.clone()],
    };
    kinds.iter().any(|kind| is_of_kind(value, kind.as_str().unwrap(), schema, root))
}

fn is_of_kind(value: &Value, kind: &str, schema: &Value, root: &Value) -> bool {
    let bound = |name: &str| schema[name].as_f64();
    let length = |name: &str, length: usize| schema[name].as_u64().map(|bound| (length as u64).cmp(&bound));
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" | "number" => value.as_f64().is_some_and(|number| {
            (kind == "number" || value.is_i64())
                && bound("minimum").is_none_or(|bound| number >= bound)
                && bound("maximum").is_none_or(|bound| number <= bound)
                && bound("exclusiveMinimum").is_none_or(|bound| number > bound)
                && bound("multipleOf").is_none_or(|step| (number / step).fract() == 0.0)
        }),
        "string" => value.as_str().is_some_and(|text| {
            let characters = text.chars().count();
            length("minLength", characters).is_none_or(std::cmp::Ordering::is_ge)
                && length("maxLength", characters).is_none_or(std::cmp::Ordering::is_le)
        }),
        "array" => value.as_array().is_some_and(|elements| {
            length("minItems", elements.len()).is_none_or(std::cmp::Ordering::is_ge)
                && length("maxItems", elements.len()).is_none_or(std::cmp::Ordering::is_le)
                && elements.iter().all(|element| conforms(element, &schema["items"], root))
        }),
        "object" => value.as_object().is_some_and(|members| {
            let required = schema["required"].as_array().unwrap();
            required.iter().all(|name| members.contains_key(name.as_str().unwrap()))
                && members.iter().all(|(name, member)| conforms(member, &schema["properties"][name], root))
        }),
        other => panic!("no such type: {other}"),
    }
}

fn object(members: &HashMap<String, (Value, bool)>) -> Value {
    let required: Vec<&String> =
        members.iter().filter(|(_, (_, is_required))| *is_required).map(|(name, _)| name).collect();
    let properties: HashMap<&String, &Value> = members.iter().map(|(name, (schema, _))| (name, schema)).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({ "type": "null" })),
        Just(json!({ "type": "boolean" })),
        Just(json!({ "const": { "a": 1 } })),
        Just(json!({ "$ref": "#/$defs/node" })),
        prop::collection::vec("[a-z]{0,4}", 1..4).prop_map(|names| json!({ "enum": names })),
        (-50i64..50, 0i64..50)
            .prop_map(|(least, span)| json!({ "type": "integer", "minimum": least, "maximum": least + span })),
        (-50i64..50, 1i64..9)
            .prop_map(|(least, step)| json!({ "type": "integer", "exclusiveMinimum": least, "multipleOf": step })),
        (-5.0..5.0f64, 0.0..5.0f64)
            .prop_map(|(least, span)| json!({ "type": "number", "minimum": least, "maximum": least + span })),
        (0u64..9, 0u64..9)
            .prop_map(|(least, span)| json!({ "type": "string", "minLength": least, "maxLength": least + span })),
        Just(json!({ "type": ["null", "string"] })),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            (inner.clone(), 0u64..4, 0u64..4)
                .prop_map(|(items, least, span)| json!({ "type": "array", "items": items, "minItems": least, "maxItems": least + span })),
            prop::collection::hash_map("[a-z]{1,6}", (inner.clone(), any::<bool>()), 0..5).prop_map(|members| object(&members)),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|union| json!({ "anyOf": union })),
            prop::collection::hash_map("[a-z]{1,6}", (inner, any::<bool>()), 0..3).prop_map(|members| json!({ "allOf": [object(&members)] })),
        ]
    })
}

fn document() -> impl Strategy<Value = Value> {
    schemas().prop_map(|mut schema| {
        schema["$defs"] = json!({ "node": {
            "type": "object",
            "properties": {
                "next": { "anyOf": [{ "$ref": "#/$defs/node" }, { "type": "null" }] },
                "children": { "type": "array", "items": { "$ref": "#/$defs/node" } },
            },
            "required": ["next", "children"],
        } });
        schema
    })
}

proptest! {
    #[test]
    fn generated_values_conform_to_their_schema(schema in document(), user_text in "[ -~]{0,40}", is_all in any::<bool>()) {
        let scope = if is_all { MemberScope::All } else { MemberScope::Required };
        let value = fill(&schema, scope, &Hints::read(&user_text));
        prop_assert!(conforms(&value, &schema, &schema), "{value} for {schema}");
    }
}

#[test]
fn formats_get_matching_values() {
    let of = |format: &str| filled(&json!({ "type": "string", "format": format }));
    assert_eq!(of("date"), "2026-01-02");
    assert_eq!(of("email"), "demo@example.invalid");
    assert!(uuid::Uuid::parse_str(of("uuid").as_str().unwrap()).is_ok());
}

#[test]
fn optional_members_of_arguments_are_omitted() {
    let schema = json!({
        "type": "object", "required": ["a"],
        "properties": { "a": { "type": "boolean" }, "b": { "type": "boolean" } },
    });
    assert_eq!(fill(&schema, MemberScope::Required, &Hints::read("")), json!({ "a": true }));
    assert_eq!(filled(&schema), json!({ "a": true, "b": true }));
}

#[test]
fn parts_of_all_of_are_merged() {
    let schema = json!({
        "$defs": { "named": { "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"] } },
        "allOf": [{ "$ref": "#/$defs/named" }, { "properties": { "age": { "type": "integer" } }, "required": ["age"] }],
    });
    assert_eq!(filled(&schema), json!({ "name": "demo", "age": 1 }));
}

#[test]
fn a_schema_without_a_finite_value_terminates() {
    let node = json!({ "$ref": "#/$defs/node" });
    let schema = json!({
        "$ref": "#/$defs/node",
        "$defs": { "node": { "type": "object", "required": ["a", "b", "c"], "properties": { "a": node, "b": node, "c": node } } },
    });
    assert!(filled(&schema).is_object());
    assert_eq!(filled(&json!({ "$ref": "#" })), Value::Null);
}
