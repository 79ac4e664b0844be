//! Translates a Messages request to the backend's request.
//!
//! A pure function of its arguments: the same conversation must produce the same bytes in every turn, or the backend's
//! prompt cache is missed.

use std::borrow::Cow;

use super::MessagesReply;
use super::cache_key;
use super::message;
use super::render::{RenderOptions, ReplyOptions, SearchDisplay};
use super::request::MessagesRequest;
use super::thinking;
use super::tools::ToolSet;
use crate::error::ProxyError;
use crate::protocol::codex;
use crate::protocol::codex::request::{ExtraMembers, Reasoning, ServiceTier, ToolChoice};
use crate::protocol::models::RequestTraits;
use crate::protocol::upstream_input::history::items;
use crate::protocol::upstream_input::pairing::OutputScope;
use crate::protocol::upstream_input::parameters::{CommonOptions, ResponseFormat, enforced_limit};
use crate::protocol::upstream_input::{instructions, schema};
use crate::protocol::{Context, Plan};

/// Translates a request.
///
/// # Errors
/// If the request names no model, has no content, chooses an undeclared tool, or has a token limit and limits are
/// rejected.
pub fn translate<'a>(
    mut request: MessagesRequest<'a>,
    context: &mut Context<'_>,
    options: &CommonOptions,
) -> Result<Plan<'a, MessagesReply>, ProxyError> {
    let name = context.model_name(request.model.as_deref())?;
    let token_limit = enforced_limit("max_tokens", request.max_tokens, options.token_limit)?;
    context.warnings.ignored_members(&request.ignored);
    let tools = ToolSet::new(std::mem::take(&mut request.tools), &mut context.warnings);
    let tool_choice = request.tool_choice.take().map_or(Ok(ToolChoice::Auto), |choice| choice.upstream(&tools))?;
    let traits = RequestTraits { thinks: request.thinking.is_wanted(), searches: tools.has_web_search() };
    let model = context.models.resolve_for(without_window(&name), traits);
    let effort = thinking::effort(&request, &tools, &model, traits, context);
    let search = search_display(&tools);

    let mut conversation = message::convert(std::mem::take(&mut request.messages));
    let mut input = items(std::mem::take(&mut conversation.entries), OutputScope::Conversation, &mut context.warnings);
    let system = instructions::join(std::mem::take(&mut request.system));
    let instructions = instructions::choose(system, &mut input, "messages", &options.default_instructions)?;
    let text = ResponseFormat::into_text(request.format, None, &mut input);
    let mut upstream = codex::Request {
        format: codex::WireFormat::Classic,
        model: Cow::Owned(model.slug),
        instructions,
        input,
        tools: tools.upstream,
        tool_choice,
        parallel_tool_calls: request.is_parallel,
        reasoning: Reasoning { effort, summary: Some(Cow::Borrowed("auto")) },
        text,
        service_tier: (request.is_fast || model.is_fast).then_some(ServiceTier::Priority),
        prompt_cache_key: Cow::Borrowed(""),
        extra: ExtraMembers::default(),
    };
    schema::complete_arrays(&mut upstream, &mut context.warnings);
    upstream.prompt_cache_key =
        cache_key::cache_key(request.user_id.as_deref(), context, &upstream, conversation.first_user_text());
    let options = ReplyOptions {
        commands: context.commands,
        model: name,
        names: tools.renamed,
        stop: request.stop,
        token_limit,
        prompt_characters: upstream.characters(),
        api: RenderOptions { thinking: request.thinking.display(), search },
    };
    Ok(Plan { upstream, mode: request.mode, reply: MessagesReply::new(options) })
}

/// Removes from a model name the suffix with which Claude Code requests a larger context window.
fn without_window(name: &str) -> &str {
    let name = name.trim();
    name.strip_suffix("[1m]").unwrap_or(name)
}

fn search_display(tools: &ToolSet<'_>) -> SearchDisplay {
    match (tools.has_web_search(), tools.has_only_web_search()) {
        (false, _) => SearchDisplay::Hidden,
        (true, false) => SearchDisplay::Immediate,
        (true, true) => SearchDisplay::Gathered,
    }
}
