//! Reads `generationConfig`: limits, the format of the output, thinking and sampling.
//!
//! The proxy enforces stop sequences, and the token limit if the settings say so. Sampling parameters are reported as
//! ignored, unless they have the backend's default value.

use serde_json::value::RawValue;

use super::request::unsupported;
use super::schema;
use super::spelling::{enum_name, fields};
use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::to_raw;
use crate::protocol::models::Effort;
use crate::protocol::tokens::TokenLimit;
use crate::protocol::upstream_input::parameters::{self, ResponseFormat, effort_for_budget};
use crate::protocol::{Ignored, Warnings};

/// The name of the limit on output tokens.
const TOKEN_LIMIT: &str = "maxOutputTokens";
/// The media type of one of the values in a schema.
const ENUM_TYPE: &str = "text/x.enum";
/// The kinds of output, by number.
const MODALITIES: [&str; 4] = ["MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO"];
/// The thinking levels, by number.
const THINKING_LEVELS: [&str; 5] = ["THINKING_LEVEL_UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "MINIMAL"];

/// The settings of a reply.
#[derive(Clone, Debug, Default)]
pub(super) struct GenerationConfig {
    pub(super) stop: Vec<String>,
    pub(super) thinking: Thinking,
    token_limit: Option<f64>,
    media_type: MediaType,
    schema: Option<OutputSchema>,
}

/// A schema of the output.
#[derive(Clone, Debug)]
enum OutputSchema {
    /// A JSON schema, as the client sent it.
    Json(Box<RawValue>),
    /// Google's form of one, converted.
    Converted(Box<RawValue>),
}

/// The media type of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum MediaType {
    #[default]
    Text,
    Json,
    /// One of the values in the schema, as plain text.
    Enum,
}

/// How much to think, and whether thoughts are shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Thinking {
    /// `None` leaves it to the model.
    pub(super) effort: Option<Effort>,
    pub(super) is_shown: bool,
}

impl GenerationConfig {
    /// Reads `generationConfig`. Notes the ignored members by name.
    pub(super) fn read(config: &Field<'_, '_>, ignored: &mut Ignored) -> Result<Self, ProxyError> {
        let members = config.object()?;
        let mut read = Self::default();
        for (name, field) in fields(config, &members) {
            read.read_member(&name, &field, ignored)?;
        }
        if read.media_type == MediaType::Enum && read.values().is_empty() {
            let name = format!("{config}.responseMimeType");
            let message = format!("{name}: '{ENUM_TYPE}' requires a 'responseSchema' with 'enum'");
            return Err(Refusal::invalid(name, message));
        }
        Ok(read)
    }

    fn read_member(&mut self, name: &str, field: &Field<'_, '_>, ignored: &mut Ignored) -> Result<(), ProxyError> {
        match name {
            "stopSequences" => self.stop = parameters::stop_sequences(field)?,
            TOKEN_LIMIT => {
                self.token_limit = Some(field.number()?);
                ignored.note(name);
            }
            "responseMimeType" => self.media_type = media_type(field)?,
            "responseSchema" | "responseJsonSchema" => self.schema = Some(OutputSchema::read(name, field)?),
            "responseFormat" => return Err(unsupported(field, "use 'responseMimeType' and 'responseSchema'")),
            "thinkingConfig" => self.thinking = Thinking::read(field, ignored)?,
            "candidateCount" if field.number()? > 1.0 => return Err(single_candidate(field)),
            "responseModalities" => check_modalities(field)?,
            "responseLogprobs" if field.flag()? => return Err(no_log_probabilities(field)),
            "logprobs" if field.number()? > 0.0 => return Err(no_log_probabilities(field)),
            "candidateCount" | "responseLogprobs" | "logprobs" => {}
            "temperature" | "topP" if !field.differs_from(1.0)? => {}
            "presencePenalty" | "frequencyPenalty" if !field.differs_from(0.0)? => {}
            // `temperature`, `topP`, `topK`, `seed`, `mediaResolution`, `speechConfig` and so on.
            name => ignored.note(name),
        }
        Ok(())
    }

    /// The format of the output; `None` for plain text. Notes a warning for a schema that the backend doesn't enforce,
    /// because its root isn't an object.
    pub(super) fn take_format(&mut self, warnings: &mut Warnings) -> Option<ResponseFormat> {
        let values = self.values();
        let format = match (self.schema.take(), self.media_type) {
            (Some(_), MediaType::Enum) => {
                let values = to_raw(&values);
                ResponseFormat::Described(format!(
                    "Respond with nothing but one of the texts in this JSON array, without quotation marks: {values}"
                ))
            }
            (Some(schema), _) => schema.into_format(),
            (None, MediaType::Json) => ResponseFormat::JsonObject,
            (None, MediaType::Text | MediaType::Enum) => return None,
        };
        if matches!(format, ResponseFormat::Described(_)) {
            warnings.note("clamped:responseSchema");
        }
        Some(format)
    }

