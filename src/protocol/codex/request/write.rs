//! Serializes the values of a request that are the same in both body formats: items, parts, outputs, tools and the tool
//! choice.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Item, Output, Part, Tool, ToolChoice};

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Self::Raw { json, .. } = self {
            return json.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Message { role, content } => {
                entries(&mut map, "message", &[])?;
                map.serialize_entry("role", role)?;
                map.serialize_entry("content", content)?;
            }
            Self::FunctionCall { call_id, name, arguments } => {
                entries(&mut map, "function_call", &[("call_id", call_id), ("name", name)])?;
                map.serialize_entry("arguments", arguments)?;
            }
            Self::CustomToolCall { call_id, name, input } => {
                entries(&mut map, "custom_tool_call", &[("call_id", call_id), ("name", name)])?;
                map.serialize_entry("input", input)?;
            }
            Self::FunctionCallOutput { call_id, output } => {
                entries(&mut map, "function_call_output", &[("call_id", call_id)])?;
                map.serialize_entry("output", output)?;
            }
            Self::CustomToolCallOutput { call_id, output } => {
                entries(&mut map, "custom_tool_call_output", &[("call_id", call_id)])?;
                map.serialize_entry("output", output)?;
            }
            Self::Raw { .. } => {}
        }
        map.end()
    }
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::InputText(text) => {
                entries(&mut map, "input_text", &[])?;
                map.serialize_entry("text", text)?;
            }
            Self::OutputText(text) => {
                entries(&mut map, "output_text", &[])?;
                map.serialize_entry("text", text)?;
            }
            Self::InputImage { image_url, detail } => {
                entries(&mut map, "input_image", &[])?;
                map.serialize_entry("image_url", image_url)?;
                map.serialize_entry("detail", detail)?;
            }
            Self::InputFile { filename, file_data } => {
                entries(&mut map, "input_file", &[("filename", filename)])?;
                map.serialize_entry("file_data", file_data)?;
            }
            Self::RemoteFile { file_url } => entries(&mut map, "input_file", &[("file_url", file_url)])?,
        }
        map.end()
    }
}

/// Writes `type`, then string members.
fn entries<M: SerializeMap>(map: &mut M, kind: &str, texts: &[(&str, &Cow<'_, str>)]) -> Result<(), M::Error> {
    map.serialize_entry("type", kind)?;
    texts.iter().try_for_each(|(name, text)| map.serialize_entry(name, text))
}

impl Serialize for Output<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Parts(parts) => parts.serialize(serializer),
        }
    }
}

impl Serialize for Tool<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Serialize for ToolChoice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::None => serializer.serialize_str("none"),
            Self::Required => serializer.serialize_str("required"),
            Self::Raw(json) => json.serialize(serializer),
        }
    }
}
