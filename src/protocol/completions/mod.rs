//! The legacy OpenAI text completions API, which editors use for autocompletion.
//!
//! The prompt becomes a user message after the default instructions, and the text of the response is the completion.
//! There are no tools and no visible reasoning. [`request`] reads a body, [`translate`] converts it to the backend's
//! request, and [`render`] converts the pieces of a reply to [`chunk`]s, which a stream contains and from which a
//! document is folded.

pub mod chunk;
pub mod render;
pub mod request;
pub mod translate;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

pub use chunk::Chunk;
pub use render::{CompletionReply, RenderOptions, ReplyOptions};
pub use request::CompletionRequest;

use super::{CommonOptions, Context, Dialect, Plan, openai};
use crate::command_hint::CommandHint;
use crate::error::ProxyError;

/// The text completions dialect.
#[derive(Clone, Copy, Debug)]
pub struct Completions;

impl Dialect for Completions {
    type Request<'a> = CompletionRequest<'a>;
    type Options = CommonOptions;
    type Reply = CompletionReply;

    const NAME: &'static str = "completions";

    fn decode(body: &[u8]) -> Result<CompletionRequest<'_>, ProxyError> {
        request::decode(body)
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &CommonOptions,
    ) -> Result<Plan<'a, CompletionReply>, ProxyError> {
        translate::translate(request, context, options)
    }

    fn to_error_response(
        error: &ProxyError,
        _request_id: &str,
        commands: CommandHint,
    ) -> (StatusCode, HeaderMap, Bytes) {
        openai::error::to_error_response(error, "prompt", commands)
    }
}
