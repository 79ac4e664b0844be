//! Translates a Chat Completions request to the backend's request.
//!
//! A pure function of its arguments: the same conversation must produce the same bytes in every turn, or the backend's
//! prompt cache is missed.

use std::borrow::Cow;

use super::ChatReply;
use super::history;
use super::options::Options;
use super::render::{CallStyle, RenderOptions, ReplyOptions};
use super::request::ChatRequest;
use super::tools::ToolSet;
use crate::error::ProxyError;
use crate::protocol::codex;
use crate::protocol::codex::request::{ExtraMembers, Reasoning, ToolChoice};
use crate::protocol::models::RequestTraits;
use crate::protocol::upstream_input::history::items;
use crate::protocol::upstream_input::pairing::OutputScope;
use crate::protocol::upstream_input::parameters::{self, ClampWarning, ResponseFormat};
use crate::protocol::upstream_input::{Conversation, cache, instructions, schema};
use crate::protocol::{Context, Plan};

/// Translates a request.
///
/// # Errors
/// If the request names no model, has no content, chooses an undeclared tool, or has an unusable token limit.
pub fn translate<'a>(
    mut request: ChatRequest<'a>,
    context: &mut Context<'_>,
    options: &Options,
) -> Result<Plan<'a, ChatReply>, ProxyError> {
    let name = context.model_name(request.model.as_deref())?;
    let token_limit = request.token_limits.enforced(options.token_limit, &mut request.ignored)?;
    context.warnings.ignored_members(&request.ignored);

    let (calls, tools) = tools(&mut request);
    let tool_choice = tool_choice(&mut request, &tools)?;
    // `reasoning_effort` takes precedence over `reasoning.effort`.
    let requested_effort = request.effort.or(request.reasoning.effort);
    let traits = RequestTraits::with_effort(requested_effort, tools.has_web_search);
    let model = context.models.resolve_for(&name, traits);
    let effort = parameters::effort_for(&model, requested_effort, traits, ClampWarning::Noted, context);

    let mut conversation = conversation(&mut request, &tools, context);
    let entries = std::mem::take(&mut conversation.entries);
    let scope = if request.responses_body.is_some() { OutputScope::Conversation } else { OutputScope::Turn };
    let mut input = items(entries, scope, &mut context.warnings);
    let system = conversation.instructions.take();
    let instructions = instructions::choose(system, &mut input, request.prompt_name(), &options.default_instructions)?;
    let verbosity = request.verbosity.take().filter(|_| supports_verbosity(&model.slug, context));
    let text = ResponseFormat::into_text(request.format.take(), verbosity, &mut input);

    let mut upstream = codex::Request {
        format: codex::WireFormat::Classic,
        service_tier: parameters::service_tier(request.service_tier, &model),
        model: Cow::Owned(model.slug),
        instructions,
        input,
        tools: tools.upstream,
        tool_choice,
        parallel_tool_calls: calls == CallStyle::Tools && request.parallel_tool_calls.unwrap_or(true),
        reasoning: Reasoning { effort, summary: Some(request.reasoning.summary.take().unwrap_or("auto".into())) },
        text,
        prompt_cache_key: Cow::Borrowed(""),
        extra: ExtraMembers::default(),
    };
    schema::complete_arrays(&mut upstream, &mut context.warnings);
    upstream.prompt_cache_key = cache::choose(
        request.prompt_cache_key,
        request.user.as_deref(),
        context,
        &upstream,
        conversation.first_user_text(),
    );
    let may_be_cut = token_limit.is_some() || !request.stop.is_empty();
    let options = ReplyOptions {
        commands: context.commands,
        model: name,
        names: tools.renamed,
        // Usage is estimated only if the proxy ends the reply before the backend reports it.
        prompt_characters: if may_be_cut { upstream.characters() } else { 0 },
        stop: request.stop,
        token_limit,
        api: RenderOptions {
            includes_usage: request.includes_usage.unwrap_or(false),
            shows_service_tier: request.service_tier.is_some(),
            calls,
            flat_custom_tools: tools.flat_custom_tools,
            reasoning: options.reasoning,
        },
    };
    Ok(Plan { upstream, mode: request.mode, reply: ChatReply::new(options) })
}

fn conversation<'a>(request: &mut ChatRequest<'a>, tools: &ToolSet<'a>, context: &mut Context<'_>) -> Conversation<'a> {
    let messages = std::mem::take(&mut request.messages);
    let instructions = request.responses_body.as_mut().and_then(|body| body.instructions.take());
    if request.responses_body.as_ref().is_some_and(|body| body.has_lost_reasoning) {
        context.warnings.note("repaired:dropped_reasoning");
    }
    history::convert(messages, instructions, &|name| tools.is_custom(name))
}

fn tools<'a>(request: &mut ChatRequest<'a>) -> (CallStyle, ToolSet<'a>) {
    let (calls, declared) = if request.functions.is_empty() {
        (CallStyle::Tools, &mut request.tools)
    } else {
        (CallStyle::Legacy, &mut request.functions)
    };
    let declared = std::mem::take(declared);
    (calls, ToolSet::new(declared, request.web_search.take()))
}

fn tool_choice<'a>(request: &mut ChatRequest<'a>, tools: &ToolSet<'a>) -> Result<ToolChoice<'a>, ProxyError> {
    let choice = request.function_call.take().or(request.tool_choice.take());
    choice.map_or(Ok(ToolChoice::Auto), |choice| choice.upstream(tools))
}

/// Whether the model accepts a verbosity. Reports `verbosity` as ignored if it doesn't.
fn supports_verbosity(slug: &str, context: &mut Context<'_>) -> bool {
    let is_supported = context.models.supports_verbosity(slug);
    if !is_supported {
        context.warnings.ignored("verbosity");
    }
    is_supported
}
