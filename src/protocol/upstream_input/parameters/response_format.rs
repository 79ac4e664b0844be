//! The format of the output: plain text, any JSON object, or JSON that follows a schema.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::ProxyError;
use crate::protocol::codex::request::{Item, Part, Role, Text};
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::{constant, to_raw};

/// The message added in JSON mode (`json_object`) if no message mentions JSON. The backend rejects JSON mode unless the
/// input, not the instructions, contains the word (case `chat/09-json-object`).
pub const ASK_FOR_JSON: &str = "Respond with a single valid JSON object.";

/// An output format other than plain text.
#[derive(Clone, Debug)]
pub enum ResponseFormat {
    /// A format that the backend doesn't have. Holds the instruction that asks the model for it.
    Described(String),
    /// Any JSON object.
    JsonObject,
    /// JSON that follows a schema. Holds the backend's format object.
    JsonSchema(Box<RawValue>),
}

/// The backend's format object for a schema.
#[derive(Serialize)]
struct JsonSchema<'a> {
    r#type: &'static str,
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    schema: &'a RawValue,
    strict: bool,
}

impl ResponseFormat {
    /// Reads Chat's `response_format`, whose schema is in a member of its own. `None` for plain text.
    ///
    /// # Errors
    /// If the value is not one of the three formats.
    pub fn read_nested(format: &Field<'_, '_>) -> Result<Option<Self>, ProxyError> {
        Self::read(format, |members| named_schema(&format.required(members, "json_schema")?))
    }

    /// Reads `text.format` of Responses, whose schema is beside its type. `None` for plain text.
    ///
    /// # Errors
    /// If the value is not one of the three formats.
    pub fn read_flat(format: &Field<'_, '_>) -> Result<Option<Self>, ProxyError> {
        Self::read(format, |_| named_schema(format))
    }

    fn read<'a>(
        format: &Field<'a, '_>,
        schema: impl FnOnce(&RawObject<'a>) -> Result<Box<RawValue>, ProxyError>,
    ) -> Result<Option<Self>, ProxyError> {
        let members = format.object()?;
        let kind = format.required(&members, "type")?;
        match &*kind.text()? {
            "text" => Ok(None),
            "json_object" => Ok(Some(Self::JsonObject)),
            "json_schema" => Ok(Some(Self::JsonSchema(schema(&members)?))),
            _ => Err(kind.invalid("must be one of 'text', 'json_object' and 'json_schema'")),
        }
    }

    /// Reads Anthropic's output format, a schema without a name. `None` for plain text.
    ///
    /// # Errors
    /// If the value is neither a schema nor plain text.
    pub fn read_unnamed(format: &Field<'_, '_>) -> Result<Option<Self>, ProxyError> {
        let members = format.object()?;
        let kind = format.required(&members, "type")?;
        match &*kind.text()? {
            "text" => Ok(None),
            "json_schema" => {
                let schema = format.required(&members, "schema")?;
                if schema.is_object() {
                    Ok(Some(Self::of_schema(schema.raw())))
                } else {
                    Err(schema.must_be("an object"))
                }
            }
            _ => Err(kind.invalid("must be 'json_schema' or 'text'")),
        }
    }

    /// Reads Ollama's `format`: the word `json` or a schema. `None` for the empty string, which means plain text.
    ///
    /// # Errors
    /// If the value is anything else.
    pub fn read_ollama(format: &Field<'_, '_>) -> Result<Option<Self>, ProxyError> {
        if format.is_object() {
            let is_any = format.object()?.is_empty();
            return Ok(Some(if is_any { Self::JsonObject } else { Self::of_schema(format.raw()) }));
        }
        if !format.is_text() {
            return Err(format.must_be("'json' or a JSON schema"));
        }
        match &*format.text()? {
            "" => Ok(None),
            "json" => Ok(Some(Self::JsonObject)),
            _ => Err(format.invalid("must be 'json' or a JSON schema")),
        }
    }

