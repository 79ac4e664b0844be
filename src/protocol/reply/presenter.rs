//! Shows the pieces of a reply to the client: passes them to the renderer of its API.
//!
//! Does what every API needs: one message or call at a time, stop sequences, the token limit, citations after their
//! text, and the counts from which usage is estimated if the proxy ends the reply.

mod pieces;

use super::assembler::ItemSink;
use super::finish::{FinishKind, ReplyState};
use super::items::ItemTable;
use super::queue::Queue;
use super::renderer::{Emit, EventOf, Renderer, ReplyEnd, ReplyOptions};
use super::reply_item::{CallEnd, Citation, ReplyItem};
use super::response_meta::ResponseMeta;
use super::sink::Sink;
use super::stop::StopMatcher;
use super::usage;
use crate::error::ProxyError;
use crate::protocol::codex::{ResponseObject, Usage};
use crate::protocol::tokens::Meter;

/// Position of an item, and of a part in it.
type PartPosition = (usize, usize);

/// The state of the client's view of a reply.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is set by another event, in any order")]
pub(super) struct Presenter<R: Renderer> {
    pub(super) options: ReplyOptions<R::Options>,
    pub(super) renderer: R,
    /// Present once the response has begun.
    pub(super) encoder: Option<R::Encoder>,
    pub(super) response: ResponseMeta,
    pub(super) state: ReplyState,
    /// As the backend reported it; `None` before the terminal event.
    pub(super) usage: Option<Usage>,
    /// The backend ended the response early.
    is_incomplete: bool,
    /// The opening event was sent.
    is_opened: bool,
    queue: Queue,
    /// Pieces that are shown at the end of the reply; `None` unless the renderer deferred one.
    deferred: Option<Vec<(usize, ReplyItem<'static>)>>,
    stop: StopMatcher,
    /// Enforces the client's token limit.
    meter: Option<Meter>,
    /// The part whose text came last.
    text_part: Option<PartPosition>,
    /// Text of `text_part` was shown.
    has_shown_part: bool,
    /// The next text starts another message than the text before it.
    is_separate: bool,
    /// The part whose reasoning came last.
    reasoning_part: Option<PartPosition>,
    /// Citations of text that is held back for a stop sequence.
    held_citations: Vec<(PartPosition, Citation<'static>)>,
    /// Number of calls shown.
    calls: usize,
    open_call: Option<OpenCall>,
    /// Unicode scalar values shown of text, refusals and calls.
    characters: usize,
    reasoning_characters: usize,
}

/// The call that is being shown.
#[derive(Clone, Copy, Debug)]
struct OpenCall {
    index: usize,
    /// It is a function call, and its arguments are blank so far.
    lacks_arguments: bool,
}

/// Puts the events of a renderer into a sink, after the opening event.
struct RendererOutput<'m, R: Renderer, S> {
    options: &'m ReplyOptions<R::Options>,
    encoder: &'m mut R::Encoder,
    is_opened: &'m mut bool,
    sink: &'m mut S,
}

impl<R: Renderer, S: Sink<R::Encoder>> RendererOutput<'_, R, S> {
    fn open(&mut self) {
        if !std::mem::replace(self.is_opened, true)
            && let Some(opening) = R::opening(self.options)
        {
            self.sink.put(self.encoder, &opening);
        }
    }
}

impl<R: Renderer, S: Sink<R::Encoder>> Emit<R::Encoder> for RendererOutput<'_, R, S> {
    fn emit(&mut self, event: &EventOf<'_, R>) {
        self.open();
        self.sink.put(self.encoder, event);
    }
}

/// Passes the pieces from the assembler to the presenter.
pub(super) struct Presentation<'m, R: Renderer, S> {
    pub(super) presenter: &'m mut Presenter<R>,
    pub(super) sink: &'m mut S,
}

impl<R: Renderer, S: Sink<R::Encoder>> ItemSink for Presentation<'_, R, S> {
    fn put(&mut self, items: &ItemTable, item: usize, piece: ReplyItem<'_>) {
        if self.presenter.encoder.is_none() {
            self.presenter.begin(&ResponseObject::default(), items);
        }
        self.presenter.accept(item, piece, self.sink);
    }
}

impl<R: Renderer> Presenter<R> {
    pub(super) fn new(options: ReplyOptions<R::Options>) -> Self {
        Self {
            renderer: R::new(&options),
            stop: StopMatcher::new(&options.stop),
            meter: options.token_limit.map(Meter::new),
            options,
            encoder: None,
            response: ResponseMeta::default(),
            state: ReplyState::Open,
            usage: None,
            is_incomplete: false,
            is_opened: false,
            queue: Queue::default(),
            deferred: None,
            text_part: None,
            has_shown_part: false,
            is_separate: false,
            reasoning_part: None,
            held_citations: Vec::new(),
            calls: 0,
            open_call: None,
            characters: 0,
            reasoning_characters: 0,
        }
    }

