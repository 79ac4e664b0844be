//! Translates an Ollama request to the backend's request.
//!
//! A pure function of its arguments: the same conversation must produce the same bytes in every turn, or the backend's
//! prompt cache is missed.

use std::borrow::Cow;

use super::message;
use super::render::{RenderOptions, ReplyOptions};
use super::request::OllamaRequest;
use super::{OllamaReply, untagged};
use crate::error::ProxyError;
use crate::protocol::codex;
use crate::protocol::codex::request::{ExtraMembers, Reasoning, ToolChoice};
use crate::protocol::upstream_input::history::items;
use crate::protocol::upstream_input::pairing::OutputScope;
use crate::protocol::upstream_input::parameters::{self, CommonOptions, ResponseFormat};
use crate::protocol::upstream_input::{ToolSet, cache, instructions, schema};
use crate::protocol::{Context, Plan};

/// Translates a request. One without a prompt gets a plan whose reply needs no backend.
///
/// # Errors
/// If the request names no model, has no content, or has an unusable token limit.
pub fn translate<'a>(
    mut request: OllamaRequest<'a>,
    context: &mut Context<'_>,
    options: &CommonOptions,
) -> Result<Plan<'a, OllamaReply>, ProxyError> {
    let name = context.model_name(request.model.as_deref())?;
    let without_backend = request.reason_without_prompt();
    let token_limit = request.model_options.token_limit(options.token_limit, &mut request.ignored)?;
    context.warnings.ignored_members(&request.ignored);
    let tools = ToolSet::new(std::mem::take(&mut request.tools));
    let traits = request.think.traits(&tools);
    let model = context.models.resolve_for(untagged(&name, context.models), traits);
    let effort = request.think.effort(&model, traits, context);
    let mut conversation = message::convert(std::mem::take(&mut request.messages));
    let mut input = items(std::mem::take(&mut conversation.entries), OutputScope::Turn, &mut context.warnings);
    let instructions = match without_backend {
        Some(_) => Cow::Borrowed(""),
        None => instructions::choose(
            conversation.instructions.take(),
            &mut input,
            request.prompt_name(),
            &options.default_instructions,
        )?,
    };
    let text = ResponseFormat::into_text(request.format, None, &mut input);
    let mut upstream = codex::Request {
        format: codex::WireFormat::Classic,
        service_tier: parameters::service_tier(None, &model),
        model: Cow::Owned(model.slug),
        instructions,
        input,
        tools: tools.upstream,
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: true,
        reasoning: Reasoning { effort, summary: Some(Cow::Borrowed("auto")) },
        text,
        prompt_cache_key: Cow::Borrowed(""),
        extra: ExtraMembers::default(),
    };
    schema::complete_arrays(&mut upstream, &mut context.warnings);
    upstream.prompt_cache_key = cache::choose(None, None, context, &upstream, conversation.first_user_text());
    let may_be_cut = !request.model_options.stop.is_empty() || token_limit.is_some();
    let options = ReplyOptions {
        commands: context.commands,
        model: name,
        names: tools.renamed,
        prompt_characters: if may_be_cut { upstream.characters() } else { 0 },
        stop: request.model_options.stop,
        token_limit,
        api: RenderOptions { form: request.form, shows_thinking: request.think.is_shown(), without_backend },
    };
    Ok(Plan { upstream, mode: request.mode, reply: OllamaReply::new(options) })
}
