//! Translates a text completion request to the backend's request.
//!
//! A pure function of its arguments: the same prompt must produce the same bytes, or the backend's prompt cache is
//! missed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::CompletionReply;
use super::render::{RenderOptions, ReplyOptions};
use super::request::CompletionRequest;
use crate::error::ProxyError;
use crate::protocol::codex;
use crate::protocol::codex::request::{ExtraMembers, Item, Part, Reasoning, Role, ToolChoice};
use crate::protocol::models::RequestTraits;
use crate::protocol::upstream_input::cache;
use crate::protocol::upstream_input::parameters::{self, ClampWarning, CommonOptions};
use crate::protocol::{Context, Plan};

/// Translates a request.
///
/// # Errors
/// If the request names no model or has an unusable token limit.
pub fn translate<'a>(
    mut request: CompletionRequest<'a>,
    context: &mut Context<'_>,
    options: &CommonOptions,
) -> Result<Plan<'a, CompletionReply>, ProxyError> {
    let name = context.model_name(request.model.as_deref())?;
    let model = context.models.resolve(&name);
    let token_limit = request.token_limits.enforced(options.token_limit, &mut request.ignored)?;
    context.warnings.ignored_members(&request.ignored);
    let effort = parameters::effort_for(&model, None, RequestTraits::default(), ClampWarning::Noted, context);
    let prompt = vec![Part::InputText(request.prompt.clone().into())];
    let mut upstream = codex::Request {
        format: codex::WireFormat::Classic,
        service_tier: parameters::service_tier(None, &model),
        model: Cow::Owned(model.slug),
        instructions: Cow::Owned(options.default_instructions.clone()),
        input: vec![Item::Message { role: Role::User, content: prompt }],
        tools: Vec::new(),
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: true,
        reasoning: Reasoning { effort, summary: Some(Cow::Borrowed("auto")) },
        text: None,
        prompt_cache_key: Cow::Borrowed(""),
        extra: ExtraMembers::default(),
    };
    upstream.prompt_cache_key =
        cache::choose(request.prompt_cache_key, request.user.as_deref(), context, &upstream, &request.prompt);
    let may_be_cut = !request.stop.is_empty() || token_limit.is_some();
    let options = ReplyOptions {
        commands: context.commands,
        model: name,
        names: BTreeMap::new(),
        prompt_characters: if may_be_cut { upstream.characters() } else { 0 },
        stop: request.stop,
        token_limit,
        api: RenderOptions { includes_usage: request.includes_usage.unwrap_or(false) },
    };
    Ok(Plan { upstream, mode: request.mode, reply: CompletionReply::new(options) })
}
