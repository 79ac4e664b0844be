//! Request parameters that several APIs have in common.
//!
//! A reader is passed the member under the API's own name, so that an error names what the client sent. This module
//! also decides what a parameter means for the backend: the service tier, the reasoning effort, the response format,
//! and what happens to a token limit. Parameters that the backend doesn't accept are only classified.

mod response_format;
mod token_limit;
mod tool_choice;
mod web_search;

use std::borrow::Cow;

use serde_json::value::RawValue;

pub use response_format::{ASK_FOR_JSON, ResponseFormat, mentions_json};
pub use token_limit::{TokenLimits, enforced_limit};
pub use tool_choice::{allowed_tools, tool_choice_keyword};
pub use web_search::{is_web_search, web_search_tool};

use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::{ServiceTier, Tool};
use crate::protocol::json::constant;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::models::{Effort, RequestTraits, ResolvedModel};
use crate::protocol::tokens::TokenLimit;
use crate::protocol::upstream_input::{names, schema};
use crate::protocol::{Context, Ignored, Mode};

/// Maximum number of OpenAI's `stop` sequences.
const MAX_STOPS: usize = 4;

/// The settings of the dialects other than Responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonOptions {
    /// System prompt for requests without one (`default_instructions`).
    pub default_instructions: String,
    /// How a token limit in a request is handled (`chat.token_limit`, which applies to all of them).
    pub token_limit: TokenLimit,
}

/// Reads `stream`.
///
/// # Errors
/// If the value is not a boolean.
pub fn mode(stream: &Field<'_, '_>) -> Result<Mode, ProxyError> {
    Ok(if stream.flag()? { Mode::Stream } else { Mode::Document })
}

/// Reads `stream_options.include_usage`.
///
/// # Errors
/// If the options are not an object, or the member is not a boolean.
pub fn includes_usage(stream_options: &Field<'_, '_>) -> Result<bool, ProxyError> {
    stream_options.optional_flag(&*stream_options.object()?, "include_usage")
}

/// The error for `stream_options` in a request without `stream`.
#[must_use]
pub fn stream_options_without_stream() -> ProxyError {
    Refusal::invalid("stream_options", "'stream_options' is only allowed with 'stream': true")
}

/// Reads OpenAI's `stop`: a string, or an array of at most four. Empty strings are dropped.
///
/// # Errors
/// If the value has another type or more elements.
pub fn stop(stop: &Field<'_, '_>) -> Result<Vec<String>, ProxyError> {
    if stop.is_text() {
        return Ok(non_empty(vec![stop.text()?]));
    }
    if !stop.is_list() {
        return Err(stop.must_be("a string or an array of strings"));
    }
    if stop.list()?.len() > MAX_STOPS {
        let message = format!("'{stop}' must have at most {MAX_STOPS} elements");
        return Err(Refusal::coded("array_above_max_length", stop.to_string(), message));
    }
    stop_sequences(stop)
}

/// Reads Anthropic's `stop_sequences`: an array of any length. Empty strings are dropped.
///
/// # Errors
/// If the value is not an array of strings.
pub fn stop_sequences(list: &Field<'_, '_>) -> Result<Vec<String>, ProxyError> {
    list.texts().map(non_empty)
}

fn non_empty(stops: Vec<Cow<'_, str>>) -> Vec<String> {
    stops.into_iter().filter(|stop| !stop.is_empty()).map(Cow::into_owned).collect()
}

/// Whether a sampling parameter differs from its default. The backend accepts none of them. `None` if `name` is not a
/// sampling parameter of OpenAI's APIs.
///
/// # Errors
/// If the value has the wrong type.
pub fn is_sampling_changed(name: &str, value: &Field<'_, '_>) -> Result<Option<bool>, ProxyError> {
    match name {
        "seed" => value.number().map(|_| true),
        "temperature" | "top_p" => value.differs_from(1.0),
        "frequency_penalty" | "presence_penalty" => value.differs_from(0.0),
        "logit_bias" => value.object().map(|biases| !biases.is_empty()),
        _ => return Ok(None),
    }
    .map(Some)
}

/// The service tier that a client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestedTier {
    /// `priority` or `fast`.
    Priority,
    /// Any other tier: the backend has no names for them.
    Standard,
}

impl RequestedTier {
    /// Reads `service_tier`. An unknown tier is standard, and noted in `ignored` under `name`.
    ///
    /// # Errors
    /// If the value is not a string.
    pub fn read(name: &str, tier: &Field<'_, '_>, ignored: &mut Ignored) -> Result<Self, ProxyError> {
        match &*tier.text()? {
            "priority" | "fast" => return Ok(Self::Priority),
            "auto" | "default" => {}
            _ => ignored.note(name),
        }
        Ok(Self::Standard)
    }
}

