//! The OpenAI Chat Completions API.
//!
//! [`request`] reads a body and [`translate`] converts it to the backend's request: `message`, `content` and `history`
//! the conversation, `tools` and `tool_choice` the tools. `responses_body` reads Responses bodies that clients post to
//! the chat path. [`render`] converts the pieces of a reply to [`chunk`]s, which a stream contains and from which
//! `document` is folded. [`error`] renders errors.

pub mod chunk;
mod content;
mod document;
pub mod error;
mod history;
mod message;
mod options;
pub mod render;
pub mod request;
mod responses_body;
mod tool_choice;
mod tools;
pub mod translate;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

pub use chunk::Chunk;
pub use error::to_error_response;
pub use options::Options;
pub use render::{CallStyle, ChatReply, ReasoningField, RenderOptions, ReplyOptions};
pub use request::ChatRequest;

use super::{Context, Dialect, FileIds, Plan};
use crate::command_hint::CommandHint;
use crate::error::ProxyError;

/// The Chat Completions dialect.
#[derive(Clone, Copy, Debug)]
pub struct Chat;

impl Dialect for Chat {
    type Request<'a> = ChatRequest<'a>;
    type Options = Options;
    type Reply = ChatReply;

    const NAME: &'static str = "chat";
    const FILE_IDS: FileIds = FileIds::Known;

    fn decode(body: &[u8]) -> Result<ChatRequest<'_>, ProxyError> {
        request::decode(body)
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &Options,
    ) -> Result<Plan<'a, ChatReply>, ProxyError> {
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
