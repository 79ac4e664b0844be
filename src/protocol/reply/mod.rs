//! The reply to a client: upstream events in, events or a document of the client's API out.
//!
//! [`Machine`] does what all translated APIs share; a [`Renderer`] defines how one of them looks. `assembler` turns
//! upstream events into pieces of output items (`reply_item`), with `items`, `item` and `progress` for what has arrived.
//! `presenter` shows the pieces in order (`queue`), up to a stop sequence (`stop`) or the token limit. `response_meta`
//! and `usage` hold members that OpenAI's APIs have in common.
//!
//! Nothing here waits, reads a clock or draws random numbers: the same events give the same reply.

pub(super) mod assembler;
pub(super) mod finish;
pub(super) mod item;
pub(super) mod items;
mod machine;
mod presenter;
pub(super) mod progress;
mod queue;
pub(super) mod renderer;
pub(super) mod reply_item;
pub(super) mod response_meta;
mod sink;
pub(super) mod stop;
pub(super) mod usage;

use bytes::Bytes;

use super::codex;
use super::stored_refs::StoredResponse;
use crate::error::ProxyError;
pub use finish::FinishKind;
pub use machine::Machine;
pub use renderer::{CallStart, Emit, EventOf, Renderer, ReplyEnd, ReplyOptions, TextDelta};
pub use reply_item::{CallEnd, Citation, ReplyItem, Search, Source};
pub use response_meta::ResponseMeta;
pub use sink::{Encoder, Fold, Sink, Wire};

/// Turns upstream events into client events.
pub trait Reply: Send + 'static {
    /// An upstream event as this reply reads it: [`UpstreamEvent`](super::UpstreamEvent), or a form that reads less.
    type Upstream<'u>: From<&'u str>;
    /// Encodes the client's events.
    type Encoder: Encoder;

    /// The bytes that keep an idle connection open.
    fn keepalive(&self) -> Bytes;

    /// Whether the reply depends on the backend. Otherwise [`Self::on_commit`] sends the whole reply.
    fn needs_backend(&self) -> bool {
        true
    }

    /// Opens a reply that will be streamed. From now on an error is an event.
    ///
    /// Called once, after the events that the server held back until it sent the response head. Does nothing if the reply
    /// is open already, or finished.
    fn on_commit(&mut self, sink: &mut impl Sink<Self::Encoder>);

    /// Accepts the next upstream event.
    fn on_event(&mut self, event: Self::Upstream<'_>, sink: &mut impl Sink<Self::Encoder>);

    /// Accepts the end of the upstream stream. `None`: the backend closed it, which is a cut too if no terminal event came
    /// before. Does nothing if the reply is finished.
    fn on_end(&mut self, cut: Option<ProxyError>, sink: &mut impl Sink<Self::Encoder>);

    /// Whether the reply is complete or failed, so that the upstream call can be dropped.
    fn is_finished(&self) -> bool;

    /// The error of a reply that failed.
    fn failure(&self) -> Option<&ProxyError>;

    /// The reply as it was before its first event, for another attempt.
    #[must_use]
    fn restarted(self) -> Self
    where
        Self: Sized;

    /// The document that was folded from the events.
    ///
    /// # Errors
    /// If the reply failed or is not complete.
    fn document(self) -> Result<Bytes, ProxyError>;

    /// Usage and outcome, for the log.
    fn summary(&self) -> Summary;

    /// Whether the reply counts tokens, so that [`tokens::load`](super::tokens::load) has to run before its first event.
    fn counts_tokens(&self) -> bool {
        false
    }

    /// Removes what later requests may refer to. Call it once the reply is finished.
    fn take_stored_response(&mut self) -> Option<StoredResponse> {
        None
    }
}

/// Usage and outcome of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Tokens, if the backend reported them.
    pub usage: Option<codex::Usage>,
    /// `completed`, `incomplete`, or the code of the error. Empty while the reply is open.
    pub outcome: String,
}
