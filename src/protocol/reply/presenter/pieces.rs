//! Shows pieces one by one, up to a stop sequence or the token limit.

use std::ops::ControlFlow;

use super::{OpenCall, PartPosition, Presenter};
use crate::protocol::json::string::RawText;
use crate::protocol::reply::finish::FinishKind;
use crate::protocol::reply::renderer::{CallStart, Renderer, TextDelta};
use crate::protocol::reply::reply_item::{CallEnd, Citation, ReplyItem, Search};
use crate::protocol::reply::sink::Sink;
use crate::protocol::tokens::Segment;
use crate::protocol::upstream_input::CallKind;

impl<R: Renderer> Presenter<R> {
    pub(super) fn show(&mut self, item: usize, piece: &ReplyItem<'_>, sink: &mut impl Sink<R::Encoder>) {
        if self.renderer.interrupts_text(item, piece) && self.flush(sink).is_break() {
            return;
        }
        match piece {
            ReplyItem::Text { part, text } => self.text((item, *part), text, sink),
            ReplyItem::Refusal { part, text } if R::REFUSAL_IS_TEXT => self.text((item, *part), text, sink),
            ReplyItem::Refusal { part, text } => self.refusal((item, *part), text, sink),
            ReplyItem::Reasoning { part, text } => self.reasoning((item, *part), text, sink),
            ReplyItem::ReasoningEnd { encrypted } => {
                let (renderer, mut out) = self.rendering(sink);
                renderer.reasoning_end(item, encrypted.as_deref(), &mut out);
            }
            ReplyItem::TextEnd => {
                let _ = self.flush(sink);
            }
            ReplyItem::MessageEnd => {
                if self.flush(sink).is_continue() {
                    let (renderer, mut out) = self.rendering(sink);
                    renderer.message_end(item, &mut out);
                }
            }
            ReplyItem::Citation { part, citation } => self.citation((item, *part), citation, sink),
            ReplyItem::CallStart { id, name, kind } => self.call_start(id, name, *kind, sink),
            ReplyItem::CallText(text) => self.call_text(text, sink),
            ReplyItem::CallEnd(end) => self.call_end(*end, sink),
            ReplyItem::Image { format, base64 } => {
                let (renderer, mut out) = self.rendering(sink);
                renderer.image(format, base64, &mut out);
            }
            ReplyItem::Search(search) => self.search(item, search, sink),
            ReplyItem::MessageStart => {}
        }
    }

    fn text(&mut self, position: PartPosition, text: &str, sink: &mut impl Sink<R::Encoder>) {
        if self.text_part != Some(position) {
            if self.flush(sink).is_break() {
                return;
            }
            let before = self.text_part.replace(position);
            self.has_shown_part = false;
            self.is_separate |= before.is_some_and(|(item, _)| item != position.0);
        }
        let admitted = self.admit(Segment::Text(position.0), text);
        let (ControlFlow::Continue(text) | ControlFlow::Break(text)) = admitted;
        if self.stop.is_idle() {
            self.put_text(text, sink);
        } else {
            let matched = self.stop.push(text);
            self.put_matched(matched, sink);
        }
        self.end_at_limit(admitted, sink);
    }

