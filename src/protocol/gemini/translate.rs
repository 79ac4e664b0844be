//! Translates a Gemini request to the backend's request.
//!
//! A pure function of its arguments: the same conversation must produce the same bytes in every turn, or the backend's
//! prompt cache is missed.

use std::borrow::Cow;

use super::GeminiReply;
use super::conversation;
use super::generation::Thinking;
use super::render::{RenderOptions, ReplyOptions};
use super::request::GeminiRequest;
use crate::error::ProxyError;
use crate::protocol::codex;
use crate::protocol::codex::request::{ExtraMembers, Reasoning};
use crate::protocol::models::{Effort, RequestTraits};
use crate::protocol::upstream_input::history::items;
use crate::protocol::upstream_input::pairing::OutputScope;
use crate::protocol::upstream_input::parameters::{self, ClampWarning, CommonOptions, ResponseFormat};
use crate::protocol::upstream_input::{ToolSet, cache, instructions, schema};
use crate::protocol::{Context, Plan};

/// Translates a request.
///
/// # Errors
/// If the request has no content, allows an undeclared function, or has an unusable token limit.
pub fn translate<'a>(
    mut request: GeminiRequest<'a>,
    context: &mut Context<'_>,
    options: &CommonOptions,
) -> Result<Plan<'a, GeminiReply>, ProxyError> {
    let name = context.model_name(None)?;
    let token_limit = request.generation.token_limit(options.token_limit, &mut request.ignored)?;
    context.warnings.ignored_members(&request.ignored);
    let tools = ToolSet::new(std::mem::take(&mut request.tools));
    let tool_choice = std::mem::take(&mut request.tool_choice).upstream(&tools, &mut context.warnings)?;
    let Thinking { effort: requested, is_shown } = request.generation.thinking;
    let traits = RequestTraits::with_effort(requested, tools.has_web_search);
    let model = context.models.resolve_for(&name, traits);
    // Clients turn thinking off for short tasks, whether or not the model can.
    let warning = if requested == Some(Effort::None) { ClampWarning::Silent } else { ClampWarning::Noted };
    let effort = parameters::effort_for(&model, requested, traits, warning, context);

    let mut conversation = conversation::convert(std::mem::take(&mut request.contents));
    let mut input = items(std::mem::take(&mut conversation.entries), OutputScope::Conversation, &mut context.warnings);
    let system = instructions::join(std::mem::take(&mut request.system));
    let instructions = instructions::choose(system, &mut input, "contents", &options.default_instructions)?;
    let format = request.generation.take_format(&mut context.warnings);
    let text = ResponseFormat::into_text(format, None, &mut input);
    let mut upstream = codex::Request {
        format: codex::WireFormat::Classic,
        service_tier: parameters::service_tier(request.service_tier, &model),
        model: Cow::Owned(model.slug),
        instructions,
        input,
        tools: tools.upstream,
        tool_choice,
        parallel_tool_calls: true,
        reasoning: Reasoning { effort, summary: is_shown.then_some(Cow::Borrowed("auto")) },
        text,
        prompt_cache_key: Cow::Borrowed(""),
        extra: ExtraMembers::default(),
    };
    schema::complete_arrays(&mut upstream, &mut context.warnings);
    upstream.prompt_cache_key = cache::choose(None, None, context, &upstream, conversation.first_user_text());
    let may_be_cut = !request.generation.stop.is_empty() || token_limit.is_some();
    let options = ReplyOptions {
        commands: context.commands,
        model: name,
        names: tools.renamed,
        prompt_characters: if may_be_cut { upstream.characters() } else { 0 },
        stop: request.generation.stop,
        token_limit,
        api: RenderOptions { form: request.form, shows_thoughts: is_shown, searches: tools.has_web_search },
    };
    Ok(Plan { upstream, mode: request.form.mode(), reply: GeminiReply::new(options) })
}
