//! Generates a value for a JSON schema.
//!
//! Supports the keywords of structured outputs and tool parameters, except `pattern`. Values are small and
//! deterministic. Recursive and very large schemas terminate, but their value may not conform. Values from the prompt
//! are used where they fit (see [`Hints`]).

use std::cell::Cell;

use serde_json::{Map, Number, Value, json};

use super::hints::Hints;

/// From this depth on, optional members are omitted, and arrays and unions are as small as allowed.
const FULL_DEPTH: usize = 4;
/// Beyond this depth, values are null.
const MAX_DEPTH: usize = 24;
/// Maximum number of values; further ones are null.
const MAX_VALUES: usize = 5_000;
/// Maximum number of elements in an array, even if the schema requires more.
const MAX_ELEMENTS: u64 = 20;
/// Maximum length to which a text is padded, even if the schema requires more.
const MAX_TEXT_CHARACTERS: usize = 10_000;

/// Which members of objects are generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberScope {
    /// Required members, as for tool arguments.
    Required,
    /// Optional members too, as for structured output.
    All,
}

/// Returns a value for `schema`.
pub(super) fn fill(schema: &Value, scope: MemberScope, hints: &Hints) -> Value {
    let left = Cell::new(MAX_VALUES);
    Filler { root: schema, scope, hints, left: &left }.value(schema, Position { name: "", index: 0, depth: 0 })
}

/// Generates the value of one schema document.
#[derive(Clone, Copy)]
struct Filler<'s> {
    /// The document that references point into.
    root: &'s Value,
    scope: MemberScope,
    hints: &'s Hints,
    /// How many more values may be generated.
    left: &'s Cell<usize>,
}

/// The position in the generated value: name of the member, index in the innermost array, and depth.
#[derive(Clone, Copy)]
struct Position<'s> {
    name: &'s str,
    index: usize,
    depth: usize,
}

impl<'s> Filler<'s> {
    fn value(&self, schema: &'s Value, at: Position<'s>) -> Value {
        if at.depth > MAX_DEPTH || self.left.get() == 0 {
            return Value::Null;
        }
        self.left.set(self.left.get() - 1);
        let deeper = Position { depth: at.depth + 1, ..at };
        if let Some(target) = schema["$ref"].as_str() {
            return self.value(self.target(target), deeper);
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        if let Some(choices) = schema["enum"].as_array().filter(|choices| !choices.is_empty()) {
            return choices[(at.index + self.hints.call_index()) % choices.len()].clone();
        }
        if let Some(union) = ["anyOf", "oneOf"].iter().find_map(|name| schema[*name].as_array()) {
            return self.value(pick(union, at.depth), deeper);
        }
        if let Some(parts) = schema["allOf"].as_array() {
            return self.all_of(schema, parts, deeper);
        }
        self.typed(schema, at)
    }

    fn typed(&self, schema: &'s Value, at: Position<'s>) -> Value {
        match kind(schema) {
            "object" => self.object(schema, at),
            "array" => self.array(schema, at),
            "integer" => number(schema, self.hints.number().filter(|hint| hint.fract() == 0.0), 1.0),
            "number" => number(schema, self.hints.number(), 0.0),
            "boolean" => Value::Bool(true),
            "null" => Value::Null,
            _ => Value::String(self.text(schema, at)),
        }
    }

    /// Resolves a reference.
    fn target(&self, reference: &str) -> &'s Value {
        let pointer = reference.strip_prefix('#').unwrap_or_default();
        self.root.pointer(pointer).unwrap_or(&Value::Null)
    }

    fn object(&self, schema: &'s Value, at: Position<'s>) -> Value {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let all = self.scope == MemberScope::All && at.depth < FULL_DEPTH;
        let mut members = Map::new();
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            if all || required.contains(&name.as_str()) {
                let spot = Position { name, index: at.index, depth: at.depth + 1 };
                members.insert(name.clone(), self.value(member, spot));
            }
        }
        for name in required {
            members.entry(name).or_insert_with(|| json!("demo"));
        }
        Value::Object(members)
    }

    fn array(&self, schema: &'s Value, at: Position<'s>) -> Value {
        let fixed = schema["prefixItems"].as_array().map(Vec::as_slice).unwrap_or_default();
        let least = schema["minItems"].as_u64().unwrap_or(0).min(MAX_ELEMENTS);
        let most = schema["maxItems"].as_u64().unwrap_or(MAX_ELEMENTS);
        let liked = if at.depth < FULL_DEPTH { 1.max(fixed.len() as u64) } else { 0 };
        let spot = |index| Position { name: at.name, index, depth: at.depth + 1 };
        let element = |index: usize| self.value(fixed.get(index).unwrap_or(&schema["items"]), spot(index));
        let length = usize::try_from(liked.max(least).min(most)).unwrap_or_default();
        Value::Array((0..length).map(element).collect())
    }

    fn all_of(&self, schema: &'s Value, parts: &'s [Value], at: Position<'s>) -> Value {
        let mut rest = schema.clone();
        if let Some(members) = rest.as_object_mut() {
            members.remove("allOf");
        }
        let mut merged = Value::Null;
        for part in parts.iter().chain([&rest]) {
            let resolved = part["$ref"].as_str().map_or(part, |target| self.target(target));
            merge(&mut merged, resolved);
        }
        // The merged schema becomes the root document, so it needs the definitions that its references use.
        let root = self.root.clone();
        for name in ["$defs", "definitions"] {
            if let Some(definitions) = root.get(name) {
                merged[name] = definitions.clone();
            }
        }
        let filler = Filler { root: &merged, ..*self };
        filler.value(&merged, Position { name: "", ..at })
    }

    fn text(&self, schema: &Value, at: Position<'_>) -> String {
        let text = match schema["format"].as_str() {
            Some("date-time") => "2026-01-02T03:04:05Z",
            Some("date") => "2026-01-02",
            Some("time") => "03:04:05Z",
            Some("duration") => "PT1M",
            Some("email") => "demo@example.invalid",
            Some("uri" | "url") => "https://example.invalid/demo",
            Some("hostname") => "example.invalid",
            Some("uuid") => "00000000-0000-4000-8000-000000000000",
            Some("ipv4") => "127.0.0.1",
            Some("ipv6") => "::1",
            _ => return fit(&self.hints.text_for(at.name, at.index), schema),
        };
        text.to_owned()
    }
}

