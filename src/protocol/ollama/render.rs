//! Renders the pieces of a reply as the lines of Ollama's API.
//!
//! A call is sent when it is complete, since its arguments are a JSON object and not a string. A refusal is sent as
//! text.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Form;
use super::event::{Call, Cost, DoneReason, Line, LineEncoder, LineEnd};
use crate::error::ProxyError;
use crate::protocol::reply::renderer::BLANK_LINE;
use crate::protocol::reply::{
    self, CallEnd, CallStart, CompleteCall, Emit, FinishKind, Machine, PendingCall, Renderer, ReplyEnd, ReplyItem,
    ResponseMeta, TextDelta,
};

/// The reply to a request of Ollama's API.
pub type OllamaReply = Machine<OllamaRenderer>;

/// The options of a request that affect its reply.
pub type ReplyOptions = reply::ReplyOptions<RenderOptions>;

/// The options that only this API has.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// `/api/chat` or `/api/generate`.
    pub form: Form,
    /// Whether reasoning is shown.
    pub shows_thinking: bool,
    /// The done reason of the reply to a request without a prompt, which needs no backend call.
    pub without_backend: Option<DoneReason>,
}

/// Renders one reply.
#[derive(Debug)]
pub struct OllamaRenderer {
    shows_thinking: bool,
    without_backend: Option<DoneReason>,
    /// Number of calls that were sent.
    calls: usize,
    /// The call that began last.
    call: PendingCall,
}

impl OllamaRenderer {
    fn done_reason(&self, finish: FinishKind) -> DoneReason {
        match finish {
            FinishKind::Completed => self.without_backend.unwrap_or(DoneReason::Stop),
            FinishKind::StopSequence => DoneReason::Stop,
            FinishKind::Length | FinishKind::TokenLimit => DoneReason::Length,
            FinishKind::ContentFilter => DoneReason::ContentFilter,
        }
    }
}

impl Renderer for OllamaRenderer {
    type Options = RenderOptions;
    type Encoder = LineEncoder;

    const REFUSAL_IS_TEXT: bool = true;

    fn new(options: &ReplyOptions) -> Self {
        let RenderOptions { shows_thinking, without_backend, .. } = options.api;
        Self { shows_thinking, without_backend, calls: 0, call: PendingCall::default() }
    }

    fn encoder(options: &ReplyOptions, response: &ResponseMeta) -> LineEncoder {
        LineEncoder::new(options, response)
    }

    fn failed(error: &ProxyError) -> Line<'_> {
        Line::Failed(error)
    }

    /// A line with an empty text, which Ollama sends too. There is no syntax for comments, and some clients parse each
    /// chunk of the body as a line.
    fn keepalive(encoder: &LineEncoder) -> Bytes {
        encoder.empty_text()
    }

    fn document(encoder: &LineEncoder, _options: &ReplyOptions, _response: &ResponseMeta) -> Bytes {
        encoder.document()
    }

    fn needs_backend(&self) -> bool {
        self.without_backend.is_none()
    }

    fn interrupts_text(&self, _item: usize, piece: &ReplyItem<'_>) -> bool {
        matches!(piece, ReplyItem::CallStart { .. })
    }

    fn text(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<LineEncoder>) {
        if delta.is_separate {
            out.emit(&Line::Text(BLANK_LINE));
        }
        out.emit(&Line::Text(delta.text));
    }

    fn reasoning(&mut self, delta: &TextDelta<'_>, out: &mut impl Emit<LineEncoder>) {
        if !self.shows_thinking {
            return;
        }
        if delta.is_separate {
            out.emit(&Line::Thinking(BLANK_LINE));
        }
        out.emit(&Line::Thinking(delta.text));
    }

    fn call_start(&mut self, call: &CallStart<'_>, _out: &mut impl Emit<LineEncoder>) -> ControlFlow<()> {
        self.call = PendingCall::new(call);
        ControlFlow::Continue(())
    }

    fn call_text(&mut self, text: &str, _out: &mut impl Emit<LineEncoder>) {
        self.call.push(text);
    }

    fn call_end(&mut self, end: CallEnd, out: &mut impl Emit<LineEncoder>) {
        let Some(CompleteCall { id, name, arguments }) = self.call.end(end) else { return };
        out.emit(&Line::Call(Call { id: &id, index: self.calls, name: &name, arguments: &arguments }));
        self.calls += 1;
    }

    fn end(&mut self, end: &ReplyEnd<'_>, out: &mut impl Emit<LineEncoder>) {
        let seconds = end.response.duration_seconds.unwrap_or(1).max(1);
        let cost = self.needs_backend().then_some(Cost { usage: end.usage, seconds });
        out.emit(&Line::End(LineEnd { reason: self.done_reason(end.finish), cost }));
    }
}

#[cfg(test)]
mod tests {
    use super::{OllamaReply, ReplyOptions};
    use crate::protocol::Reply;

    #[test]
    fn keepalive_is_a_whole_line_before_the_response_begins() {
        let reply = OllamaReply::new(ReplyOptions { model: "m".to_owned(), ..ReplyOptions::default() });
        let expected = concat!(
            r#"{"model":"m","created_at":"1970-01-01T00:00:00Z","#,
            r#""message":{"role":"assistant","content":""},"done":false}"#,
            "\n"
        );
        assert_eq!(reply.keepalive(), expected);
    }
}
