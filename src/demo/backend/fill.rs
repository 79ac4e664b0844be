//! A value for any JSON schema.
//!
//! Knows the keywords that structured outputs and tool parameters use. Promises a value that
//! conforms to them (text patterns aside), small and the same for the same input, and an end for
//! schemas that contain themselves. What the prompt says goes in where it obviously belongs.

use std::cell::Cell;

use serde_json::{Map, Number, Value, json};

use super::hints::Hints;

/// From here on optional members are left out, and arrays and unions as empty as they may be.
const SHALLOW: usize = 4;
/// A schema that is still not done here can have no finite value.
const DEEPEST: usize = 24;
/// A schema that wants more values than this is no use to anybody; the rest is null.
const MOST_VALUES: usize = 5_000;
/// A schema may ask for more elements than anybody wants to read.
const MOST_ELEMENTS: u64 = 20;
const LONGEST_TEXT: usize = 10_000;

/// Which members of an object are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those that have to be there, as in the arguments of a call.
    Required,
    /// The optional ones too, as in an answer that shows a schema.
    All,
}

/// A value that conforms to `schema`.
pub(super) fn fill(schema: &Value, reach: Reach, hints: &Hints) -> Value {
    let left = Cell::new(MOST_VALUES);
    Filler { root: schema, reach, hints, left: &left }.value(schema, Spot { name: "", index: 0, depth: 0 })
}

#[derive(Clone, Copy)]
struct Filler<'s> {
    root: &'s Value,
    reach: Reach,
    hints: &'s Hints,
    left: &'s Cell<usize>,
}

/// Where in the value we are.
#[derive(Clone, Copy)]
struct Spot<'s> {
    name: &'s str,
    index: usize,
    depth: usize,
}

impl<'s> Filler<'s> {
    fn value(&self, schema: &'s Value, at: Spot<'s>) -> Value {
        if at.depth > DEEPEST || self.left.get() == 0 {
            return Value::Null;
        }
        self.left.set(self.left.get() - 1);
        let deeper = Spot { depth: at.depth + 1, ..at };
        if let Some(target) = schema["$ref"].as_str() {
            return self.value(self.target(target), deeper);
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        if let Some(choices) = schema["enum"].as_array().filter(|choices| !choices.is_empty()) {
            return choices[(at.index + self.hints.turn()) % choices.len()].clone();
        }
        if let Some(union) = ["anyOf", "oneOf"].iter().find_map(|name| schema[*name].as_array()) {
            return self.value(pick(union, at.depth), deeper);
        }
        if let Some(parts) = schema["allOf"].as_array() {
            return self.all_of(schema, parts, deeper);
        }
        self.typed(schema, at)
    }

    fn typed(&self, schema: &'s Value, at: Spot<'s>) -> Value {
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

    /// A schema elsewhere in the document.
    fn target(&self, reference: &str) -> &'s Value {
        let pointer = reference.strip_prefix('#').unwrap_or_default();
        self.root.pointer(pointer).unwrap_or(&Value::Null)
    }

    fn object(&self, schema: &'s Value, at: Spot<'s>) -> Value {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let all = self.reach == Reach::All && at.depth < SHALLOW;
        let mut members = Map::new();
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            if all || required.contains(&name.as_str()) {
                let spot = Spot { name, index: at.index, depth: at.depth + 1 };
                members.insert(name.clone(), self.value(member, spot));
            }
        }
        for name in required {
            members.entry(name).or_insert_with(|| json!("demo"));
        }
        Value::Object(members)
    }

    fn array(&self, schema: &'s Value, at: Spot<'s>) -> Value {
        let fixed = schema["prefixItems"].as_array().map(Vec::as_slice).unwrap_or_default();
        let least = schema["minItems"].as_u64().unwrap_or(0).min(MOST_ELEMENTS);
        let most = schema["maxItems"].as_u64().unwrap_or(MOST_ELEMENTS);
        let liked = if at.depth < SHALLOW { 1.max(fixed.len() as u64) } else { 0 };
        let spot = |index| Spot { name: at.name, index, depth: at.depth + 1 };
        let element = |index: usize| self.value(fixed.get(index).unwrap_or(&schema["items"]), spot(index));
        let length = usize::try_from(liked.max(least).min(most)).unwrap_or_default();
        Value::Array((0..length).map(element).collect())
    }

    fn all_of(&self, schema: &'s Value, parts: &'s [Value], at: Spot<'s>) -> Value {
        let mut rest = schema.clone();
        if let Some(members) = rest.as_object_mut() {
            members.remove("allOf");
        }
        let mut merged = Value::Null;
        for part in parts.iter().chain([&rest]) {
            let resolved = part["$ref"].as_str().map_or(part, |target| self.target(target));
            merge(&mut merged, resolved);
        }
        // The merged schema is a document of its own; references in it still mean this one's.
        let root = self.root.clone();
        for name in ["$defs", "definitions"] {
            if let Some(definitions) = root.get(name) {
                merged[name] = definitions.clone();
            }
        }
        let filler = Filler { root: &merged, ..*self };
        filler.value(&merged, Spot { name: "", ..at })
    }

    fn text(&self, schema: &Value, at: Spot<'_>) -> String {
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

/// The first variant that is something; deep down, the first that is nothing.
fn pick(union: &[Value], depth: usize) -> &Value {
    let is_null = |variant: &&Value| kind(variant) == "null";
    let is_flat = |variant: &&Value| !matches!(kind(variant), "object" | "array") && variant.get("$ref").is_none();
    let wanted = if depth < SHALLOW {
        union.iter().find(|variant| !is_null(variant))
    } else {
        union.iter().find(is_null).or_else(|| union.iter().find(is_flat))
    };
    wanted.or(union.first()).unwrap_or(&Value::Null)
}

/// A schema's type: of several the first that is something, of none what its keywords tell.
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

/// The hint if the bounds allow it, else the number next to 1 that they allow.
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

/// Whole numbers without a fraction.
#[expect(clippy::cast_possible_truncation, reason = "the value is whole and within 2^53")]
fn written(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Makes a text as long or as short as the schema wants it.
fn fit(text: &str, schema: &Value) -> String {
    let length = |name: &str| schema[name].as_u64().and_then(|length| usize::try_from(length).ok());
    let most = length("maxLength").unwrap_or(usize::MAX);
    let least = length("minLength").unwrap_or(0).min(LONGEST_TEXT);
    let padding = " demo".chars().cycle().take(least.saturating_sub(text.chars().count()));
    text.chars().chain(padding).take(most).collect()
}

/// Adds the keywords of `part`; objects and lists of names grow together.
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
