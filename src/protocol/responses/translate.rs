//! Translates a Responses request to the backend's request.
//!
//! A pure function of its arguments: the same conversation must produce the same bytes in every turn, or the backend's
//! prompt cache is missed.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::codex_client;
use super::input;
use super::item::InputItem;
use super::options::{BackgroundSupport, Options, Purpose, Store};
use super::request::{ResponsesRequest, SummaryOption, Text};
use super::response_echo::{Forwarding, ResponseEcho};
use super::tools;
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex;
use crate::protocol::codex::lite;
use crate::protocol::codex::request::{ExtraMembers, Reasoning, ToolChoice, WireFormat};
use crate::protocol::models::{Effort, RequestTraits, ResolvedModel};
use crate::protocol::stored_refs::{ConversationContext, StoreScope};
use crate::protocol::upstream_input::parameters::{self, ClampWarning};
use crate::protocol::upstream_input::{cache, schema};
use crate::protocol::{Context, Mode};

/// A translated request, from which [`Responses`](super::Responses) and [`Compaction`](super::Compaction) make a plan.
#[derive(Debug)]
pub struct Translation<'a> {
    /// The request to the backend.
    pub upstream: codex::Request<'a>,
    /// The form of the response.
    pub mode: Mode,
    /// The parts of the response that depend on the request, such as the client's values of members.
    pub echo: ResponseEcho,
    /// The request's part of the stored response; `None` if the response isn't stored.
    pub store_context: Option<ConversationContext>,
}

/// Translates a request.
///
/// # Errors
/// If it names no model, has no input, or references an unknown response or item.
pub fn translate<'a>(
    mut request: ResponsesRequest<'a>,
    context: &mut Context<'_>,
    options: &Options,
) -> Result<Translation<'a>, ProxyError> {
    let is_codex = codex_client::is_codex(context.headers);
    check_state(&request, options)?;
    let name = context.model_name(request.model.as_deref())?;
    context.warnings.ignored_members(&request.ignored);

    let (items, new_count) = conversation(&mut request, options.purpose)?;
    let scope = store_scope(&request, options);
    let stored_input = scope.map(|_| items.iter().map(|item| item.json().into_owned()).collect());
    let first_user_text = input::first_user_text(&items);
    let (tools, has_web_search) = request.tools.map_or(Ok((Vec::new(), false)), tools::read)?;
    let tool_choice = request.tool_choice.map_or(Ok(ToolChoice::Auto), tools::choice)?;
    let traits = RequestTraits::with_effort(request.reasoning.effort, has_web_search);
    let model = context.models.resolve_for(&name, traits);
    let effort = effort(&mut request, &model, traits, context);
    if !context.models.supports_verbosity(&model.slug) && request.text.members.remove("verbosity") {
        context.warnings.ignored("verbosity");
    }
    let service_tier = parameters::service_tier(request.service_tier, &model);
    let is_lite = lite::is_marked(context.headers, request.client_metadata);
    let format = if is_lite { WireFormat::ClientLite } else { WireFormat::Classic };
    let (instructions, input) = instructions_and_input(&mut request, items, is_codex, context)?;
    if input.is_empty() && options.purpose != Purpose::Warmup {
        return Err(empty_input());
    }
    let instructions = instructions.unwrap_or_else(|| default_instructions(format, options));
    // The events of a response in the background are recorded.
    let mode = if options.identity.is_some() { Mode::Stream } else { request.mode };
    let mut upstream = codex::Request {
        format,
        model: Cow::Owned(model.slug),
        instructions,
        input,
        tools,
        tool_choice,
        parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
        reasoning: Reasoning { effort, summary: summary(std::mem::take(&mut request.reasoning.summary), is_codex) },
        text: None,
        service_tier,
        prompt_cache_key: Cow::Borrowed(""),
        extra: extra_members(&mut request, is_codex),
    };
    schema::complete_arrays(&mut upstream, &mut context.warnings);
    upstream.prompt_cache_key = cache_key(&mut request, context, &upstream, &first_user_text);
    let is_verbatim = is_codex && mode == Mode::Stream && !request.is_background;
    let forwarding = if is_verbatim { Forwarding::Verbatim } else { Forwarding::Normalized };
    let echo = response_echo(&request, &name, forwarding, options);
    let cache_key = upstream.prompt_cache_key.clone().into_owned();
    let stored_input = stored_input.zip(scope);
    let store_context = stored_input.map(|(input, scope)| ConversationContext { input, new_count, cache_key, scope });
    Ok(Translation { upstream, mode, echo, store_context })
}

