//! Google's Gemini API: `generateContent`, `streamGenerateContent` and `countTokens`.
//!
//! [`request`] reads a body and [`translate`] converts it to the backend's request: `content`, `media` and
//! `conversation` the conversation, `generation`, `schema`, `tools` and `tool_choice` the rest. [`render`] converts the
//! pieces of a reply to [`event`]s, which a stream contains and from which `document` is folded; `grounding` reports web
//! searches. [`error`] renders errors. The client receives encrypted reasoning as a thought signature and sends it back
//! in the next request. Members may be spelled in camel case or in snake case, as Google's parser accepts both.

mod content;
mod conversation;
mod document;
pub mod error;
pub mod event;
mod generation;
mod grounding;
mod media;
pub mod render;
pub mod request;
mod schema;
mod signature;
mod spelling;
mod tool_choice;
mod tools;
pub mod translate;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

pub use error::to_error_response;
pub use event::Chunk;
pub use render::{GeminiReply, RenderOptions, ReplyOptions};
pub use request::GeminiRequest;

use super::{CommonOptions, Context, Dialect, Mode, Plan, tokens};
use crate::command_hint::CommandHint;
use crate::error::ProxyError;

/// The dialect of one method. All methods have the same requests and differ in the form of the reply.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<const STREAMS: bool, const SENDS_EVENTS: bool>;

/// `generateContent`.
pub type Generate = Endpoint<false, false>;

/// `streamGenerateContent`: the elements of a JSON array.
pub type StreamArray = Endpoint<true, false>;

/// `streamGenerateContent?alt=sse`: server-sent events.
pub type StreamEvents = Endpoint<true, true>;

/// The form of a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// One document.
    #[default]
    Document,
    /// A stream of chunks that are the elements of a JSON array.
    Array,
    /// A stream of server-sent events.
    Events,
}

impl Form {
    fn mode(self) -> Mode {
        match self {
            Self::Document => Mode::Document,
            Self::Array | Self::Events => Mode::Stream,
        }
    }
}

impl<const STREAMS: bool, const SENDS_EVENTS: bool> Endpoint<STREAMS, SENDS_EVENTS> {
    const FORM: Form = match (STREAMS, SENDS_EVENTS) {
        (false, _) => Form::Document,
        (true, false) => Form::Array,
        (true, true) => Form::Events,
    };
}

impl<const STREAMS: bool, const SENDS_EVENTS: bool> Dialect for Endpoint<STREAMS, SENDS_EVENTS> {
    type Request<'a> = GeminiRequest<'a>;
    type Options = CommonOptions;
    type Reply = GeminiReply;

    const NAME: &'static str = "gemini";
    const STREAM_TYPE: &'static str =
        if SENDS_EVENTS { "text/event-stream; charset=utf-8" } else { "application/json; charset=utf-8" };

    fn decode(body: &[u8]) -> Result<GeminiRequest<'_>, ProxyError> {
        request::decode(body, Self::FORM)
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &CommonOptions,
    ) -> Result<Plan<'a, GeminiReply>, ProxyError> {
        translate::translate(request, context, options)
    }

    fn to_error_response(
        error: &ProxyError,
        _request_id: &str,
        commands: CommandHint,
    ) -> (StatusCode, HeaderMap, Bytes) {
        to_error_response(error, commands)
    }
}

/// Estimates the input tokens of a `countTokens` request.
///
/// # Errors
/// As for a request to generate content.
pub fn count_tokens(body: &[u8], context: &mut Context<'_>, options: &CommonOptions) -> Result<u64, ProxyError> {
    let plan = translate::translate(request::decode_count(body)?, context, options)?;
    Ok(tokens::of_request(&plan.upstream))
}
