//! Translation between the client APIs and the Codex backend.
//!
//! ```text
//! bytes ─decode→ Request ─translate→ Plan { codex::Request, Mode, Reply }
//!                                      │  (the server sends the request and feeds the events to the reply)
//!       UpstreamEvent::decode → Reply::on_event / on_end → Sink ─encode→ bytes    (Mode::Stream)
//!                                                             ─absorb→ document (Mode::Document)
//! ```
//!
//! This module is pure: no async, I/O, environment, clock, randomness or logging. The same request produces the same
//! upstream bytes, and the same upstream events produce the same reply. A dialect is the code for one client API.
//! Dialects don't import each other; they share [`upstream_input`] for requests and [`reply`] for replies.
//!
//! "Case `x`" in a comment means the recorded or written example in a folder `x` of `tests/cases`.

pub mod audio;
pub mod batches;
pub mod chat;
pub mod codex;
pub mod completions;
pub mod error_response;
pub mod files;
pub mod form;
pub mod gemini;
mod ignored;
pub mod images;
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

use crate::command_hint::CommandHint;
use crate::error::{ProxyError, Refusal};
pub use codex::UpstreamEvent;
pub use ignored::Ignored;
pub use reply::{Encoder, Fold, Reply, Sink, Summary, Wire};
use stored_refs::{References, ResolvedReferences};
pub use upstream_input::parameters::CommonOptions;

/// Whether clients of an API send the items of responses back with their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemIds {
    /// They do.
    SentBack,
    /// They send only the calls of their tools back with ids.
    Lost,
}

/// Whether requests of an API can refer to uploaded files by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileIds {
    /// They can; see [`files::inputs`].
    Known,
    /// They can't.
    Unknown,
}

/// A client API: decodes and translates its requests, and creates its replies.
pub trait Dialect: Send + Sync + 'static {
    /// A decoded request, borrowing from the body.
    type Request<'a>: Send;
    /// The settings that [`Self::translate`] needs.
    type Options: Send + Sync;
    /// The state of one reply, which converts upstream events to the client's events.
    type Reply: Reply;

    /// The name in logs and metrics, such as `chat`.
    const NAME: &'static str;

    /// The content type of a streaming reply.
    const STREAM_TYPE: &'static str = "text/event-stream; charset=utf-8";

    /// Whether clients send the items of responses back.
    const ITEM_IDS: ItemIds = ItemIds::Lost;

    /// Whether requests can refer to uploaded files.
    const FILE_IDS: FileIds = FileIds::Unknown;

    /// Reads a request body.
    ///
    /// # Errors
    /// If the body is not a JSON object, a known member is invalid, or the request needs something that the backend
    /// doesn't support.
    fn decode(body: &[u8]) -> Result<Self::Request<'_>, ProxyError>;

    /// Translates a request to the backend's request. A pure function of its arguments.
    ///
    /// # Errors
    /// If the request is invalid as a whole, or needs something that the backend doesn't support.
    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &Self::Options,
    ) -> Result<Plan<'a, Self::Reply>, ProxyError>;

    /// Returns the stored responses and items that the request refers to. The server looks them up before translation.
    fn references(_request: &Self::Request<'_>) -> References {
        References::default()
    }

    /// Adds to the request what the server found for its [`Self::references`]. Called only if it has any.
    fn resolve_references(_request: &mut Self::Request<'_>, _resolved: ResolvedReferences) {}

    /// Returns the client's headers that are sent upstream, where they replace the proxy's. `Some`, even if empty,
    /// marks a client of the backend's own API, which also gets the backend's response headers.
    #[must_use]
    fn forwarded_headers(_headers: &HeaderMap) -> Option<HeaderMap> {
        None
    }

    /// Converts an error to a response of this API: status, headers, body.
    fn to_error_response(error: &ProxyError, request_id: &str, commands: CommandHint)
    -> (StatusCode, HeaderMap, Bytes);
}

/// Input of [`Dialect::translate`] besides the request and the settings, and the warnings that it adds.
#[derive(Debug)]
pub struct Context<'c> {
    /// The client's headers.
    pub headers: &'c HeaderMap,
    /// The name (not the secret) of the client key, if the request was sent with one.
    pub key: Option<&'c str>,
    /// The model in the URL path (`/openai/deployments/{model}/…`), for requests whose body names none.
    pub path_model: Option<&'c str>,
    /// Formats the commands in error messages.
    pub commands: CommandHint,
    /// The model catalogue and the naming rules.
    pub models: &'c models::Models,
    /// Warnings about members that the translation ignored, clamped or repaired.
    pub warnings: Warnings,
}

impl Context<'_> {
    /// Returns the client's model name, from the body or else from the path.
    ///
    /// # Errors
    /// If both are missing or blank.
    pub fn model_name(&self, in_body: Option<&str>) -> Result<String, ProxyError> {
        let name = [in_body, self.path_model].into_iter().flatten().find(|name| !name.trim().is_empty());
        name.map(str::to_owned).ok_or_else(|| Refusal::missing("model"))
    }
}

/// Maximum number of warnings per request; a hostile request could cause millions.
const MAX_WARNINGS: usize = 64;

/// The tokens of the response header `x-proxy-warnings`, without duplicates, in the order in which they were noted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings(Vec<String>);

impl Warnings {
    /// Adds a token such as `ignored:temperature`, truncated to 100 characters. Other characters than letters, digits
    /// and `:_-.[]` become `_`.
    pub fn note(&mut self, token: impl AsRef<str>) {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-' | '.' | '[' | ']');
        let token: String = token.as_ref().chars().take(100).map(|c| if is_plain(c) { c } else { '_' }).collect();
        if self.0.len() < MAX_WARNINGS && !self.0.contains(&token) {
            self.0.push(token);
        }
    }

    /// Notes an ignored member of the request.
    pub fn ignored(&mut self, member: &str) {
        self.note(format!("ignored:{member}"));
    }

    /// Notes all ignored members of a request.
    pub fn ignored_members(&mut self, members: &Ignored) {
        members.names().for_each(|member| self.ignored(member));
    }

    /// The value of the header; `None` if there are no warnings.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join(", "))
    }

    /// The tokens, as in the header.
    #[must_use]
    pub fn tokens(&self) -> &[String] {
        &self.0
    }
}

/// A translated request, and the reply that its response is fed to.
#[derive(Debug)]
pub struct Plan<'a, R> {
    /// The request for the backend.
    pub upstream: codex::Request<'a>,
    /// Whether the client wants a stream.
    pub mode: Mode,
    /// Converts the backend's events to the reply.
    pub reply: R,
}

/// The form of the reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Events, as they arrive.
    Stream,
    /// One document: the fold of the events that a stream would have.
    #[default]
    Document,
}
