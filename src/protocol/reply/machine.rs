//! Turns upstream events into the events of one API.
//!
//! The assembler finds what an event adds to which item, the presenter decides which of these pieces the client gets
//! and when, and the renderer turns them into events. A reply that is cut or damaged ends in an error, never as if it
//! were complete.

use bytes::Bytes;

use super::assembler::Assembler;
use super::finish::{self, FinishKind};
use super::presenter::{Presentation, Presenter};
use super::renderer::{Renderer, ReplyOptions};
use super::response_meta::ResponseMeta;
use super::sink::Sink;
use super::{Reply, Summary};
use crate::error::ProxyError;
use crate::protocol::UpstreamEvent;
use crate::protocol::codex::{ResponseObject, Usage};

/// The state of one reply in the API of a renderer.
#[derive(Debug)]
pub struct Machine<R: Renderer> {
    assembler: Assembler,
    presenter: Presenter<R>,
}

impl<R: Renderer> Machine<R> {
    /// The options of the reply.
    #[must_use]
    pub fn options(&self) -> &ReplyOptions<R::Options> {
        &self.presenter.options
    }

    /// A machine for a reply with these options.
    #[must_use]
    pub fn new(options: ReplyOptions<R::Options>) -> Self {
        Self { assembler: Assembler::default(), presenter: Presenter::new(options) }
    }

    /// Creates the encoder, unless it exists: it needs the id and the time of the response.
    fn begin(&mut self, response: &ResponseObject<'_>) {
        self.presenter.begin(response, &self.assembler.items);
    }

    /// Ends the reply with the backend's terminal event. Items that only this event lists are part of the reply.
    fn finish(&mut self, response: &ResponseObject<'_>, kind: FinishKind, sink: &mut impl Sink<R::Encoder>) {
        self.begin(response);
        self.presenter.note_terminal(response, kind);
        let mut out = Presentation { presenter: &mut self.presenter, sink };
        self.assembler.accept_list(response, &mut out);
        if !out.presenter.state.is_open() {
            return;
        }
        if let Some(damage) = finish::damage(&self.assembler.items, kind, response.usage) {
            return self.fail(damage, sink);
        }
        self.assembler.end_open_items(&mut out);
        self.presenter.finish(kind, sink);
    }

    fn fail(&mut self, error: ProxyError, sink: &mut impl Sink<R::Encoder>) {
        self.begin(&ResponseObject::default());
        self.presenter.fail(error, sink);
    }
}

impl<R: Renderer> Reply for Machine<R> {
    type Upstream<'u> = UpstreamEvent<'u>;
    type Encoder = R::Encoder;

    fn keepalive(&self) -> Bytes {
        match &self.presenter.encoder {
            Some(encoder) => R::keepalive(encoder),
            None => R::keepalive(&R::encoder(&self.presenter.options, &ResponseMeta::default())),
        }
    }

    fn needs_backend(&self) -> bool {
        self.presenter.renderer.needs_backend()
    }

    fn on_commit(&mut self, sink: &mut impl Sink<R::Encoder>) {
        if self.is_finished() {
            return;
        }
        if R::opening(&self.presenter.options).is_some() {
            self.begin(&ResponseObject::default());
            self.presenter.open(sink);
        }
        if !self.needs_backend() {
            self.begin(&ResponseObject::default());
            self.presenter.end(FinishKind::Completed, Usage::default(), sink);
        }
    }

    fn on_event(&mut self, event: UpstreamEvent<'_>, sink: &mut impl Sink<R::Encoder>) {
        if self.is_finished() {
            return;
        }
        match event {
            UpstreamEvent::Created(response) => self.begin(&response),
            UpstreamEvent::Completed(response) => self.finish(&response, FinishKind::Completed, sink),
            UpstreamEvent::Incomplete(response) => {
                self.finish(&response, FinishKind::of_incomplete(&response), sink);
            }
            UpstreamEvent::Failed(failure) => self.fail(ProxyError::Upstream(failure), sink),
            event => self.assembler.accept(event, &mut Presentation { presenter: &mut self.presenter, sink }),
        }
    }

    fn on_end(&mut self, cut: Option<ProxyError>, sink: &mut impl Sink<R::Encoder>) {
        if !self.is_finished() {
            self.fail(cut.unwrap_or(ProxyError::Truncated { cause: None }), sink);
        }
    }

    fn is_finished(&self) -> bool {
        !self.presenter.state.is_open()
    }

    fn counts_tokens(&self) -> bool {
        self.presenter.counts_tokens()
    }

    fn failure(&self) -> Option<&ProxyError> {
        self.presenter.state.failure()
    }

    fn restarted(self) -> Self {
        Self::new(self.presenter.options)
    }

    fn document(self) -> Result<Bytes, ProxyError> {
        let Presenter { state, encoder, options, response, .. } = self.presenter;
        state.into_result()?;
        let encoder = encoder.ok_or(ProxyError::Truncated { cause: None })?;
        Ok(R::document(&encoder, &options, &response))
    }

    fn summary(&self) -> Summary {
        Summary { usage: self.presenter.usage, outcome: self.presenter.state.outcome() }
    }
}
