//! From a Responses request to the backend's: a pure function, or the prompt cache is lost.

use std::borrow::Cow;

use super::codex_client;
use super::input;
use super::item::Entry;
use super::options::{Options, Purpose, Store};
use super::request::{ResponsesRequest, Summary, Text, Tier};
use super::response_echo::{Manner, Shape};
use super::tools;
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex;
use crate::protocol::codex::lite;
use crate::protocol::codex::request::{Beyond, Form, Reasoning, ServiceTier, ToolChoice};
use crate::protocol::models::{Effort, RequestTraits, ResolvedModel};
use crate::protocol::stored_refs::{ConversationContext, StoreScope};
use crate::protocol::upstream_input::{cache, schema};
use crate::protocol::{Context, Mode};

/// What a request came to.
#[derive(Debug)]
pub struct Translation<'a> {
    /// What goes upstream.
    pub upstream: codex::Request<'a>,
    /// What the client wants back.
    pub mode: Mode,
    /// What the way back has to know.
    pub shape: Shape,
    /// What of it is kept with the answer, if that is to be kept.
    pub draft: Option<ConversationContext>,
}

/// Turns a request into the upstream's form.
///
/// # Errors
/// When it names no model, holds nothing to answer, or refers to what is not known.
pub fn translate<'a>(
    mut request: ResponsesRequest<'a>,
    context: &mut Context<'_>,
    options: &Options,
) -> Result<Translation<'a>, ProxyError> {
    let is_codex = codex_client::is_codex(context.headers);
    let name = model_name(&request, context)?;
    request.ignored.names().for_each(|member| context.warnings.ignored(member));

    let entries = entries(&mut request, options.purpose)?;
    let audience = audience(&request, options);
    let kept = audience.map(|_| entries.iter().map(|entry| entry.json().into_owned()).collect());
    let first_user_text = input::first_user_text(&entries);
    let (tools, searches) = request.tools.map_or(Ok((Vec::new(), false)), tools::read)?;
    let tool_choice = request.tool_choice.map_or(Ok(ToolChoice::Auto), tools::choice)?;
    let occasion = RequestTraits::asking(request.reasoning.effort, searches);
    let choice = context.models.resolve_for(&name, occasion);
    let effort = effort(&mut request, &choice, occasion, context);
    if !context.models.takes_verbosity(&choice.slug) && request.text.members.remove("verbosity") {
        context.warnings.ignored("verbosity");
    }
    let is_lite = lite::is_marked(context.headers, request.client_metadata);
    let form = if is_lite { Form::OwnLite } else { Form::Classic };
    let (instructions, input) = conversation(&mut request, entries, is_codex, context)?;
    if input.is_empty() && options.purpose != Purpose::Warmup {
        return Err(nothing_to_answer());
    }
    let instructions = instructions.unwrap_or_else(|| match form {
        // It has its system prompt in the input.
        Form::OwnLite => Cow::Borrowed(""),
        Form::Classic | Form::Lite => Cow::Owned(options.default_instructions.clone()),
    });

    let mode = request.mode();
    let mut upstream = codex::Request {
        form,
        model: Cow::Owned(choice.slug),
        instructions,
        input,
        tools,
        tool_choice,
        parallel_tool_calls: request.parallel_tool_calls.unwrap_or(true),
        reasoning: Reasoning { effort, summary: summary(std::mem::take(&mut request.reasoning.summary), is_codex) },
        text: None,
        service_tier: service_tier(request.service_tier, choice.is_fast),
        prompt_cache_key: Cow::Borrowed(""),
        beyond: beyond(&mut request, is_codex),
    };
    schema::complete_arrays(&mut upstream, &mut context.warnings);
    upstream.prompt_cache_key = cache_key(&mut request, context, &upstream, &first_user_text);
    let manner = if is_codex && mode == Mode::Stream { Manner::Untouched } else { Manner::Restored };
    let done_marker = options.done_marker && manner == Manner::Restored;
    let shape = Shape::new(&name, &request.echoed, manner, done_marker);
    let cache_key = || upstream.prompt_cache_key.clone().into_owned();
    let draft =
        kept.zip(audience).map(|(input, audience)| ConversationContext { input, cache_key: cache_key(), audience });
    Ok(Translation { upstream, mode, shape, draft })
}

/// The model as the client named it, in the body or in the path.
fn model_name(request: &ResponsesRequest<'_>, context: &Context<'_>) -> Result<String, ProxyError> {
    let in_body = request.model.as_deref();
    let name = [in_body, context.path_model].into_iter().flatten().find(|name| !name.trim().is_empty());
    name.map(str::to_owned).ok_or_else(|| Refusal::missing("model"))
}

