//! From an Ollama request to the backend's: a pure function, or the prompt cache is lost.

use std::borrow::Cow;

use super::message::{self, History};
use super::options::Sampling;
use super::render::{RenderOptions, ReplyOptions};
use super::request::{Format, OllamaRequest};
use super::{Options, tools, untagged};
use crate::error::ProxyError;
use crate::protocol::codex;
use crate::protocol::codex::request::{ExtraMembers, Item, Reasoning, ServiceTier, Text, ToolChoice};
use crate::protocol::tokens::TokenLimit;
use crate::protocol::upstream_input::history::items;
use crate::protocol::upstream_input::pairing::OutputScope;
use crate::protocol::upstream_input::{cache, format, instructions, schema};
use crate::protocol::{Context, Mode};

/// What a request came to.
#[derive(Debug)]
pub struct Translation<'a> {
    /// What goes upstream, unless the reply does not need the backend.
    pub upstream: codex::Request<'a>,
    /// What the client wants back.
    pub mode: Mode,
    /// What the request decides about its reply.
    pub options: ReplyOptions,
}

/// Turns a request into the upstream's form.
///
/// # Errors
/// When it names no model, has a limit that can't be held, or messages that hold nothing to answer.
pub fn translate<'a>(
    mut request: OllamaRequest<'a>,
    context: &mut Context<'_>,
    options: &Options,
) -> Result<Translation<'a>, ProxyError> {
    let name = context.model_name(request.model.as_deref())?;
    let unasked = request.unasked();
    let token_limit = request.sampling.limit(options.token_limit)?;
    if options.token_limit == TokenLimit::Enforce {
        request.ignored.retain(|member| !Sampling::is_limit(member));
    }
    request.ignored.names().for_each(|member| context.warnings.ignored(member));
    let choice = context.models.resolve_for(untagged(&name, context.models), request.think.occasion());
    let effort = request.think.effort(&choice, context);
    let (tools, names) = tools::gather(std::mem::take(&mut request.tools));
    let History { instructions: system, entries, first_user_text } =
        message::lay_out(std::mem::take(&mut request.messages));
    let mut input = items(entries, OutputScope::Turn, &mut context.warnings);
    let instructions = match unasked {
        Some(_) => Cow::Borrowed(""),
        None => instructions::open(system, &mut input, request.prompt_name(), &options.default_instructions)?,
    };
    let text = text(request.format, &mut input);
    let mut upstream = codex::Request {
        format: codex::WireFormat::Classic,
        model: Cow::Owned(choice.slug),
        instructions,
        input,
        tools,
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: true,
        reasoning: Reasoning { effort, summary: Some(Cow::Borrowed("auto")) },
        text,
        service_tier: choice.is_fast.then_some(ServiceTier::Priority),
        prompt_cache_key: Cow::Borrowed(""),
        extra: ExtraMembers::default(),
    };
    schema::complete_arrays(&mut upstream, &mut context.warnings);
    upstream.prompt_cache_key = cache::choose(None, None, context, &upstream, &first_user_text);
    let may_be_cut = !request.sampling.stop.is_empty() || token_limit.is_some();
    let options = ReplyOptions {
        model: name,
        names,
        prompt_characters: if may_be_cut { upstream.characters() } else { 0 },
        stop: request.sampling.stop,
        token_limit,
        api: RenderOptions { form: request.form, shows_thinking: request.think.is_shown(), without_backend: unasked },
    };
    Ok(Translation { upstream, mode: request.mode, options })
}

fn text<'a>(wanted: Option<Format<'a>>, input: &mut Vec<Item<'a>>) -> Option<Text<'a>> {
    let format = match wanted? {
        Format::Json => {
            format::ask_for_json(input);
            Cow::Borrowed(schema::constant(r#"{"type":"json_object"}"#))
        }
        Format::Schema(schema) => Cow::Owned(format::of_schema(schema)),
    };
    Some(Text { verbosity: None, format: Some(format) })
}