    pub(super) fn counts_tokens(&self) -> bool {
        self.meter.is_some()
    }

    /// Begins the reply with the id and the time in a response object. Does nothing if it has begun.
    pub(super) fn begin(&mut self, response: &ResponseObject<'_>, items: &ItemTable) {
        if self.encoder.is_none() {
            self.response = ResponseMeta::new(response, items);
            self.encoder = Some(R::encoder(&self.options, &self.response));
        }
    }

    /// Sends the opening event, once.
    pub(super) fn open(&mut self, sink: &mut impl Sink<R::Encoder>) {
        self.rendering(sink).1.open();
    }

    fn rendering<'m, S: Sink<R::Encoder>>(&'m mut self, sink: &'m mut S) -> (&'m mut R, RendererOutput<'m, R, S>) {
        let encoder = self.encoder.as_mut().expect("a reply begins before it is rendered");
        let output = RendererOutput { options: &self.options, encoder, is_opened: &mut self.is_opened, sink };
        (&mut self.renderer, output)
    }

    /// Accepts the next piece of an item. The piece waits while another message or call is open.
    fn accept(&mut self, item: usize, piece: ReplyItem<'_>, sink: &mut impl Sink<R::Encoder>) {
        if self.queue.blocks(item) {
            return self.queue.hold(item, piece.into_owned());
        }
        self.pass(item, &piece, sink);
        self.release(sink);
    }

    /// Shows the items that waited for the one that was open.
    fn release(&mut self, sink: &mut impl Sink<R::Encoder>) {
        while let Some((item, pieces)) = self.queue.release() {
            for piece in &pieces {
                self.pass(item, piece, sink);
            }
        }
    }

    /// Shows a piece, unless a stop sequence or the limit ended the reply while it waited.
    fn pass(&mut self, item: usize, piece: &ReplyItem<'_>, sink: &mut impl Sink<R::Encoder>) {
        self.queue.pass(item, piece);
        if !self.state.is_open() {
            return;
        }
        match &mut self.deferred {
            Some(deferred) => deferred.push((item, piece.clone().into_owned())),
            None => self.show(item, piece, sink),
        }
    }

    /// Notes the terminal event, before the items that only it lists are shown.
    pub(super) fn note_terminal(&mut self, response: &ResponseObject<'_>, finish: FinishKind) {
        self.usage = response.usage;
        self.response.complete(response);
        self.is_incomplete = finish != FinishKind::Completed;
    }

    /// Shows everything that waits, and ends the reply as the backend did.
    pub(super) fn finish(&mut self, finish: FinishKind, sink: &mut impl Sink<R::Encoder>) {
        while let Some(item) = self.queue.open() {
            self.pass(item, &ReplyItem::CallEnd(CallEnd::Truncated), sink);
            self.release(sink);
        }
        if let Some(mut deferred) = self.deferred.take() {
            self.renderer.gather(&mut deferred);
            for (item, piece) in &deferred {
                if self.state.is_open() {
                    self.show(*item, piece, sink);
                }
            }
        }
        if self.flush(sink).is_continue() {
            self.end(finish, self.usage.unwrap_or_default(), sink);
        }
    }

    /// Ends the reply early, at a stop sequence or the token limit. Usage is an estimate, unless the backend has
    /// reported it already.
    fn cut(&mut self, finish: FinishKind, sink: &mut impl Sink<R::Encoder>) {
        let counted = self.meter.as_ref().map(Meter::tokens);
        let output_tokens = counted.unwrap_or_else(|| usage::tokens(self.characters));
        let estimate = usage::estimate(self.options.prompt_characters, output_tokens, self.reasoning_characters);
        self.end(finish, self.usage.unwrap_or(estimate), sink);
    }

    pub(super) fn end(&mut self, finish: FinishKind, usage: Usage, sink: &mut impl Sink<R::Encoder>) {
        self.state = ReplyState::Finished(finish);
        let encoder = self.encoder.as_mut().expect("a reply begins before it ends");
        let stop_sequence = self.stop.found().filter(|_| finish == FinishKind::StopSequence);
        let end = ReplyEnd { finish, usage, stop_sequence, response: &self.response };
        self.renderer.end(
            &end,
            &mut RendererOutput::<R, _> { options: &self.options, encoder, is_opened: &mut self.is_opened, sink },
        );
    }

    pub(super) fn fail(&mut self, error: ProxyError, sink: &mut impl Sink<R::Encoder>) {
        let encoder = self.encoder.as_mut().expect("a reply begins before it fails");
        sink.put(encoder, &R::failed(&error));
        self.state = ReplyState::Failed(error);
    }
}