/// Picks the first variant that isn't null; from [`FULL_DEPTH`] on, preferably null or a scalar.
fn pick(union: &[Value], depth: usize) -> &Value {
    let is_null = |variant: &&Value| kind(variant) == "null";
    let is_flat = |variant: &&Value| !matches!(kind(variant), "object" | "array") && variant.get("$ref").is_none();
    let wanted = if depth < FULL_DEPTH {
        union.iter().find(|variant| !is_null(variant))
    } else {
        union.iter().find(is_null).or_else(|| union.iter().find(is_flat))
    };
    wanted.or(union.first()).unwrap_or(&Value::Null)
}

/// Returns the type of a schema: the first one that isn't null, or what its keywords imply.
fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => {
            let mut kinds = kinds.iter().filter_map(Value::as_str);
            kinds.clone().find(|kind| *kind != "null").or_else(|| kinds.next()).unwrap_or("string")
        }
        _ if schema.get("properties").is_some() || schema.get("required").is_some() => "object",
        _ if schema.get("items").is_some() || schema.get("prefixItems").is_some() => "array",
        _ if schema.get("minimum").is_some() || schema.get("maximum").is_some() => "number",
        _ => "string",
    }
}

/// Returns the hint if the schema allows it, else the allowed number closest to 1. `step` is that of the type; 0 for
/// any number.
fn number(schema: &Value, hint: Option<f64>, step: f64) -> Value {
    let bound = |name: &str| schema[name].as_f64();
    let step = bound("multipleOf").or((step > 0.0).then_some(step));
    let gap = step.unwrap_or(0.5);
    let least = [bound("minimum"), bound("exclusiveMinimum").map(|bound| bound + gap)];
    let most = [bound("maximum"), bound("exclusiveMaximum").map(|bound| bound - gap)];
    let least = least.into_iter().flatten().reduce(f64::max);
    let most = most.into_iter().flatten().reduce(f64::min);
    let allowed = |value: &f64| {
        least.is_none_or(|least| *value >= least) && most.is_none_or(|most| *value <= most) && is_multiple(*value, step)
    };
    let nearest = 1.0_f64.max(least.unwrap_or(1.0)).min(most.unwrap_or(f64::MAX)).max(least.unwrap_or(f64::MIN));
    let stepped = step.map(|step| [(nearest / step).ceil() * step, (nearest / step).floor() * step]);
    let candidates = hint.into_iter().chain(stepped.into_iter().flatten()).chain([nearest]);
    written(candidates.into_iter().find(allowed).unwrap_or(nearest))
}

fn is_multiple(value: f64, step: Option<f64>) -> bool {
    step.is_none_or(|step| ((value / step) - (value / step).round()).abs() < 1e-9)
}

/// Converts a number, whole ones to integers.
#[expect(clippy::cast_possible_truncation, reason = "the value is whole and within 2^53")]
fn written(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Pads or truncates text to the length that the schema allows.
fn fit(text: &str, schema: &Value) -> String {
    let length = |name: &str| schema[name].as_u64().and_then(|length| usize::try_from(length).ok());
    let most = length("maxLength").unwrap_or(usize::MAX);
    let least = length("minLength").unwrap_or(0).min(MAX_TEXT_CHARACTERS);
    let padding = " demo".chars().cycle().take(least.saturating_sub(text.chars().count()));
    text.chars().chain(padding).take(most).collect()
}

/// Merges the keywords of `part` into `merged`: objects and arrays are combined, other values replaced.
fn merge(merged: &mut Value, part: &Value) {
    match (merged, part) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}

#[cfg(test)]
mod tests;
