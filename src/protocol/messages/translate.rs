//! From a Messages request to the backend's: a pure function, or the prompt cache is lost.

use std::borrow::Cow;

use super::Options;
use super::cache_key;
use super::message;
use super::render::{RenderOptions, ReplyOptions, SearchDisplay};
use super::request::MessagesRequest;
use super::thinking::{self, Tools};
use super::tools::Toolbox;
use crate::error::ProxyError;
use crate::protocol::codex;
use crate::protocol::codex::request::{ExtraMembers, Reasoning, ServiceTier, Text, ToolChoice};
use crate::protocol::models::RequestTraits;
use crate::protocol::upstream_input::history::items;
use crate::protocol::upstream_input::pairing::OutputScope;
use crate::protocol::upstream_input::{instructions, schema};
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
    mut request: MessagesRequest<'a>,
    context: &mut Context<'_>,
    options: &Options,
) -> Result<Translation<'a>, ProxyError> {
    let name = context.model_name(request.model.as_deref())?;
    let token_limit = request.token_limit(options.token_limit)?;
    request.ignored.names().for_each(|member| context.warnings.ignored(member));
    let toolbox = Toolbox::new(std::mem::take(&mut request.tools), &mut context.warnings);
    let tool_choice = request.tool_choice.take().map_or(Ok(ToolChoice::Auto), |choice| choice.upstream(&toolbox))?;
    let occasion = RequestTraits { thinks: request.thinking.is_wanted(), searches: toolbox.has_web_search() };
    let choice = context.models.resolve_for(without_window(&name), occasion);
    let tools = if toolbox.tools.is_empty() { Tools::None } else { Tools::Some };
    let effort = thinking::effort(&request, tools, &choice, occasion, context);
    let search = search_display(&toolbox);

    let history = message::lay_out(std::mem::take(&mut request.messages));
    let mut input = items(history.entries, OutputScope::Conversation, &mut context.warnings);
    let system = instructions::join(std::mem::take(&mut request.system));
    let instructions = instructions::open(system, &mut input, "messages", &options.default_instructions)?;
    let mut upstream = codex::Request {
        format: codex::WireFormat::Classic,
        model: Cow::Owned(choice.slug),
        instructions,
        input,
        tools: toolbox.tools,
        tool_choice,
        parallel_tool_calls: request.is_parallel,
        reasoning: Reasoning { effort, summary: Some(Cow::Borrowed("auto")) },
        text: request.format.map(|format| Text { verbosity: None, format: Some(Cow::Owned(format)) }),
        service_tier: (request.is_fast || choice.is_fast).then_some(ServiceTier::Priority),
        prompt_cache_key: Cow::Borrowed(""),
        extra: ExtraMembers::default(),
    };
    schema::complete_arrays(&mut upstream, &mut context.warnings);
    upstream.prompt_cache_key =
        cache_key::cache_key(request.user_id.as_deref(), context, &upstream, &history.first_user_text);
    let options = ReplyOptions {
        model: name,
        names: toolbox.renamed,
        stop: request.stop,
        token_limit,
        prompt_characters: upstream.characters(),
        api: RenderOptions { thinking: request.thinking.display(), search },
    };
    Ok(Translation { upstream, mode: request.mode, options })
}

/// Claude Code marks a model's large window in its name.
fn without_window(name: &str) -> &str {
    let name = name.trim();
    name.strip_suffix("[1m]").unwrap_or(name)
}

fn search_display(toolbox: &Toolbox<'_>) -> SearchDisplay {
    match (toolbox.has_web_search(), toolbox.only_searches()) {
        (false, _) => SearchDisplay::Hidden,
        (true, false) => SearchDisplay::Immediate,
        (true, true) => SearchDisplay::Gathered,
    }
}
