//! The end of an answer: the terminal event with all items in it, or the failure that takes its place.

use serde_json::value::RawValue;

use super::error;
use super::event_defaults::{mended, whole};
use super::raw_event::{Members, list, object, text, usage};
use super::rebuild::rebuilt;
use super::reply::{Event, EventEncoder, NAMELESS, ResponsesReply};
use super::response_echo::Manner;
use crate::error::ProxyError;
use crate::protocol::codex::{OutputItem, UpstreamEvent, failure};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;
use crate::protocol::reply::assembler::Discard;
use crate::protocol::reply::finish::{self, FinishKind, ReplyState};
use crate::protocol::stored_refs::{ConversationContext, StoredResponse};
use crate::protocol::{Sink, openai};

impl ResponsesReply {
    pub(super) fn finish(&mut self, event: &Members<'_>, status: &'static str, sink: &mut impl Sink<EventEncoder>) {
        let response = event.get("response");
        self.open(response, sink);
        let members = response.and_then(object).map(|(_, members)| members).unwrap_or_default();
        self.usage = usage(&members);
        let own = list(&members, "output");
        self.note_listed(&own);
        let finish = match UpstreamEvent::of_members(event.all(), event.text) {
            UpstreamEvent::Incomplete(response) => FinishKind::of_incomplete(&response),
            _ if status == "incomplete" => FinishKind::Length,
            _ => FinishKind::Completed,
        };
        if self.shape.manner == Manner::Restored
            && let Some(damage) = finish::damage(&self.assembler.items, finish, self.usage)
        {
            return self.cut(damage, sink);
        }
        self.rebuild(status, sink);
        let output = self.output(&own);
        let restored = self.shape.restore(&members, &[("output", &output)]);
        self.keep(&members, &output, &restored);
        self.close(event, &restored, ReplyState::Finished(finish), sink);
    }

    /// Keeps the items that only the terminal event brings.
    fn note_listed(&mut self, own: &[&RawValue]) {
        for (position, raw) in own.iter().enumerate() {
            let Some(item) = OutputItem::read(raw) else { continue };
            if let Some(known) = self.assembler.items.listed(position, own.len(), &item) {
                let index = self.assembler.items.get_mut(known).output_index.unwrap_or_else(|| self.next_index());
                self.done.entry(index).or_insert_with(|| whole(raw));
                self.assembler.finish_item(known, &item, &mut Discard);
            }
        }
    }

    /// Makes the items that no event ended of what arrived of them.
    fn rebuild(&mut self, status: &str, sink: &mut impl Sink<EventEncoder>) {
        for position in 0..self.assembler.items.len() {
            let item = self.assembler.items.get_mut(position);
            let known = item.output_index;
            let begun = known.and_then(|index| self.begun.get(&index));
            let Some(item) = rebuilt(item, begun.map(String::as_str), status) else { continue };
            let index = known.unwrap_or_else(|| self.next_index());
            if self.shape.manner == Manner::Restored {
                let members = format!(r#""output_index":{index},"item":{item}"#);
                self.make("response.output_item.done", &members, sink);
            }
            self.done.insert(index, item);
        }
    }

    /// Keeps the answer for requests that go on from it.
    fn keep(&mut self, response: &RawObject<'_>, output: &str, restored: &str) {
        let Some(ConversationContext { input, cache_key, audience }) = self.draft.take() else { return };
        let Some(id) = text(response, "id") else { return };
        let output: Vec<Box<RawValue>> = serde_json::from_str(output).unwrap_or_default();
        let (id, response) = (id.into_owned(), restored.to_owned());
        self.memory = Some(StoredResponse { id, input, output, response, cache_key, audience });
    }

    /// Sends the terminal event with the response as the client gets it.
    fn close(&mut self, event: &Members<'_>, restored: &str, state: ReplyState, sink: &mut impl Sink<EventEncoder>) {
        let mut data = mended(event, &self.names);
        match event.get("response") {
            Some(raw) => data.replace(raw, restored.to_owned()),
            None => data.add(event.text, format!(r#""response":{restored}"#)),
        }
        if let Some(old) = event.get("type").filter(|kind| kind.get() == r#""response.done""#) {
            data.replace(old, r#""response.completed""#);
        }
        let response = matches!(state, ReplyState::Finished(_)).then_some(restored);
        self.state = state;
        self.send(event, data, response, sink);
    }

    /// The items of the answer: the backend's own list, or those that came, where it has fewer.
    fn output(&self, own: &[&RawValue]) -> String {
        let items: Vec<String> = if own.len() < self.done.len() || own.is_empty() {
            self.done.values().cloned().collect()
        } else {
            own.iter().map(|item| whole(item)).collect()
        };
        format!("[{}]", items.join(","))
    }

    /// Ends the answer with the backend's own failure.
    pub(super) fn fail_upstream(&mut self, event: &Members<'_>, sink: &mut impl Sink<EventEncoder>) {
        let failure = failure::from_event(event.text);
        let code = openai::error::code(&ProxyError::Upstream(Box::new(failure.clone())));
        if self.shape.manner == Manner::Untouched {
            self.send(event, Splice::new(event.text), None, sink);
        } else if event.kind == "error" {
            let text = error::flat(&failure, &code, self.next_number());
            sink.put(&mut self.encoder, &Event { kind: "error", data: Splice::new(&text), response: None });
        } else {
            self.open(event.get("response"), sink);
            let members = event.object("response").map(|(_, members)| members).unwrap_or_default();
            let output = self.output(&list(&members, "output"));
            let why = failure::has_markup(event.text).then(|| error::of_failure(&failure, &code));
            let set: Vec<_> = why.iter().map(|why| ("error", why.as_str())).chain([("output", &*output)]).collect();
            let restored = self.shape.restore(&members, &set);
            self.close(event, &restored, ReplyState::Open, sink);
        }
        self.state = ReplyState::Failed(ProxyError::Upstream(Box::new(failure)));
    }

    /// Ends the answer by our own word, with the response as it last was.
    pub(super) fn cut(&mut self, cause: ProxyError, sink: &mut impl Sink<EventEncoder>) {
        self.open(None, sink);
        let last = self.response.take();
        let last = last.as_deref().map_or(NAMELESS, RawValue::get);
        let members = RawObject::parse(last).unwrap_or_default();
        let (why, output) = (error::of_cut(&cause), self.output(&[]));
        let set = [("status", r#""failed""#), ("error", why.as_str()), ("output", output.as_str())];
        let restored = self.shape.restore(&members, &set);
        self.make("response.failed", &format!(r#""response":{restored}"#), sink);
        self.state = ReplyState::Failed(cause);
    }
}