/// The parts of the response that depend on the request.
fn response_echo(
    request: &ResponsesRequest<'_>,
    model: &str,
    forwarding: Forwarding,
    options: &Options,
) -> ResponseEcho {
    let done_marker = options.done_marker && forwarding == Forwarding::Normalized;
    let mut echo = ResponseEcho::new(model, &request.echoed, forwarding, done_marker);
    if request.is_background {
        echo = echo.in_background(options.identity.clone());
    }
    if let Some(id) = &request.conversation {
        echo = echo.in_conversation(id);
    }
    echo
}

/// The default instructions, which a lite body has in its input.
fn default_instructions(format: WireFormat, options: &Options) -> Cow<'static, str> {
    match format {
        // The client put the system prompt into the input.
        WireFormat::ClientLite => Cow::Borrowed(""),
        WireFormat::Classic | WireFormat::Lite => Cow::Owned(options.default_instructions.clone()),
    }
}

/// Refuses combinations of members that the API excludes, and features that need the store if it is off.
fn check_state(request: &ResponsesRequest<'_>, options: &Options) -> Result<(), ProxyError> {
    let is_off = options.store == Store::Off;
    if request.conversation.is_some() {
        if request.previous_response_id.is_some() {
            let message = "Mutually exclusive parameters. Ensure you are only providing one of: \
                           'previous_response_id' or 'conversation'.";
            return Err(Refusal::coded("mutually_exclusive_parameters", "conversation", message));
        }
        if is_off {
            let message = "conversations are not available because responses.store is \"off\"";
            return Err(Refusal::unsupported_parameter("conversation", message));
        }
    }
    if !request.is_background {
        return Ok(());
    }
    let unavailable = |reason: &str| {
        Err(Refusal::unsupported_value("background", format!("background responses are not available {reason}")))
    };
    match options.purpose {
        _ if request.is_unstored => Err(Refusal::invalid("store", "background mode requires 'store' to be true")),
        Purpose::WebSocket | Purpose::Warmup => unavailable("on a WebSocket; send the request as POST /v1/responses"),
        Purpose::Http if is_off => unavailable("because responses.store is \"off\""),
        Purpose::Http if options.background == BackgroundSupport::NoLogin => {
            unavailable("because upstream.credentials is \"client\": the client's login isn't kept for a later request")
        }
        Purpose::Http => Ok(()),
    }
}

/// Which requests may refer to the response; `None` if it isn't stored.
fn store_scope(request: &ResponsesRequest<'_>, options: &Options) -> Option<StoreScope> {
    let is_stored = options.store != Store::Off && !request.is_unstored;
    match options.purpose {
        _ if is_stored => Some(StoreScope::Key),
        Purpose::Http if request.conversation.is_some() => Some(StoreScope::Conversation),
        Purpose::Http => None,
        Purpose::WebSocket | Purpose::Warmup => Some(StoreScope::Connection),
    }
}

/// The whole conversation: the stored part, then the items of the request. Also returns the number of the latter.
fn conversation<'a>(
    request: &mut ResponsesRequest<'a>,
    purpose: Purpose,
) -> Result<(Vec<InputItem<'a>>, usize), ProxyError> {
    let empty = (purpose == Purpose::Warmup).then(Vec::new);
    let new = request.input.take().or(empty).ok_or_else(|| Refusal::missing("input"))?;
    let new_count = new.len();
    let earlier = earlier_items(request)?;
    let items = input::resolved(new, earlier, &request.resolved.items)?;
    if items.is_empty() && purpose != Purpose::Warmup { Err(empty_input()) } else { Ok((items, new_count)) }
}

