//! From a text completion to the backend's request: a pure function, or the prompt cache is lost.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Options;
use super::render::{RenderOptions, ReplyOptions};
use super::request::CompletionRequest;
use crate::error::ProxyError;
use crate::protocol::codex;
use crate::protocol::codex::request::{ExtraMembers, Item, Part, Reasoning, Role, ServiceTier, ToolChoice};
use crate::protocol::models::ResolvedModel;
use crate::protocol::tokens::TokenLimit;
use crate::protocol::upstream_input::cache;
use crate::protocol::upstream_input::limit::AskedLimits;
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
/// When it names no model, or has a limit that can't be held.
pub fn translate<'a>(
    mut request: CompletionRequest<'a>,
    context: &mut Context<'_>,
    options: &Options,
) -> Result<Translation<'a>, ProxyError> {
    let name = context.model_name(request.model.as_deref())?;
    let choice = context.models.resolve(&name);
    let token_limit = request.limits.settle(options.token_limit)?;
    if options.token_limit == TokenLimit::Enforce {
        request.ignored.retain(|member| !AskedLimits::has(member));
    }
    request.ignored.names().for_each(|member| context.warnings.ignored(member));
    let reasoning = reasoning(&choice, context);
    let said = vec![Part::InputText(request.prompt.clone().into())];
    let mut upstream = codex::Request {
        format: codex::WireFormat::Classic,
        model: Cow::Owned(choice.slug),
        instructions: Cow::Owned(options.default_instructions.clone()),
        input: vec![Item::Message { role: Role::User, content: said }],
        tools: Vec::new(),
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: true,
        reasoning,
        text: None,
        service_tier: choice.is_fast.then_some(ServiceTier::Priority),
        prompt_cache_key: Cow::Borrowed(""),
        extra: ExtraMembers::default(),
    };
    upstream.prompt_cache_key =
        cache::choose(request.prompt_cache_key, request.user.as_deref(), context, &upstream, &request.prompt);
    let may_be_cut = !request.stop.is_empty() || token_limit.is_some();
    let options = ReplyOptions {
        model: name,
        names: BTreeMap::new(),
        prompt_characters: if may_be_cut { upstream.characters() } else { 0 },
        stop: request.stop,
        token_limit,
        api: RenderOptions { includes_usage: request.includes_usage },
    };
    Ok(Translation { upstream, mode: request.mode, options })
}

/// The effort of the model's name: a completion has no member for it.
fn reasoning(choice: &ResolvedModel, context: &mut Context<'_>) -> Reasoning<'static> {
    let effort = choice.effort.map(|asked| {
        let given = context.models.clamp(&choice.slug, asked);
        if given != asked {
            context.warnings.note("clamped:reasoning_effort");
        }
        given
    });
    Reasoning { effort, summary: Some(Cow::Borrowed("auto")) }
}