/// The service tier for the backend: the requested one, else that of the model's name. `None` for the standard tier.
#[must_use]
pub fn service_tier(requested: Option<RequestedTier>, model: &ResolvedModel) -> Option<ServiceTier> {
    let is_priority = requested.map_or(model.is_fast, |tier| tier == RequestedTier::Priority);
    is_priority.then_some(ServiceTier::Priority)
}

/// Reads a reasoning effort.
///
/// # Errors
/// If the value is not a string that names an effort.
pub fn effort(word: &Field<'_, '_>) -> Result<Effort, ProxyError> {
    let complaint = || word.invalid("must be one of 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' and 'max'");
    Effort::from_client(&word.text()?).ok_or_else(complaint)
}

/// Whether a warning reports that an effort was replaced by one that the model supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClampWarning {
    /// `clamped:reasoning_effort`.
    Noted,
    /// No warning.
    Silent,
}

/// The effort for the backend: a route's, else the requested one, else that of the model's name, replaced by the
/// nearest effort that the model supports. `None` leaves it to the model.
pub fn effort_for(
    model: &ResolvedModel,
    requested: Option<Effort>,
    traits: RequestTraits,
    warning: ClampWarning,
    context: &mut Context<'_>,
) -> Option<Effort> {
    let wanted = model.effort(requested)?;
    let supported = context.models.fit(&model.slug, wanted, traits);
    if supported != wanted && warning == ClampWarning::Noted {
        context.warnings.note("clamped:reasoning_effort");
    }
    Some(supported)
}

/// The effort for a thinking budget: `high` at most, because a budget is an upper bound that clients set high by
/// default.
#[must_use]
pub fn effort_for_budget(tokens: u64) -> Effort {
    match tokens {
        ..=2048 => Effort::Low,
        2049..=8192 => Effort::Medium,
        _ => Effort::High,
    }
}

/// Reads a verbosity.
///
/// # Errors
/// If the value is not one of the three verbosities.
pub fn verbosity<'a>(word: &Field<'a, '_>) -> Result<Cow<'a, str>, ProxyError> {
    let text = word.text()?;
    if matches!(&*text, "low" | "medium" | "high") {
        Ok(text)
    } else {
        Err(word.invalid("must be one of 'low', 'medium' and 'high'"))
    }
}

/// Whether a function tool may be strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strict {
    /// As its member `strict` says; not if it is absent.
    AsRequested,
    /// Never: the API has no such member.
    Never,
}

/// Reads a function tool from the object with its name, description and schema (in the member `schema_name`). Returns
/// the client's name for it and the tool in the backend's form.
///
/// # Errors
/// If the name is missing or empty, or a member has the wrong type.
pub fn function_tool<'a>(
    tool: &Field<'a, '_>,
    members: &RawObject<'a>,
    schema_name: &str,
    strict: Strict,
) -> Result<(Cow<'a, str>, Tool<'a>), ProxyError> {
    let parameters = match tool.member(members, schema_name) {
        Some(parameters) => schema::parameters(parameters.raw(), parameters.object()?.into_owned()),
        None => schema::parameters(constant("{}"), RawObject::default()),
    };
    function_with_parameters(tool, members, &parameters, strict)
}

/// Reads a function tool as [`function_tool`] does, with a schema that was read already.
///
/// # Errors
/// If the name is missing or empty, or a member has the wrong type.
pub fn function_with_parameters<'a>(
    tool: &Field<'a, '_>,
    members: &RawObject<'a>,
    parameters: &RawValue,
    strict: Strict,
) -> Result<(Cow<'a, str>, Tool<'a>), ProxyError> {
    let name = tool_name(tool, members)?;
    let description = tool.optional_text(members, "description")?;
    let strict = match strict {
        Strict::AsRequested => tool.optional_flag(members, "strict")?,
        Strict::Never => false,
    };
    let tool = Tool::function(&names::tool_name(name.clone()), description.as_deref(), parameters, strict);
    Ok((name, tool))
}

/// Reads the name of a tool.
///
/// # Errors
/// If the name is missing, empty or not a string.
pub fn tool_name<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Cow<'a, str>, ProxyError> {
    let field = tool.required(members, "name")?;
    let name = field.text()?;
    if name.is_empty() { Err(field.invalid("must not be empty")) } else { Ok(name) }
}
