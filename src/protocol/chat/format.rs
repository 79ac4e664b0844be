//! The format of the answer: `response_format`, and its form upstream.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::ProxyError;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::schema::raw;

/// A format other than plain text.
#[derive(Clone, Debug)]
pub(super) enum Format {
    /// Any JSON object.
    JsonObject,
    /// What a schema describes; the backend's format object.
    JsonSchema(Box<RawValue>),
}

#[derive(Serialize)]
struct Typed {
    r#type: &'static str,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    r#type: &'static str,
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'a, str>>,
    schema: &'a RawValue,
    strict: bool,
}

impl Format {
    /// Reads `response_format`; `None` for plain text.
    pub(super) fn read(format: &Field<'_, '_>) -> Result<Option<Self>, ProxyError> {
        Self::read_with(format, |members| {
            let inner = format.member(members, "json_schema").ok_or_else(|| format.lacks("json_schema"))?;
            json_schema(&inner)
        })
    }

    /// Reads `text.format` of the Responses shape, whose schema stands beside its type.
    pub(super) fn read_flat(format: &Field<'_, '_>) -> Result<Option<Self>, ProxyError> {
        Self::read_with(format, |_| json_schema(format))
    }

    fn read_with<'a>(
        format: &Field<'a, '_>,
        schema: impl FnOnce(&RawObject<'a>) -> Result<Box<RawValue>, ProxyError>,
    ) -> Result<Option<Self>, ProxyError> {
        let members = format.object()?;
        let kind = format.member(&members, "type").ok_or_else(|| format.lacks("type"))?;
        match &*kind.text()? {
            "text" => Ok(None),
            "json_object" => Ok(Some(Self::JsonObject)),
            "json_schema" => Ok(Some(Self::JsonSchema(schema(&members)?))),
            _ => Err(kind.invalid("must be one of 'text', 'json_object' and 'json_schema'")),
        }
    }

    /// The backend's format object.
    pub(super) fn upstream(self) -> Box<RawValue> {
        match self {
            Self::JsonObject => raw(&Typed { r#type: "json_object" }),
            Self::JsonSchema(format) => format,
        }
    }
}

fn json_schema(inner: &Field<'_, '_>) -> Result<Box<RawValue>, ProxyError> {
    let members = inner.object()?;
    let schema = inner.member(&members, "schema").ok_or_else(|| inner.lacks("schema"))?;
    if !schema.is_object() {
        return Err(schema.must_be("an object"));
    }
    Ok(raw(&JsonSchema {
        r#type: "json_schema",
        name: inner.member(&members, "name").ok_or_else(|| inner.lacks("name"))?.text()?,
        description: inner.member(&members, "description").map(|description| description.text()).transpose()?,
        schema: schema.raw(),
        strict: inner.member(&members, "strict").map_or(Ok(false), |strict| strict.flag())?,
    }))
}