    /// Returns as much of a text as the limit admits. Breaks if that is not the whole text.
    fn admit<'t>(&mut self, segment: Segment, text: &'t str) -> ControlFlow<&'t str, &'t str> {
        self.meter.as_mut().map_or(ControlFlow::Continue(text), |meter| meter.push(segment, text))
    }

    /// Ends the reply if the limit did not admit the whole of a text.
    fn end_at_limit(&mut self, admitted: ControlFlow<&str, &str>, sink: &mut impl Sink<R::Encoder>) {
        if admitted.is_break() && self.flush(sink).is_continue() {
            self.cut(FinishKind::TokenLimit, sink);
        }
    }

    /// Shows the text that the stop matcher returned. `Break` means that a stop sequence follows: it ends the reply.
    fn put_matched(&mut self, matched: ControlFlow<String, String>, sink: &mut impl Sink<R::Encoder>) {
        match matched {
            ControlFlow::Continue(text) => self.put_text(&text, sink),
            ControlFlow::Break(text) => {
                self.put_text(&text, sink);
                if self.has_shown_part {
                    self.release_citations(sink);
                }
                self.cut(FinishKind::StopSequence, sink);
            }
        }
    }

    /// Shows text that was held back for a stop sequence. Breaks if the reply is over, for example because the held
    /// text contains a stop sequence.
    pub(super) fn flush(&mut self, sink: &mut impl Sink<R::Encoder>) -> ControlFlow<()> {
        if self.state.is_open() && !self.stop.is_idle() {
            let held = self.stop.flush();
            self.put_matched(held, sink);
        }
        if self.state.is_open() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn put_text(&mut self, text: &str, sink: &mut impl Sink<R::Encoder>) {
        let Some((item, part)) = self.text_part.filter(|_| !text.is_empty()) else { return };
        let is_separate = std::mem::take(&mut self.is_separate);
        let delta = TextDelta { item, part, is_separate, text, characters: length(text) };
        self.characters += delta.characters;
        let (renderer, mut out) = self.rendering(sink);
        renderer.text(&delta, &mut out);
        self.has_shown_part = true;
        self.release_citations(sink);
    }

    fn release_citations(&mut self, sink: &mut impl Sink<R::Encoder>) {
        for ((item, part), citation) in std::mem::take(&mut self.held_citations) {
            let (renderer, mut out) = self.rendering(sink);
            renderer.citation(item, part, &citation, &mut out);
        }
    }

    fn refusal(&mut self, (item, part): PartPosition, text: &str, sink: &mut impl Sink<R::Encoder>) {
        let admitted = self.admit(Segment::Refusal(item), text);
        let (ControlFlow::Continue(text) | ControlFlow::Break(text)) = admitted;
        if !text.is_empty() {
            let delta = TextDelta { item, part, is_separate: false, text, characters: length(text) };
            self.characters += delta.characters;
            let (renderer, mut out) = self.rendering(sink);
            renderer.refusal(&delta, &mut out);
        }
        self.end_at_limit(admitted, sink);
    }

    fn reasoning(&mut self, position: PartPosition, text: &str, sink: &mut impl Sink<R::Encoder>) {
        let before = self.reasoning_part.replace(position);
        let is_separate = before.is_some_and(|before| before != position);
        let delta = TextDelta { item: position.0, part: position.1, is_separate, text, characters: length(text) };
        self.reasoning_characters += delta.characters;
        let (renderer, mut out) = self.rendering(sink);
        renderer.reasoning(&delta, &mut out);
    }

    /// Shows a citation, unless text of its part is held back: then it is shown after that text.
    fn citation(&mut self, position: PartPosition, citation: &Citation<'_>, sink: &mut impl Sink<R::Encoder>) {
        if self.stop.holds_text() && self.text_part == Some(position) {
            return self.held_citations.push((position, citation.clone().into_owned()));
        }
        let (renderer, mut out) = self.rendering(sink);
        renderer.citation(position.0, position.1, citation, &mut out);
    }

    /// Begins a call under the client's name of the tool.
    fn call_start(&mut self, id: &str, name: &str, kind: CallKind, sink: &mut impl Sink<R::Encoder>) {
        let original = self.options.names.get(name).cloned();
        let name = original.as_deref().unwrap_or(name);
        let index = self.calls;
        let (renderer, mut out) = self.rendering(sink);
        if renderer.call_start(&CallStart { index, id, name, kind }, &mut out).is_continue() {
            self.calls += 1;
            self.characters += name.chars().count();
            self.open_call = Some(OpenCall { index, lacks_arguments: kind == CallKind::Function });
        }
    }

    fn call_text(&mut self, text: &str, sink: &mut impl Sink<R::Encoder>) {
        let Some(call) = &mut self.open_call else { return };
        call.lacks_arguments = call.lacks_arguments && RawText::from_escaped(text).is_blank();
        let segment = Segment::Call(call.index);
        let admitted = self.admit(segment, text);
        let (ControlFlow::Continue(text) | ControlFlow::Break(text)) = admitted;
        if !text.is_empty() {
            self.characters += length(text);
            let (renderer, mut out) = self.rendering(sink);
            renderer.call_text(text, &mut out);
        }
        self.end_at_limit(admitted, sink);
    }

    fn call_end(&mut self, end: CallEnd, sink: &mut impl Sink<R::Encoder>) {
        let Some(call) = self.open_call else { return };
        // In a completed response, a call is complete even if no event ends it.
        let is_whole = !self.is_incomplete || end == CallEnd::Complete;
        if call.lacks_arguments && is_whole && !R::EMPTY_ARGUMENTS.is_empty() {
            self.call_text(R::EMPTY_ARGUMENTS, sink);
        }
        self.open_call = None;
        if self.state.is_open() {
            // In an incomplete response, the backend lists calls that it cut off as if they were done. So no call that
            // ends now is known to be whole.
            let end = if self.is_incomplete { CallEnd::Truncated } else { CallEnd::Complete };
            let (renderer, mut out) = self.rendering(sink);
            renderer.call_end(end, &mut out);
        }
    }

    fn search(&mut self, item: usize, search: &Search<'_>, sink: &mut impl Sink<R::Encoder>) {
        let (renderer, mut out) = self.rendering(sink);
        if renderer.search(item, search, &mut out).is_break() {
            let piece = ReplyItem::Search(search.clone());
            self.deferred = Some(vec![(item, piece.into_owned())]);
        }
    }
}

/// Number of Unicode scalar values.
fn length(escaped: &str) -> usize {
    RawText::from_escaped(escaped).scalar_count()
}
