//! Google's Gemini API: `generateContent`, `streamGenerateContent` and `countTokens`.
//!
//! [`request`] reads a body and [`translate`] converts it to the backend's request: `content`, `media` and
//! `conversation` the conversation, `generation`, `schema`, `tools` and `tool_choice` the rest. [`render`] converts the
//! pieces of a reply to [`event`]s, which a stream contains and from which `document` is folded; `grounding` reports
//! web searches. [`error`] renders errors. The client receives encrypted reasoning as a thought signature and sends it
//! back in the next request. Members may be spelled in camel case or in snake case, as Google's parser accepts both.

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

/// A method of the API. All methods have the same requests and differ in the form of the reply.
pub trait Method: Send + Sync + 'static {
    /// The form of the reply.
    const FORM: Form;
}

/// `generateContent`.
#[derive(Clone, Copy, Debug)]
pub struct Generate;

/// `streamGenerateContent`: the elements of a JSON array.
#[derive(Clone, Copy, Debug)]
pub struct StreamArray;

/// `streamGenerateContent?alt=sse`: server-sent events.
#[derive(Clone, Copy, Debug)]
pub struct StreamEvents;

impl Method for Generate {
    const FORM: Form = Form::Document;
}

impl Method for StreamArray {
    const FORM: Form = Form::Array;
}

impl Method for StreamEvents {
    const FORM: Form = Form::Events;
}

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

impl<M: Method> Dialect for M {
    type Request<'a> = GeminiRequest<'a>;
    type Options = CommonOptions;
    type Reply = GeminiReply;

    const NAME: &'static str = "gemini";
    const STREAM_TYPE: &'static str = match M::FORM {
        Form::Events => "text/event-stream; charset=utf-8",
        Form::Array | Form::Document => "application/json; charset=utf-8",
    };

    fn decode(body: &[u8]) -> Result<GeminiRequest<'_>, ProxyError> {
        request::decode(body, M::FORM)
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