    /// The values of the schema's `enum`.
    fn values(&self) -> Vec<String> {
        let schema = self.schema.as_ref().and_then(|schema| RawObject::parse(schema.raw().get()).ok());
        let values = schema.and_then(|schema| serde_json::from_str(schema.get("enum")?.get()).ok());
        // A value may be null.
        values.map(|values: Vec<Option<String>>| values.into_iter().flatten().collect()).unwrap_or_default()
    }

    /// Returns the limit to enforce, in tokens, and removes an enforced limit from `ignored`.
    pub(super) fn token_limit(&self, policy: TokenLimit, ignored: &mut Ignored) -> Result<Option<u64>, ProxyError> {
        let name = format!("generationConfig.{TOKEN_LIMIT}");
        let limit = parameters::enforced_limit(&name, self.token_limit, policy)?;
        if policy == TokenLimit::Enforce {
            ignored.retain(|member| member != TOKEN_LIMIT);
        }
        Ok(limit)
    }
}

impl OutputSchema {
    fn read(name: &str, schema: &Field<'_, '_>) -> Result<Self, ProxyError> {
        match (schema.is_object(), name) {
            (false, _) => Err(schema.must_be("an object")),
            (true, "responseJsonSchema") => Ok(Self::Json(schema.raw().to_owned())),
            (true, _) => Ok(Self::Converted(schema::to_json_schema(schema.raw()))),
        }
    }

    fn raw(&self) -> &RawValue {
        let (Self::Json(schema) | Self::Converted(schema)) = self;
        schema
    }

    /// The format for this schema. Google's form can't say that an object is closed, but the backend enforces closed
    /// objects only.
    fn into_format(self) -> ResponseFormat {
        let schema = match self {
            Self::Json(schema) => schema,
            Self::Converted(schema) => schema::close_objects(&schema).unwrap_or(schema),
        };
        let kind = RawObject::parse(schema.get()).ok().and_then(|root| root.get("type").map(RawValue::get));
        if kind == Some(r#""object""#) {
            ResponseFormat::of_schema(&schema)
        } else {
            ResponseFormat::described_by(&schema)
        }
    }
}

impl Thinking {
    fn read(config: &Field<'_, '_>, ignored: &mut Ignored) -> Result<Self, ProxyError> {
        let members = config.object()?;
        let mut read = Self::default();
        let mut level = None;
        for (name, field) in fields(config, &members) {
            match &*name {
                "includeThoughts" => read.is_shown = field.flag()?,
                "thinkingBudget" => read.effort = effort_of_budget(&field)?,
                "thinkingLevel" => level = effort_of_level(&field)?,
                name => ignored.note(name),
            }
        }
        read.effort = level.or(read.effort);
        Ok(read)
    }
}

/// The effort for a budget in tokens. A negative budget leaves it to the model.
fn effort_of_budget(budget: &Field<'_, '_>) -> Result<Option<Effort>, ProxyError> {
    if budget.number()? < 0.0 {
        return Ok(None);
    }
    let tokens = budget.whole_number().ok_or_else(|| budget.must_be("a whole number of tokens"))?;
    Ok(Some(if tokens == 0 { Effort::None } else { effort_for_budget(tokens) }))
}

fn effort_of_level(level: &Field<'_, '_>) -> Result<Option<Effort>, ProxyError> {
    let word = enum_name(level, &THINKING_LEVELS)?.to_ascii_lowercase();
    if word == "thinking_level_unspecified" {
        return Ok(None);
    }
    let complaint = || level.invalid("must be one of 'MINIMAL', 'LOW', 'MEDIUM', 'HIGH' and 'XHIGH'");
    Effort::parse(&word).ok_or_else(complaint).map(Some)
}

fn media_type(field: &Field<'_, '_>) -> Result<MediaType, ProxyError> {
    match &*field.text()? {
        "" | "text/plain" => Ok(MediaType::Text),
        "application/json" => Ok(MediaType::Json),
        ENUM_TYPE => Ok(MediaType::Enum),
        other => {
            let message = format!(
                "{field}: '{other}' is not supported by this proxy; use 'text/plain', 'application/json' or '{ENUM_TYPE}'"
            );
            Err(Refusal::unsupported_value(field.to_string(), message))
        }
    }
}

fn check_modalities(list: &Field<'_, '_>) -> Result<(), ProxyError> {
    let kinds = list.each(|kind: &Field<'_, '_>| enum_name(kind, &MODALITIES))?;
    if kinds.iter().all(|kind| kind == "TEXT") {
        return Ok(());
    }
    Err(Refusal::unsupported_value(list.to_string(), format!("{list}: this proxy only generates text")))
}

fn single_candidate(field: &Field<'_, '_>) -> ProxyError {
    Refusal::unsupported_value(field.to_string(), format!("{field}: the backend generates one candidate per request"))
}

fn no_log_probabilities(field: &Field<'_, '_>) -> ProxyError {
    let message = format!("{field}: log probabilities are not available on this backend");
    Refusal::unsupported_parameter(field.to_string(), message)
}
