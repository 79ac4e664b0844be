//! The trait with which an API renders the pieces of a reply as its events, and the types that it uses.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::finish::FinishKind;
use super::reply_item::{CallEnd, Citation, ReplyItem, Search};
use super::response_meta::ResponseMeta;
use super::sink::Encoder;
use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::upstream_input::CallKind;

/// A blank line, escaped. Separates joined messages, and joined parts of reasoning.
pub(in crate::protocol) const BLANK_LINE: &str = r"\n\n";

/// An event of the API that `R` renders.
pub type EventOf<'e, R> = <<R as Renderer>::Encoder as Encoder>::Event<'e>;

/// The options of a request that affect its reply. `A` holds the options that only one API has.
#[derive(Clone, Debug, Default)]
pub struct ReplyOptions<A> {
    /// The model as the client named it. Replies repeat this name.
    pub model: String,
    /// Tool names that were changed for the backend: the backend's name to the client's.
    pub names: BTreeMap<String, String>,
    /// Stop sequences.
    pub stop: Vec<String>,
    /// Output tokens after which the proxy ends the reply; `None` for no limit.
    pub token_limit: Option<u64>,
    /// Characters of the prompt, from which its tokens are estimated. 0 if no estimate is needed.
    pub prompt_characters: usize,
    /// Formats the commands in error messages.
    pub commands: CommandHint,
    /// Options of one API.
    pub api: A,
}

/// A piece of text. All texts are escaped.
#[derive(Clone, Copy, Debug)]
pub struct TextDelta<'t> {
    /// Position of the item.
    pub item: usize,
    /// Position of the part in the item.
    pub part: usize,
    /// The delta begins another message, or another part of reasoning, after one with text. APIs that join the two put
    /// a blank line between them.
    pub is_separate: bool,
    /// The text.
    pub text: &'t str,
    /// Length in Unicode scalar values.
    pub characters: usize,
}

/// The beginning of a call.
#[derive(Clone, Copy, Debug)]
pub struct CallStart<'c> {
    /// Position among the calls of the reply.
    pub index: usize,
    /// The call's id.
    pub id: &'c str,
    /// The tool, as the client named it.
    pub name: &'c str,
    /// Function or custom tool.
    pub kind: CallKind,
}

/// The end of a reply that did not fail.
#[derive(Clone, Copy, Debug)]
pub struct ReplyEnd<'e> {
    /// Why it ended.
    pub finish: FinishKind,
    /// Token usage, as the backend reported it or as an estimate.
    pub usage: Usage,
    /// The stop sequence that ended the text; `None` if none did.
    pub stop_sequence: Option<&'e str>,
    /// Id, times and service tier, as far as events have reported them.
    pub response: &'e ResponseMeta,
}

/// Sends events to the client.
pub trait Emit<E: Encoder> {
    /// Sends an event. The first one is preceded by [`Renderer::opening`].
    fn emit(&mut self, event: &E::Event<'_>);
}

/// Renders the pieces of a reply as the events of one API.
///
/// [`Machine`](super::Machine) calls one method per piece, in the order in which the client gets them: one message or
/// call at a time, without what a stop sequence or the token limit cuts off. The default implementations show nothing.
/// Texts are escaped; names and ids are not.
pub trait Renderer: Debug + Send + Sized + 'static {
    /// The options that only this API has.
    type Options: Clone + Debug + Send + Sync;
    /// Encodes the API's events.
    type Encoder: Encoder + Debug;

    /// Refusals are passed to [`Self::text`] in place of [`Self::refusal`].
    const REFUSAL_IS_TEXT: bool = false;
    /// The arguments to show for a function call for which the model wrote none.
    const EMPTY_ARGUMENTS: &'static str = "";

    /// A renderer for one reply.
    fn new(options: &ReplyOptions<Self::Options>) -> Self;

    /// The encoder for a response that begins.
    fn encoder(options: &ReplyOptions<Self::Options>, response: &ResponseMeta) -> Self::Encoder;

    /// The event that opens the reply, if the API has one.
    #[must_use]
    fn opening(_options: &ReplyOptions<Self::Options>) -> Option<EventOf<'static, Self>> {
        None
    }

    /// The event that ends a reply which failed.
    fn failed(error: &ProxyError) -> EventOf<'_, Self>;

    /// The bytes that keep an idle connection open: a comment of an event stream, unless the API defines an event.
    fn keepalive(_encoder: &Self::Encoder) -> Bytes {
        Bytes::from_static(b": keepalive\n\n")
    }

    /// The document that was folded from the events.
    fn document(encoder: &Self::Encoder, options: &ReplyOptions<Self::Options>, response: &ResponseMeta) -> Bytes;

    /// Whether the reply depends on the backend. If not, it consists of its end alone.
    fn needs_backend(&self) -> bool {
        true
    }

    /// Whether a piece ends the text before it. Text that is held back for a stop sequence is then shown first.
    fn interrupts_text(&self, _item: usize, _piece: &ReplyItem<'_>) -> bool {
        false
    }

    /// Shows text of a message.
    fn text(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<Self::Encoder>);

    /// Shows text of a refusal.
    fn refusal(&mut self, _delta: &TextDelta<'_>, _out: &mut impl Emit<Self::Encoder>) {}

    /// A message is complete.
    fn message_end(&mut self, _item: usize, _out: &mut impl Emit<Self::Encoder>) {}

    /// Shows a citation. Its text was shown before.
    fn citation(&mut self, _item: usize, _part: usize, _citation: &Citation<'_>, _out: &mut impl Emit<Self::Encoder>) {}

    /// Shows reasoning.
    fn reasoning(&mut self, _delta: &TextDelta<'_>, _out: &mut impl Emit<Self::Encoder>) {}

    /// A reasoning item is complete; `encrypted` is its encrypted form.
    fn reasoning_end(&mut self, _item: usize, _encrypted: Option<&str>, _out: &mut impl Emit<Self::Encoder>) {}

    /// Begins a call. Breaks if the client is not shown this call.
    fn call_start(&mut self, _call: &CallStart<'_>, _out: &mut impl Emit<Self::Encoder>) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    /// Shows arguments or input of the call that began last.
    fn call_text(&mut self, _text: &str, _out: &mut impl Emit<Self::Encoder>) {}

    /// Ends the call that began last.
    fn call_end(&mut self, _end: CallEnd, _out: &mut impl Emit<Self::Encoder>) {}

    /// Shows a complete image.
    fn image(&mut self, _format: &str, _base64: &str, _out: &mut impl Emit<Self::Encoder>) {}

    /// Shows a web search. Breaks if this piece and all pieces that follow are to be deferred: they are shown at the
    /// end of the reply, after [`Self::gather`].
    fn search(&mut self, _item: usize, _search: &Search<'_>, _out: &mut impl Emit<Self::Encoder>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Accepts the deferred pieces, each with its item, to edit them before they are shown.
    fn gather(&mut self, _pieces: &mut [(usize, ReplyItem<'static>)]) {}

    /// Ends a reply that did not fail.
    fn end(&mut self, end: &ReplyEnd<'_>, out: &mut impl Emit<Self::Encoder>);
}
