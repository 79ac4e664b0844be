//! Legacy text completions, to the backend and back.
//!
//! Editors still ask for autocompletion this way. The prompt is what a user says and the answer's
//! text is the completion; nothing is added to either, so that how well a text is continued is up
//! to the model and the prompt. There are no tools and no visible reasoning here. [`request`] reads
//! a body, [`translate`] turns it into the upstream's form. [`render`] renders the reply, [`chunk`] encodes it.

pub mod chunk;
pub mod render;
pub mod request;
pub mod translate;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

pub use chunk::Chunk;
pub use render::{CompletionReply, RenderOptions, ReplyOptions};
pub use request::CompletionRequest;
pub use translate::Translation;

use super::{Context, Dialect, Plan, openai};
use crate::error::ProxyError;
use crate::protocol::tokens::TokenLimit;

/// The dialect of legacy text completions.
#[derive(Clone, Copy, Debug)]
pub struct Completions;

/// How they are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The system prompt (`default_instructions`): a completion can't bring one.
    pub default_instructions: String,
    /// What becomes of `max_tokens` (`chat.token_limit`).
    pub token_limit: TokenLimit,
}

impl Dialect for Completions {
    type Request<'a> = CompletionRequest<'a>;
    type Options = Options;
    type Reply = CompletionReply;

    const NAME: &'static str = "completions";

    fn decode(body: &[u8]) -> Result<CompletionRequest<'_>, ProxyError> {
        request::decode(body)
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &Options,
    ) -> Result<Plan<'a, CompletionReply>, ProxyError> {
        let Translation { upstream, mode, options } = translate::translate(request, context, options)?;
        Ok(Plan { upstream, mode, reply: CompletionReply::new(options) })
    }

    fn to_error_response(error: &ProxyError, _request_id: &str) -> (StatusCode, HeaderMap, Bytes) {
        openai::error::to_error_response(error, "prompt")
    }
}
