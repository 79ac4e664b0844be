//! Reads a request for a batch.

use std::time::Duration;

use crate::error::{ProxyError, Refusal};
use crate::protocol::Ignored;
use crate::protocol::files;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;

/// The endpoints that the lines of a batch can use.
pub const ENDPOINTS: [&str; 2] = ["/v1/chat/completions", "/v1/responses"];
/// OpenAI's limits of `metadata`.
const MAX_PAIRS: usize = 16;
const MAX_NAME_CHARACTERS: usize = 64;
const MAX_VALUE_CHARACTERS: usize = 512;
const MAX_WINDOW_CHARACTERS: usize = 16;

/// A request for a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchRequest {
    /// The file with its lines.
    pub input_file_id: String,
    /// One of [`ENDPOINTS`].
    pub endpoint: String,
    /// As the client wrote it. A batch isn't ended when it has passed.
    pub completion_window: String,
    /// A JSON object of strings.
    pub metadata: Option<String>,
    /// How long to keep the output files.
    pub output_lifetime: Option<Duration>,
    /// Members that have no effect.
    pub ignored: Ignored,
}

impl BatchRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// If it isn't a JSON object, or a member is missing or invalid.
    pub fn decode(body: &[u8]) -> Result<Self, ProxyError> {
        let members = RawObject::from_body(body)?;
        let mut request = Self::default();
        for (name, field) in members.fields() {
            match name {
                "input_file_id" => request.input_file_id = field.text()?.into_owned(),
                "endpoint" => request.endpoint = endpoint(&field)?,
                "completion_window" => request.completion_window = completion_window(&field)?,
                "metadata" => request.metadata = Some(metadata(&field)?),
                "output_expires_after" => request.output_lifetime = Some(output_lifetime(&field)?),
                other => request.ignored.note(other),
            }
        }
        let required = [
            ("input_file_id", &request.input_file_id),
            ("endpoint", &request.endpoint),
            ("completion_window", &request.completion_window),
        ];
        let missing = required.into_iter().find(|(_, value)| value.is_empty());
        if let Some((name, _)) = missing { Err(Refusal::missing(name)) } else { Ok(request) }
    }
}

fn endpoint(field: &Field<'_, '_>) -> Result<String, ProxyError> {
    let endpoint = field.text()?;
    if ENDPOINTS.contains(&&*endpoint) {
        return Ok(endpoint.into_owned());
    }
    let message =
        format!("'endpoint' must be one of {}; batches for other endpoints can't be run", ENDPOINTS.join(", "));
    Err(Refusal::unsupported_value("endpoint", message))
}

fn completion_window(field: &Field<'_, '_>) -> Result<String, ProxyError> {
    let window = field.text()?;
    if window.chars().count() > MAX_WINDOW_CHARACTERS {
        return Err(field.invalid("must be a duration such as '24h'"));
    }
    Ok(window.into_owned())
}

fn metadata(field: &Field<'_, '_>) -> Result<String, ProxyError> {
    let members = field.object()?;
    if members.members().len() > MAX_PAIRS {
        return Err(field.invalid(&format!("must have at most {MAX_PAIRS} members")));
    }
    for (name, value) in members.members() {
        let value = Field::from_body(name, value);
        let is_short = |text: &str, most: usize| text.chars().count() <= most;
        let is_valid = value.text().is_ok_and(|text| is_short(&text, MAX_VALUE_CHARACTERS));
        if !is_valid || !is_short(name, MAX_NAME_CHARACTERS) {
            return Err(field.invalid(&format!(
                "must have names of at most {MAX_NAME_CHARACTERS} and strings of at most {MAX_VALUE_CHARACTERS} \
                 characters"
            )));
        }
    }
    Ok(field.json().to_owned())
}

fn output_lifetime(field: &Field<'_, '_>) -> Result<Duration, ProxyError> {
    let members = field.object()?;
    let (anchor, seconds) = (field.required(&members, "anchor")?, field.required(&members, "seconds")?);
    files::lifetime("output_expires_after", &anchor.text()?, seconds.whole_number())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::BatchRequest;
    use crate::error::ProxyError;

    fn body() -> Value {
        json!({"input_file_id": "file-1", "endpoint": "/v1/responses", "completion_window": "24h"})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = body();
        body[name] = value;
        body
    }

    #[test]
    fn all_members_are_read() {
        let mut sent = with("metadata", json!({"a": "b"}));
        sent["output_expires_after"] = json!({"anchor": "created_at", "seconds": 3600});
        sent["color"] = json!("red");
        let request = BatchRequest::decode(sent.to_string().as_bytes()).unwrap();
        assert_eq!((request.metadata.as_deref(), request.completion_window.as_str()), (Some(r#"{"a":"b"}"#), "24h"));
        assert_eq!(request.output_lifetime, Some(Duration::from_secs(3600)));
        assert_eq!(request.ignored.names().collect::<Vec<_>>(), ["color"]);
    }

    #[test]
    fn invalid_members_are_refused_by_name() {
        let pairs: serde_json::Map<_, _> = (0..17).map(|number| (number.to_string(), json!("x"))).collect();
        for (body, param) in [
            (with("input_file_id", Value::Null), "input_file_id"),
            (with("completion_window", Value::Null), "completion_window"),
            (with("completion_window", json!("x".repeat(17))), "completion_window"),
            (with("endpoint", json!("/v1/embeddings")), "endpoint"),
            (with("endpoint", Value::Null), "endpoint"),
            (with("metadata", json!({"a": 5})), "metadata"),
            (with("metadata", json!({"a": "x".repeat(513)})), "metadata"),
            (with("metadata", json!({"x".repeat(65): "a"})), "metadata"),
            (with("metadata", Value::Object(pairs)), "metadata"),
            (with("output_expires_after", json!({"anchor": "created_at"})), "output_expires_after.seconds"),
            (with("output_expires_after", json!({"anchor": "x", "seconds": 3600})), "output_expires_after.anchor"),
            (
                with("output_expires_after", json!({"anchor": "created_at", "seconds": 1})),
                "output_expires_after.seconds",
            ),
        ] {
            let Err(ProxyError::Refused(refusal)) = BatchRequest::decode(body.to_string().as_bytes()) else {
                panic!("{body} was accepted")
            };
            assert_eq!(refusal.param.as_deref(), Some(param), "{body}");
        }
    }
}
