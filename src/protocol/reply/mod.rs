//! The reply to a client: upstream events in, events or a document of the client's API out.
//!
//! [`Machine`] does what all translated APIs share; a [`Renderer`] defines the events of one API. `assembler` turns
//! upstream events into pieces of output items ([`ReplyItem`]), with `items`, `item` and `progress` for what has
//! arrived. `presenter` passes the pieces to the renderer in order (`queue`), up to a stop sequence (`stop`) or the
//! token limit. The renderer's events go to a [`Sink`], which encodes them or folds them into a document.
//! `pending_call` collects the arguments of calls that an API sends as a whole. `response_meta` and `usage` render
//! members that OpenAI's APIs have in common. The Responses API passes events on and uses only the assembler.
//!
//! Nothing here waits, reads a clock or draws random numbers: the same upstream events produce the same reply.

pub(super) mod assembler;
pub(super) mod finish;
pub(super) mod item;
pub(super) mod items;
mod machine;
mod pending_call;
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
use super::stored_refs::{ResponseIdentity, StoredResponse};
use crate::error::ProxyError;
pub use finish::FinishKind;
pub use machine::Machine;
pub use pending_call::{CompleteCall, PendingCall};
pub use renderer::{CallStart, Emit, EventOf, Renderer, ReplyEnd, ReplyOptions, TextDelta};
pub use reply_item::{CallEnd, Citation, ReplyItem, Search, Source};
pub use response_meta::ResponseMeta;
pub use sink::{Encoder, Fold, Sink, Wire};

/// The state of one reply. Turns upstream events into events for the client, which it puts into a sink.
pub trait Reply: Send + 'static {
    /// An upstream event as this reply reads it: [`UpstreamEvent`](super::UpstreamEvent), or a form that reads less.
    type Upstream<'u>: From<&'u str>;
    /// Encodes the client's events.
    type Encoder: Encoder;

    /// The bytes that keep an idle connection open.
    fn keepalive(&self) -> Bytes;

    /// Whether the reply depends on the backend. If not, [`Self::on_commit`] sends the whole reply.
    fn needs_backend(&self) -> bool {
        true
    }

    /// The identity of the response and its first object, if the client wants it to run in the background.
    fn queued_object(&self, _identity: impl FnOnce() -> ResponseIdentity) -> Option<(ResponseIdentity, String)> {
        None
    }

    /// Sends the opening event of a stream: the server sends the response head, so from now on an error is an event.
    ///
    /// Called once, after the events that arrived before, and for a document only if no backend is needed. Does nothing
    /// if the opening event was sent already, or the reply is finished.
    fn on_commit(&mut self, sink: &mut impl Sink<Self::Encoder>);

    /// Accepts the next upstream event.
    fn on_event(&mut self, event: Self::Upstream<'_>, sink: &mut impl Sink<Self::Encoder>);

    /// Accepts the end of the upstream stream: the reply fails with the error in `cut`, or as truncated if the backend
    /// closed the stream (`None`). Does nothing if the reply is finished.
    fn on_end(&mut self, cut: Option<ProxyError>, sink: &mut impl Sink<Self::Encoder>);

    /// Whether the reply is complete or failed, so that the upstream call can be dropped.
    fn is_finished(&self) -> bool;

    /// Prepares a finished reply for more events: the backend may answer control frames of the client, and start a
    /// response to them by itself. Without this call, events after the end are ignored.
    fn expect_follow_up(&mut self) {}

    /// The error of a reply that failed.
    fn failure(&self) -> Option<&ProxyError>;

    /// The reply as it was before its first event, for another attempt.
    #[must_use]
    fn restarted(self) -> Self
    where
        Self: Sized;

    /// The document, if the events were put into [`Fold`].
    ///
    /// # Errors
    /// If the reply failed or is not complete.
    fn document(self) -> Result<Bytes, ProxyError>;

    /// Usage and outcome, for the log.
    fn summary(&self) -> Summary;

    /// Whether the reply counts tokens, so that [`tokens::load`](super::tokens::load) has to run before its first
    /// event.
    fn counts_tokens(&self) -> bool {
        false
    }

    /// Removes and returns what later requests may refer to, once the reply is finished. `None` if it isn't to be
    /// stored.
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
