//! From a Chat request to the backend's: a pure function, or the prompt cache is lost.

use std::borrow::Cow;

use super::format::Format;
use super::history::{self, History};
use super::options::Options;
use super::render::{CallStyle, RenderOptions, ReplyOptions};
use super::request::{ChatRequest, Tier};
use super::tools::Toolbox;
use crate::error::ProxyError;
use crate::protocol::codex;
use crate::protocol::codex::request::{ExtraMembers, Reasoning, ServiceTier, Text, ToolChoice};
use crate::protocol::models::{Effort, RequestTraits, ResolvedModel};
use crate::protocol::tokens::TokenLimit;
use crate::protocol::upstream_input::history::items;
use crate::protocol::upstream_input::limit::AskedLimits;
use crate::protocol::upstream_input::pairing::OutputScope;
use crate::protocol::upstream_input::{cache, format, instructions, schema};
use crate::protocol::{Context, Mode};

/// What a request came to.
#[derive(Debug)]
pub struct Translation<'a> {
    /// What goes upstream.
    pub upstream: codex::Request<'a>,
    /// What the client wants back.
    pub mode: Mode,
    /// What the request decides about its reply.
    pub options: ReplyOptions,
}

/// Turns a request into the upstream's form.
///
/// # Errors
/// When it names no model, holds nothing to answer, or chooses a tool that it doesn't declare.
pub fn translate<'a>(
    mut request: ChatRequest<'a>,
    context: &mut Context<'_>,
    options: &Options,
) -> Result<Translation<'a>, ProxyError> {
    let name = context.model_name(request.model.as_deref())?;
    let token_limit = request.limits.settle(options.token_limit)?;
    if options.token_limit == TokenLimit::Enforce {
        request.ignored.retain(|member| !AskedLimits::has(member));
    }
    request.ignored.names().for_each(|member| context.warnings.ignored(member));

    let (calls, toolbox) = tools(&mut request);
    let tool_choice = tool_choice(&mut request, &toolbox)?;
    let asked = request.effort.or(request.reasoning.effort);
    let occasion = RequestTraits::asking(asked, toolbox.has_web_search);
    let choice = context.models.resolve_for(&name, occasion);
    let effort = effort(asked, &choice, occasion, context);

    let History { instructions: system, entries, first_user_text } = lay_out(&mut request, &toolbox, context);
    let reach = if request.input.is_some() { OutputScope::Conversation } else { OutputScope::Turn };
    let mut input = items(entries, reach, &mut context.warnings);
    let instructions = instructions::open(system, &mut input, request.prompt_name(), &options.default_instructions)?;
    if matches!(request.format, Some(Format::JsonObject)) {
        format::ask_for_json(&mut input);
    }

    let verbosity = request.verbosity.take().filter(|_| takes_verbosity(&choice.slug, context));
    let mut upstream = codex::Request {
        format: codex::WireFormat::Classic,
        model: Cow::Owned(choice.slug),
        instructions,
        input,
        tools: toolbox.tools,
        tool_choice,
        parallel_tool_calls: calls == CallStyle::Tools && request.parallel_tool_calls.unwrap_or(true),
        reasoning: Reasoning { effort, summary: Some(request.reasoning.summary.take().unwrap_or("auto".into())) },
        text: text(verbosity, request.format.take()),
        service_tier: service_tier(request.service_tier, choice.is_fast),
        prompt_cache_key: Cow::Borrowed(""),
        extra: ExtraMembers::default(),
    };
    schema::complete_arrays(&mut upstream, &mut context.warnings);
    upstream.prompt_cache_key =
        cache::choose(request.prompt_cache_key, request.user.as_deref(), context, &upstream, &first_user_text);
    let is_cut = token_limit.is_some() || !request.stop.is_empty();
    let options = ReplyOptions {
        model: name,
        names: toolbox.renamed,
        // Only the estimate of usage needs it, which is made if the proxy ends the reply.
        prompt_characters: if is_cut { upstream.characters() } else { 0 },
        stop: request.stop,
        token_limit,
        api: RenderOptions {
            includes_usage: request.stream_options.is_some_and(|options| options.include_usage),
            shows_service_tier: request.service_tier.is_some(),
            calls,
            flat_custom_tools: toolbox.flat_custom_tools,
            reasoning: options.reasoning,
        },
    };
    Ok(Translation { upstream, mode: request.mode, options })
}

fn lay_out<'a>(request: &mut ChatRequest<'a>, toolbox: &Toolbox<'a>, context: &mut Context<'_>) -> History<'a> {
    let messages = std::mem::take(&mut request.messages);
    let instructions = request.input.as_mut().and_then(|input| input.instructions.take());
    if request.input.as_ref().is_some_and(|input| input.has_lost_reasoning) {
        context.warnings.note("repaired:dropped_reasoning");
    }
    history::lay_out(messages, instructions, &|name| toolbox.is_custom(name))
}

fn tools<'a>(request: &mut ChatRequest<'a>) -> (CallStyle, Toolbox<'a>) {
    let (calls, declared) = if request.functions.is_empty() {
        (CallStyle::Tools, &mut request.tools)
    } else {
        (CallStyle::Legacy, &mut request.functions)
    };
    let declared = std::mem::take(declared);
    (calls, Toolbox::new(declared, request.web_search.take()))
}

fn tool_choice<'a>(request: &mut ChatRequest<'a>, toolbox: &Toolbox<'a>) -> Result<ToolChoice<'a>, ProxyError> {
    let choice = request.function_call.take().or(request.tool_choice.take());
    choice.map_or(Ok(ToolChoice::Auto), |choice| choice.upstream(toolbox))
}

/// The client's member wins over the object, both over a suffix of the model's name, and a route of
/// the owner's over them all.
fn effort(
    asked: Option<Effort>,
    choice: &ResolvedModel,
    occasion: RequestTraits,
    context: &mut Context<'_>,
) -> Option<Effort> {
    let wanted = choice.effort(asked)?;
    let given = context.models.fit(&choice.slug, wanted, occasion);
    if given != wanted {
        context.warnings.note("clamped:reasoning_effort");
    }
    Some(given)
}

/// Whether the model accepts a verbosity that was asked for. Notes one that it doesn't.
fn takes_verbosity(slug: &str, context: &mut Context<'_>) -> bool {
    let is_taken = context.models.takes_verbosity(slug);
    if !is_taken {
        context.warnings.ignored("verbosity");
    }
    is_taken
}

fn text(verbosity: Option<Cow<'_, str>>, format: Option<Format>) -> Option<Text<'_>> {
    let format = format.map(|format| Cow::Owned(format.upstream()));
    (verbosity.is_some() || format.is_some()).then_some(Text { verbosity, format })
}

fn service_tier(tier: Option<Tier>, is_fast: bool) -> Option<ServiceTier> {
    match tier {
        Some(Tier::Priority) => Some(ServiceTier::Priority),
        Some(Tier::Standard) => None,
        None => is_fast.then_some(ServiceTier::Priority),
    }
}