/// The stored items that the request continues from.
fn earlier_items(request: &mut ResponsesRequest<'_>) -> Result<Vec<Box<RawValue>>, ProxyError> {
    let resolved = &mut request.resolved;
    let (earlier, unknown) = match (&request.previous_response_id, &request.conversation) {
        (None, None) => return Ok(Vec::new()),
        (Some(id), _) => {
            let message = format!("Previous response with id '{id}' not found.");
            let unknown = Refusal::coded("previous_response_not_found", "previous_response_id", message);
            (&mut resolved.response, unknown)
        }
        (None, Some(id)) => (&mut resolved.conversation, Refusal::unknown("Conversation", id, Some("conversation"))),
    };
    earlier.as_mut().map(|earlier| std::mem::take(&mut earlier.items)).ok_or(unknown)
}

fn empty_input() -> ProxyError {
    Refusal::invalid("input", "'input' must not be empty")
}

/// The instructions, if any, and the repaired input. If the client sends no instructions, leading system messages
/// become the instructions.
fn instructions_and_input<'a>(
    request: &mut ResponsesRequest<'a>,
    mut items: Vec<InputItem<'a>>,
    is_codex: bool,
    context: &mut Context<'_>,
) -> Result<(Option<Cow<'a, str>>, Vec<codex::Item<'a>>), ProxyError> {
    let mut instructions = request.instructions.take();
    let is_continued = request.previous_response_id.is_some() || request.conversation.is_some();
    if instructions.is_none() && !is_continued && !is_codex {
        instructions = input::take_instructions(&mut items).map(Cow::Owned);
    }
    if request.text.is_json_object {
        input::request_json(&mut items);
    }
    let input = if is_codex { input::verbatim(items) } else { input::repaired(items, &mut context.warnings)? };
    Ok((instructions, input))
}

/// The reasoning effort. That of a configured route takes precedence over the client's `reasoning.effort`, and that
/// over a suffix of the model's name. A number is sent unchanged in `ExtraMembers::reasoning`.
fn effort(
    request: &mut ResponsesRequest<'_>,
    model: &ResolvedModel,
    traits: RequestTraits,
    context: &mut Context<'_>,
) -> Option<Effort> {
    if model.is_effort_routed {
        request.reasoning.rest.remove("effort");
    }
    let is_number = request.reasoning.rest.get("effort").is_some();
    if is_number {
        return None;
    }
    parameters::effort_for(model, request.reasoning.effort, traits, ClampWarning::Noted, context)
}

fn summary(summary: SummaryOption<'_>, is_codex: bool) -> Option<Cow<'_, str>> {
    match summary {
        // The Codex CLI requests a summary only if its user enabled it.
        SummaryOption::Default if is_codex => None,
        SummaryOption::Default => Some(Cow::Borrowed("auto")),
        SummaryOption::Off => None,
        SummaryOption::Value(value) => Some(value),
    }
}

fn extra_members<'a>(request: &mut ResponsesRequest<'a>, is_codex: bool) -> ExtraMembers<'a> {
    let Text { members, .. } = std::mem::take(&mut request.text);
    let include = std::mem::take(&mut request.include);
    let is_sent = |name: &str| match name {
        // The body always includes this value.
        "reasoning.encrypted_content" => false,
        "message.output_text.logprobs" => is_codex,
        _ => true,
    };
    ExtraMembers {
        include: include.into_iter().filter(|(name, _)| is_sent(name)).map(|(_, raw)| raw).collect(),
        reasoning: std::mem::take(&mut request.reasoning.rest),
        text: members,
        stream_options: std::mem::take(&mut request.stream_options),
        client_metadata: request.client_metadata,
    }
}

fn cache_key<'a>(
    request: &mut ResponsesRequest<'a>,
    context: &Context<'_>,
    upstream: &codex::Request<'a>,
    first_user_text: &str,
) -> Cow<'a, str> {
    if let Some(key) = request.prompt_cache_key.take().filter(|key| !key.trim().is_empty()) {
        return cache::fit(key);
    }
    let resolved = &mut request.resolved;
    if let Some(earlier) = resolved.response.take().or_else(|| resolved.conversation.take()) {
        return Cow::Owned(earlier.cache_key);
    }
    cache::choose(None, request.user.as_deref(), context, upstream, first_user_text)
}
