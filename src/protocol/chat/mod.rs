//! OpenAI Chat Completions, to the backend and back.
//!
//! The way there: [`request`] reads a body, [`translate`] turns it into the upstream's form, with
//! `message`, `input`, `content` and `history` for the conversation, `tools`, `choice` and `format` for the
//! rest. Replies: [`render`] renders the pieces of a reply, [`chunk`] and `document` encode them, [`error`] encodes
//! errors.

pub mod chunk;
mod content;
mod document;
pub mod error;
mod format;
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
pub use translate::Translation;

use super::{Context, Dialect, Plan};
use crate::error::ProxyError;

/// The Chat Completions dialect.
#[derive(Clone, Copy, Debug)]
pub struct Chat;

impl Dialect for Chat {
    type Request<'a> = ChatRequest<'a>;
    type Options = Options;
    type Reply = ChatReply;

    const NAME: &'static str = "chat";

    fn decode(body: &[u8]) -> Result<ChatRequest<'_>, ProxyError> {
        request::decode(body)
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &Options,
    ) -> Result<Plan<'a, ChatReply>, ProxyError> {
        let Translation { upstream, mode, options } = translate::translate(request, context, options)?;
        Ok(Plan { upstream, mode, reply: ChatReply::new(options) })
    }

    fn to_error_response(error: &ProxyError, request_id: &str) -> (StatusCode, HeaderMap, Bytes) {
        to_error_response(error, request_id)
    }
}