/// Who may go on from the answer; `None`: nobody, and it need not be kept.
fn audience(request: &ResponsesRequest<'_>, options: &Options) -> Option<StoreScope> {
    let is_stored = options.store != Store::Off && !request.keeps_nothing;
    match options.purpose {
        _ if is_stored => Some(StoreScope::Key),
        Purpose::Answer => None,
        Purpose::Turn | Purpose::Warmup => Some(StoreScope::Connection),
    }
}

/// The whole conversation: what was kept of it, and the items of the request.
fn entries<'a>(request: &mut ResponsesRequest<'a>, purpose: Purpose) -> Result<Vec<Entry<'a>>, ProxyError> {
    let nothing = (purpose == Purpose::Warmup).then(Vec::new);
    let new = request.input.take().or(nothing).ok_or_else(|| Refusal::missing("input"))?;
    let earlier = match (&request.previous_response_id, &mut request.recalled.response) {
        (None, _) => Vec::new(),
        (Some(_), Some(earlier)) => std::mem::take(&mut earlier.items),
        (Some(id), None) => {
            let message = format!("Previous response with id '{id}' not found.");
            return Err(Refusal::coded("previous_response_not_found", "previous_response_id", message));
        }
    };
    let entries = input::resolved(new, earlier, &request.recalled.items)?;
    if entries.is_empty() && purpose != Purpose::Warmup { Err(nothing_to_answer()) } else { Ok(entries) }
}

fn nothing_to_answer() -> ProxyError {
    Refusal::invalid("input", "'input' must hold something to answer")
}

/// Instructions, where there are any, and input. System text that opens the conversation becomes the instructions where
/// the client sends none.
fn conversation<'a>(
    request: &mut ResponsesRequest<'a>,
    mut entries: Vec<Entry<'a>>,
    is_codex: bool,
    context: &mut Context<'_>,
) -> Result<(Option<Cow<'a, str>>, Vec<codex::Item<'a>>), ProxyError> {
    let mut instructions = request.instructions.take();
    if instructions.is_none() && request.previous_response_id.is_none() && !is_codex {
        instructions = input::hoist(&mut entries).map(Cow::Owned);
    }
    if request.text.is_json_object {
        input::ask_for_json(&mut entries);
    }
    let input = if is_codex { input::untouched(entries) } else { input::mended(entries, &mut context.warnings)? };
    Ok((instructions, input))
}

/// The client's member wins over a suffix of the model's name, also where we can't read it, and a
/// route of the owner's over both.
fn effort(
    request: &mut ResponsesRequest<'_>,
    choice: &ResolvedModel,
    occasion: RequestTraits,
    context: &mut Context<'_>,
) -> Option<Effort> {
    if choice.is_effort_ruled {
        request.reasoning.rest.remove("effort");
    }
    let is_unread = request.reasoning.rest.get("effort").is_some();
    let wanted = choice.effort(request.reasoning.effort).filter(|_| !is_unread)?;
    let given = context.models.fit(&choice.slug, wanted, occasion);
    if given != wanted {
        context.warnings.note("clamped:reasoning_effort");
    }
    Some(given)
}

fn summary(summary: Summary<'_>, is_codex: bool) -> Option<Cow<'_, str>> {
    match summary {
        // It asks for one where its user wants one.
        Summary::Usual if is_codex => None,
        Summary::Usual => Some(Cow::Borrowed("auto")),
        Summary::None => None,
        Summary::Form(form) => Some(form),
    }
}

fn service_tier(tier: Option<Tier>, is_fast: bool) -> Option<ServiceTier> {
    match tier {
        Some(Tier::Priority) => Some(ServiceTier::Priority),
        Some(Tier::Standard) => None,
        None => is_fast.then_some(ServiceTier::Priority),
    }
}

fn beyond<'a>(request: &mut ResponsesRequest<'a>, is_codex: bool) -> Beyond<'a> {
    let Text { members, .. } = std::mem::take(&mut request.text);
    let include = std::mem::take(&mut request.include);
    let is_wanted = |name: &str| match name {
        // Always there.
        "reasoning.encrypted_content" => false,
        "message.output_text.logprobs" => is_codex,
        _ => true,
    };
    Beyond {
        include: include.into_iter().filter(|(name, _)| is_wanted(name)).map(|(_, raw)| raw).collect(),
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
    if let Some(earlier) = request.recalled.response.take() {
        return Cow::Owned(earlier.cache_key);
    }
    cache::choose(None, request.user.as_deref(), context, upstream, first_user_text)
}
