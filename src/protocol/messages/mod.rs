//! Anthropic Messages, to the backend and back.
//!
//! The way there: [`request`] reads a body, [`translate`] turns it into the upstream's form, with
//! `message`, `content` and `source` for the conversation, `tools`, `choice`, `thinking`, `format` and
//! `session` for the rest. Replies: [`render`] and `web_search` render the pieces of a reply as content blocks, [`event`]
//! and `document` encode them, [`error`] encodes errors. A signature carries reasoning to the client and back.

mod cache_key;
mod content;
mod document;
pub mod error;
pub mod event;
mod format;
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
pub use translate::Translation;

use super::tokens::{self, TokenLimit};
use super::{Context, Dialect, Plan};
use crate::error::ProxyError;

/// What a signature of ours begins with; the rest of it is reasoning in the backend's own form.
const SIGNATURE: &str = "cxr1.";

/// The Messages dialect.
#[derive(Clone, Copy, Debug)]
pub struct Messages;

/// How Messages requests are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The system prompt of a request that brings none (`default_instructions`).
    pub default_instructions: String,
    /// What becomes of `max_tokens` (`chat.token_limit`).
    pub token_limit: TokenLimit,
}

impl Dialect for Messages {
    type Request<'a> = MessagesRequest<'a>;
    type Options = Options;
    type Reply = MessagesReply;

    const NAME: &'static str = "messages";

    fn decode(body: &[u8]) -> Result<MessagesRequest<'_>, ProxyError> {
        request::decode(body)
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &Options,
    ) -> Result<Plan<'a, MessagesReply>, ProxyError> {
        let Translation { upstream, mode, options } = translate::translate(request, context, options)?;
        Ok(Plan { upstream, mode, reply: MessagesReply::new(options) })
    }

    fn to_error_response(error: &ProxyError, request_id: &str) -> (StatusCode, HeaderMap, Bytes) {
        to_error_response(error, request_id)
    }
}

/// An estimate of a request's input tokens. Never fails: clients ask it all the time, also with what
/// is no whole request, and what can't be translated is counted as the text that it is.
#[must_use]
pub fn count_tokens(body: &[u8], context: &mut Context<'_>, options: &Options) -> u64 {
    let translated = request::decode_prompt(body).and_then(|request| translate::translate(request, context, options));
    match translated {
        Ok(translation) => tokens::of_request(&translation.upstream),
        Err(_) => tokens::of_json(&String::from_utf8_lossy(body)),
    }
}
