//! Ends a round: holds back its terminal event, or converts it to the client's.

use std::collections::BTreeSet;

use super::{Event, IDENTITY, Merged, ProxyCall, RoundMerger, id_of};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

/// How a round ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoundEnd {
    Completed,
    /// With a failure or at a limit: its calls may be incomplete.
    Early,
}

impl RoundEnd {
    /// Returns how an event of this type ends a round; `None` if it doesn't.
    pub(super) fn of(kind: &str) -> Option<Self> {
        match kind {
            "response.completed" | "response.done" => Some(Self::Completed),
            "response.incomplete" | "response.failed" => Some(Self::Early),
            _ => None,
        }
    }
}

impl RoundMerger {
    /// Ends the round, or the client's response.
    pub(super) fn ended(&mut self, event: &Event<'_>, end: RoundEnd) -> Merged {
        let response = event.members.get("response").and_then(|response| RawObject::parse(response.get()).ok());
        let response = response.unwrap_or_default();
        let mut events = self.record_listed(&response);
        if let Some(usage) = response.get("usage") {
            self.usage.add(usage);
        }
        events.extend(self.end_unfinished(end));
        let is_changed = !self.is_first_round || !self.begun.is_empty() || self.numbers.has_changed();
        if end == RoundEnd::Completed && !self.calls.is_empty() {
            self.end = Some(event.text.to_owned());
        } else if is_changed {
            events.push(self.terminal_event(event.text, &event.members));
        } else {
            return Merged::Unchanged;
        }
        Merged::Events(events)
    }

    /// Completes the client's items of calls that won't be run, because they are incomplete or the round ended early.
    fn end_unfinished(&mut self, end: RoundEnd) -> Vec<String> {
        let begun = std::mem::take(&mut self.begun);
        let is_run =
            |index: u64| end == RoundEnd::Completed && self.calls.iter().any(|call| call.output_index == index);
        let unfinished = begun.iter().filter(|(index, _)| !is_run(**index));
        let items: Vec<_> = unfinished
            .map(|(index, call)| {
                let item = ProxyCall::item_without_result(&call.tool, &call.item_id, "incomplete");
                format!(r#""output_index":{index},"item":{item}"#)
            })
            .collect();
        self.begun = begun;
        items.iter().map(|members| self.inserted("response.output_item.done", members)).collect()
    }

    /// Records the items that only the terminal event lists, if that event will be held back or edited.
    fn record_listed(&mut self, response: &RawObject<'_>) -> Vec<String> {
        let listed = response.list("output");
        let mut events = Vec::new();
        let known: BTreeSet<String> = self.items.values().filter_map(|item| id_of(item)).collect();
        for (position, item) in (0_u64..).zip(listed) {
            let index = self.base + position;
            let is_known = id_of(item).map_or_else(|| self.items.contains_key(&index), |id| known.contains(&id));
            let is_call = || {
                RawObject::parse(item.get()).is_ok_and(|item| self.tools.iter().any(|tool| tool.is_called_by(&item)))
            };
            if is_known || (self.is_first_round && self.begun.is_empty() && !is_call()) {
                continue;
            }
            let index = if self.items.contains_key(&index) { self.next_index } else { index };
            self.next_index = self.next_index.max(index + 1);
            if let Some(added) = self.record_item(item, index) {
                events.extend(added);
            } else {
                let members = format!(r#""output_index":{index},"item":{}"#, item.get());
                events.push(self.inserted("response.output_item.done", members));
            }
        }
        events
    }

    /// Writes the client's terminal event. It lists no items: the backend's list has only those of one round, and the
    /// client got an event for each item.
    pub(super) fn terminal_event(&mut self, text: &str, members: &RawObject<'_>) -> String {
        let mut splice = Splice::new(text);
        let response = members.get("response").and_then(|raw| Some((raw, RawObject::parse(raw.get()).ok()?)));
        if let Some((raw, response)) = response {
            for (name, first) in IDENTITY.into_iter().zip(&self.identity) {
                if let (Some(current), Some(first)) = (response.get(name), first) {
                    splice.replace(current, first.get().to_owned());
                }
            }
            if let Some(output) = response.get("output") {
                splice.replace(output, "[]");
            }
            match (response.get("usage"), self.usage.json()) {
                (Some(current), Some(sum)) => splice.replace(current, sum),
                (None, Some(sum)) => splice.add(raw.get(), format!(r#""usage":{sum}"#)),
                (_, None) => {}
            }
        }
        self.numbers.renumber(members, &mut splice);
        splice.text().into_owned()
    }
}