    /// The format for a schema without a name. It is strict if the backend accepts the schema as strict.
    #[must_use]
    pub fn of_schema(schema: &RawValue) -> Self {
        let strict = serde_json::from_str(schema.get()).is_ok_and(|schema| is_strict(&schema));
        let name = Cow::Borrowed("output");
        Self::JsonSchema(to_raw(&JsonSchema { r#type: "json_schema", name, description: None, schema, strict }))
    }

    /// The format for a schema whose root isn't an object, which the backend doesn't have.
    #[must_use]
    pub fn described_by(schema: &RawValue) -> Self {
        let schema = schema.get();
        Self::Described(format!(
            "Respond with nothing but JSON that follows this JSON schema, without Markdown: {schema}"
        ))
    }

    /// Builds the `text` member of the backend's request. In JSON mode, adds [`ASK_FOR_JSON`] to the input if no
    /// message mentions JSON. Adds the instruction for a format that the backend doesn't have.
    #[must_use]
    pub fn into_text<'a>(
        format: Option<Self>,
        verbosity: Option<Cow<'a, str>>,
        input: &mut Vec<Item<'a>>,
    ) -> Option<Text<'a>> {
        let format = format.and_then(|format| match format {
            Self::Described(instruction) => {
                add_instruction(instruction.into(), input);
                None
            }
            Self::JsonObject => {
                ask_for_json(input);
                Some(Cow::Borrowed(constant(r#"{"type":"json_object"}"#)))
            }
            Self::JsonSchema(format) => Some(Cow::Owned(format)),
        });
        (verbosity.is_some() || format.is_some()).then_some(Text { verbosity, format })
    }
}

fn named_schema(format: &Field<'_, '_>) -> Result<Box<RawValue>, ProxyError> {
    let members = format.object()?;
    let schema = format.required(&members, "schema")?;
    if !schema.is_object() {
        return Err(schema.must_be("an object"));
    }
    Ok(to_raw(&JsonSchema {
        r#type: "json_schema",
        name: format.required(&members, "name")?.text()?,
        description: format.optional_text(&members, "description")?,
        schema: schema.raw(),
        strict: format.optional_flag(&members, "strict")?,
    }))
}

/// Whether the backend accepts a schema as strict: every object in it is closed and requires all its properties.
fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            let is_object = members.get("type").is_some_and(|kind| kind == "object" || lists(kind, "object"));
            let properties = members.get("properties").and_then(Value::as_object);
            let required = members.get("required").unwrap_or(&Value::Null);
            let is_closed = members.get("additionalProperties") == Some(&Value::Bool(false))
                && properties.is_none_or(|properties| properties.keys().all(|name| lists(required, name)));
            (is_closed || !(is_object || properties.is_some())) && members.values().all(is_strict)
        }
        Value::Array(elements) => elements.iter().all(is_strict),
        _ => true,
    }
}

fn lists(list: &Value, word: &str) -> bool {
    list.as_array().is_some_and(|words| words.iter().any(|one| one == word))
}

/// Adds [`ASK_FOR_JSON`] as the first message, unless a message mentions JSON.
fn ask_for_json(input: &mut Vec<Item<'_>>) {
    let is_mentioned = input.iter().any(|item| match item {
        Item::Message { content, .. } => content.iter().any(has_json_text),
        _ => false,
    });
    if !is_mentioned {
        add_instruction(ASK_FOR_JSON.into(), input);
    }
}

/// Adds an instruction as the first message.
fn add_instruction<'a>(instruction: JsonText<'a>, input: &mut Vec<Item<'a>>) {
    input.insert(0, Item::Message { role: Role::Developer, content: vec![Part::InputText(instruction)] });
}

fn has_json_text(part: &Part<'_>) -> bool {
    match part {
        Part::InputText(text) | Part::OutputText(text) => mentions_json(&text.read()),
        Part::InputImage { .. } | Part::InputFile { .. } | Part::RemoteFile { .. } => false,
    }
}

/// Whether a text contains the word that the backend looks for in JSON mode.
#[must_use]
pub fn mentions_json(text: &str) -> bool {
    text.as_bytes().windows(4).any(|word| word.eq_ignore_ascii_case(b"json"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::is_strict;

    #[test]
    fn a_strict_schema_is_closed_and_complete_at_every_level() {
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
