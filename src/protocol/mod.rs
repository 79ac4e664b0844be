//! The pure core: the client dialects, one upstream, and nothing that waits.
//!
//! ```text
//! bytes ─decode→ Request ─translate→ Plan { codex::Request, Mode, Reply }
//!                                      │  (the server asks upstream, and feeds what comes back)
//!       UpstreamEvent::decode → Reply::on_event / on_end → Sink ─encode→ bytes    (Mode::Stream)
//!                                                             ─absorb→ document (Mode::Document)
//! ```
//!
//! No async, files, environment, sockets, clock, randomness or logging below this module: the same
//! request gives the same upstream bytes, and the same upstream events give the same answer.
//! A dialect never imports another; what they share is `conversation` on the way there, `answer` on
//! the way back.

pub mod chat;
pub mod codex;
pub mod completions;
pub mod error_response;
mod ignored;
pub mod json;
pub mod messages;
pub mod models;
pub mod ollama;
pub mod openai;
pub mod reply;
pub mod responses;
pub mod sse;
pub mod stored_refs;
pub mod tokens;
pub mod upstream_input;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::error::{ProxyError, Refusal};
pub use codex::UpstreamEvent;
pub use ignored::Ignored;
pub use reply::{Encoder, Fold, Reply, Sink, Summary, Wire};
use stored_refs::{References, ResolvedReferences};

/// One client API: how its requests are read, translated and answered.
pub trait Dialect: Send + Sync + 'static {
    /// A decoded request, borrowing from the body.
    type Request<'a>: Send;
    /// The settings of this dialect.
    type Options: Send + Sync;
    /// The machine that turns upstream events into the client's.
    type Reply: Reply;

    /// Name for logs: `chat`, `responses`, `messages`, `ollama`.
    const NAME: &'static str;

    /// Content type of a streaming answer.
    const STREAM_TYPE: &'static str = "text/event-stream; charset=utf-8";

    /// Reads a body.
    ///
    /// # Errors
    /// When it is not JSON, or a known member has the wrong type.
    fn decode(body: &[u8]) -> Result<Self::Request<'_>, ProxyError>;

    /// Turns a request into the upstream's form. A pure function of its arguments.
    ///
    /// # Errors
    /// When the request is wrong, or asks for what can't be had.
    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &Self::Options,
    ) -> Result<Plan<'a, Self::Reply>, ProxyError>;

    /// What the request refers to by id, to be looked up before it is translated.
    fn references(_request: &Self::Request<'_>) -> References {
        References::default()
    }

    /// Hands the request what was found of that.
    fn resolve_references(_request: &mut Self::Request<'_>, _recalled: ResolvedReferences) {}

    /// Headers of the client that go upstream in the place of ours. `Some` only for a client that speaks
    /// the backend's own language, which is also shown all that the backend says in headers.
    #[must_use]
    fn forwarded_headers(_headers: &HeaderMap) -> Option<HeaderMap> {
        None
    }

    /// How this dialect words an error: status, its own headers, body.
    fn to_error_response(error: &ProxyError, request_id: &str) -> (StatusCode, HeaderMap, Bytes);
}

/// What a translation sees beside the body, and what it has to say beside the answer.
#[derive(Debug)]
pub struct Context<'c> {
    /// The client's headers.
    pub headers: &'c HeaderMap,
    /// Name of the client key that was used, where keys are set.
    pub key: Option<&'c str>,
    /// The model named by the path (`/openai/deployments/{model}/…`).
    pub path_model: Option<&'c str>,
    /// Model names and what is known about them.
    pub models: &'c models::Models,
    /// What was ignored, clamped or repaired.
    pub warnings: Warnings,
}

impl Context<'_> {
    /// The model as the client named it, in the body or in the path.
    ///
    /// # Errors
    /// When it named none.
    pub fn model_name(&self, in_body: Option<&str>) -> Result<String, ProxyError> {
        let name = [in_body, self.path_model].into_iter().flatten().find(|name| !name.trim().is_empty());
        name.map(str::to_owned).ok_or_else(|| Refusal::missing("model"))
    }
}

/// The tokens that are kept: a request can give cause for millions.
const MAX_TOKENS: usize = 64;

/// Tokens for the header `x-proxy-warnings`: each once, in the order of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings(Vec<String>);

impl Warnings {
    /// Adds a token such as `ignored:temperature`. Characters that don't belong in a header become `_`.
    pub fn note(&mut self, token: impl AsRef<str>) {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-' | '.' | '[' | ']');
        let token: String = token.as_ref().chars().take(100).map(|c| if is_plain(c) { c } else { '_' }).collect();
        if self.0.len() < MAX_TOKENS && !self.0.contains(&token) {
            self.0.push(token);
        }
    }

    /// Notes a request member that was ignored.
    pub fn ignored(&mut self, member: &str) {
        self.note(format!("ignored:{member}"));
    }

    /// The header's value; `None` when there is nothing to say.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join(", "))
    }

    /// The tokens.
    #[must_use]
    pub fn tokens(&self) -> &[String] {
        &self.0
    }
}

/// A translated request.
#[derive(Debug)]
pub struct Plan<'a, R> {
    /// What goes upstream.
    pub upstream: codex::Request<'a>,
    /// What the client wants back.
    pub mode: Mode,
    /// The machine for the way back.
    pub reply: R,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Events, as they come.
    Stream,
    /// One document at the end: the fold of the same events.
    Document,
}
