//! Ends a response: with a terminal event that lists all items, or with a failure.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::error;
use super::event_defaults::{completed_item, with_defaults};
use super::raw_event::{EventMembers, object, usage};
use super::rebuild::rebuilt_item;
use super::reply::{Event, EventEncoder, ResponsesReply, UNKNOWN_RESPONSE};
use super::response_echo::Forwarding;
use crate::error::ProxyError;
use crate::protocol::codex::{OutputItem, UpstreamEvent, failure};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;
use crate::protocol::reply::assembler::Discard;
use crate::protocol::reply::finish::{self, FinishKind, ReplyState};
use crate::protocol::stored_refs::{ConversationContext, StoredResponse};
use crate::protocol::{Sink, openai};

impl ResponsesReply {
    /// Ends the response with the backend's `response.completed` or `response.incomplete`; `status` is that of the
    /// response.
    pub(super) fn finish(
        &mut self,
        event: &EventMembers<'_>,
        status: &'static str,
        sink: &mut impl Sink<EventEncoder>,
    ) {
        let response = event.get("response");
        self.ensure_created(response, sink);
        let members = response.and_then(object).map(|(_, members)| members).unwrap_or_default();
        self.usage = usage(&members);
        let listed = members.list("output");
        self.record_listed(&listed);
        let mut is_stopped = false;
        let finish = match UpstreamEvent::of_members(event.all(), event.text) {
            UpstreamEvent::Incomplete(response) => {
                is_stopped = response.is_stopped_by_client();
                FinishKind::of_incomplete(&response)
            }
            _ if status == "incomplete" => FinishKind::Length,
            _ => FinishKind::Completed,
        };
        // A response that the client has stopped may lack output.
        if self.echo.forwarding == Forwarding::Normalized
            && !is_stopped
            && let Some(damage) = finish::damage(&self.assembler.items, finish, self.usage)
        {
            return self.fail(damage, sink);
        }
        self.rebuild(status, sink);
        let output = self.output(&listed);
        let response_json = self.echo.restore(&members, &[("output", &output)]);
        self.store(&members, &output, &response_json);
        self.send_terminal(event, &response_json, ReplyState::Finished(finish), sink);
    }

    /// Records the items that only the terminal event contains.
    fn record_listed(&mut self, listed: &[&RawValue]) {
        for (position, raw) in listed.iter().enumerate() {
            let Some(item) = OutputItem::read(raw) else { continue };
            if let Some(known) = self.assembler.items.listed(position, listed.len(), &item) {
                let index = self.assembler.items.get_mut(known).output_index.unwrap_or_else(|| self.next_index());
                self.done_items.entry(index).or_insert_with(|| completed_item(raw));
                self.assembler.finish_item(known, &item, &mut Discard);
            }
        }
    }

    /// Completes the items that no event completed, from their deltas.
    fn rebuild(&mut self, status: &str, sink: &mut impl Sink<EventEncoder>) {
        for position in 0..self.assembler.items.len() {
            let item = self.assembler.items.get_mut(position);
            let known = item.output_index;
            if known.is_some_and(|index| self.interrupted_items.contains(&index)) {
                continue;
            }
            let begun = known.and_then(|index| self.open_items.get(&index));
            let Some(item) = rebuilt_item(item, begun.map(String::as_str), status) else { continue };
            let index = known.unwrap_or_else(|| self.next_index());
            if self.echo.forwarding == Forwarding::Normalized {
                let members = format!(r#""output_index":{index},"item":{item}"#);
                self.send_own("response.output_item.done", &members, sink);
            }
            self.done_items.insert(index, item);
        }
    }

    /// Keeps the response for [`Reply::take_stored_response`](crate::protocol::Reply::take_stored_response), if it's to
    /// be stored.
    fn store(&mut self, response: &RawObject<'_>, output: &str, response_json: &str) {
        let Some(ConversationContext { input, new_count, cache_key, scope }) = self.store_context.take() else {
            return;
        };
        let own_id = self.echo.own_id().map(str::to_owned);
        let Some(id) = own_id.or_else(|| response.text("id").map(Cow::into_owned)) else { return };
        let output: Vec<Box<RawValue>> = serde_json::from_str(output).unwrap_or_default();
        let response = response_json.to_owned();
        self.stored = Some(StoredResponse { id, input, new_count, output, response, cache_key, scope });
    }

    /// Sends the terminal event with the client's response object.
    fn send_terminal(
        &mut self,
        event: &EventMembers<'_>,
        response_json: &str,
        state: ReplyState,
        sink: &mut impl Sink<EventEncoder>,
    ) {
        let mut data = with_defaults(event, &self.call_names);
        match event.get("response") {
            Some(raw) => data.replace(raw, response_json.to_owned()),
            None => data.add(event.text, format!(r#""response":{response_json}"#)),
        }
        if let Some(old) = event.get("type").filter(|kind| kind.get() == r#""response.done""#) {
            data.replace(old, r#""response.completed""#);
        }
        let response = matches!(state, ReplyState::Finished(_)).then_some(response_json);
        self.state = state;
        self.send(event, data, response, sink);
    }

    /// The `output` member: the backend's list, or the received items if the list has fewer.
    fn output(&self, listed: &[&RawValue]) -> String {
        let items: Vec<String> = if listed.len() < self.done_items.len() || listed.is_empty() {
            self.done_items.values().cloned().collect()
        } else {
            listed.iter().map(|item| completed_item(item)).collect()
        };
        format!("[{}]", items.join(","))
    }

    /// Ends the response with the backend's failure.
    pub(super) fn fail_with_event(&mut self, event: &EventMembers<'_>, sink: &mut impl Sink<EventEncoder>) {
        let failure = failure::from_event(event.text);
        let code = openai::error::code(&ProxyError::Upstream(Box::new(failure.clone())));
        if self.echo.forwarding == Forwarding::Verbatim {
            self.send(event, Splice::new(event.text), None, sink);
        } else if event.kind == "error" {
            let text = error::flat_event(&failure, &code, self.next_number());
            sink.put(&mut self.encoder, &Event { kind: "error", data: Splice::new(&text), response: None });
        } else {
            self.ensure_created(event.get("response"), sink);
            let members = event.object("response").map(|(_, members)| members).unwrap_or_default();
            let output = self.output(&members.list("output"));
            let error = failure::has_markup(event.text).then(|| error::of_failure(&failure, &code));
            let set: Vec<_> =
                error.iter().map(|error| ("error", error.as_str())).chain([("output", &*output)]).collect();
            let response_json = self.echo.restore(&members, &set);
            self.send_terminal(event, &response_json, ReplyState::Open, sink);
        }
        self.state = ReplyState::Failed(ProxyError::Upstream(Box::new(failure)));
    }

    /// Ends the response with an error of the proxy, in `response.failed` with the last response object of the backend.
    pub(super) fn fail(&mut self, cause: ProxyError, sink: &mut impl Sink<EventEncoder>) {
        self.ensure_created(None, sink);
        let last = self.response.take();
        let last = last.as_deref().map_or(UNKNOWN_RESPONSE, RawValue::get);
        let members = RawObject::parse(last).unwrap_or_default();
        let (error, output) = (error::of_local_error(&cause), self.output(&[]));
        let set = [("status", r#""failed""#), ("error", error.as_str()), ("output", output.as_str())];
        let response_json = self.echo.restore(&members, &set);
        self.send_own("response.failed", &format!(r#""response":{response_json}"#), sink);
        self.state = ReplyState::Failed(cause);
    }
}
