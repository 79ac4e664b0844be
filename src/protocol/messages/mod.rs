//! The Anthropic Messages API.
//!
//! [`request`] reads a body and [`translate`] converts it to the backend's request: `message`, `content` and `media`
//! the conversation, `tools`, `tool_choice`, `thinking` and `cache_key` the rest. [`render`] converts the pieces of a
//! reply to [`event`]s, which a stream contains and from which `document` is folded. [`error`] renders errors. The
//! client receives encrypted reasoning as the signature of a thinking block and sends it back in the next request.

mod cache_key;
mod content;
mod document;
pub mod error;
pub mod event;
mod media;
mod message;
pub mod render;
pub mod request;
mod thinking;
mod tool_choice;
mod tools;
pub mod translate;
mod usage;
mod web_search;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

pub use error::to_error_response;
pub use event::Event;
pub use render::{MessagesReply, RenderOptions, ReplyOptions, SearchDisplay, ThinkingDisplay};
pub use request::MessagesRequest;

use super::tokens;
use super::{CommonOptions, Context, Dialect, Plan};
use crate::command_hint::CommandHint;
use crate::error::ProxyError;

/// The prefix of the signatures that this proxy issues. The rest is the backend's encrypted reasoning.
const SIGNATURE: &str = "cxr1.";

/// The Messages dialect.
#[derive(Clone, Copy, Debug)]
pub struct Messages;

impl Dialect for Messages {
    type Request<'a> = MessagesRequest<'a>;
    type Options = CommonOptions;
    type Reply = MessagesReply;

    const NAME: &'static str = "messages";

    fn decode(body: &[u8]) -> Result<MessagesRequest<'_>, ProxyError> {
        request::decode(body)
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &CommonOptions,
    ) -> Result<Plan<'a, MessagesReply>, ProxyError> {
        translate::translate(request, context, options)
    }

    fn to_error_response(
        error: &ProxyError,
        request_id: &str,
        commands: CommandHint,
    ) -> (StatusCode, HeaderMap, Bytes) {
        to_error_response(error, request_id, commands)
    }
}

/// Estimates the input tokens of a request. Never fails: a body that can't be translated, such as that of an incomplete
/// request, is counted as text.
#[must_use]
pub fn count_tokens(body: &[u8], context: &mut Context<'_>, options: &CommonOptions) -> u64 {
    let translated = request::decode_prompt(body).and_then(|request| translate::translate(request, context, options));
    match translated {
        Ok(plan) => tokens::of_request(&plan.upstream),
        Err(_) => tokens::of_json(&String::from_utf8_lossy(body)),
    }
}
