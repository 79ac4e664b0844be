//! The format of the answer: `output_config.format`, and its form upstream.

use serde_json::value::RawValue;

use crate::error::ProxyError;
use crate::protocol::json::path::Field;
use crate::protocol::upstream_input::format;

/// The backend's format object; `None` for plain text.
pub(super) fn read(wanted: &Field<'_, '_>) -> Result<Option<Box<RawValue>>, ProxyError> {
    let members = wanted.object()?;
    let kind = wanted.member(&members, "type").ok_or_else(|| wanted.lacks("type"))?;
    match &*kind.text()? {
        "text" => return Ok(None),
        "json_schema" => {}
        _ => return Err(kind.invalid("must be 'json_schema' or 'text'")),
    }
    let schema = wanted.member(&members, "schema").ok_or_else(|| wanted.lacks("schema"))?;
    if !schema.is_object() {
        return Err(schema.must_be("an object"));
    }
    Ok(Some(format::of_schema(schema.raw())))
}
