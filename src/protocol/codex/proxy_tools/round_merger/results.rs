//! The results of a round's calls: events for the client, and outputs for the model.

use serde_json::value::RawValue;

use super::{RoundMerger, position};
use crate::protocol::codex::proxy_tools::call::{HiddenItems, OutputPlace, ProxyCall, ToolOutcome};

impl RoundMerger {
    /// Accepts the result of a call. Returns the events that complete the client's item.
    pub fn finish_call(&mut self, call: &ProxyCall, outcome: ToolOutcome) -> Vec<String> {
        let sources = match &outcome {
            ToolOutcome::Found(text) => self.citations.note_sources(text),
            ToolOutcome::Generated(_) | ToolOutcome::Failed(_) => Vec::new(),
        };
        let index = call.output_index;
        let item_id = self.item_id_of(index);
        let item = call.item_done(&item_id, &outcome, &sources);
        let mut events = Vec::with_capacity(2);
        if !matches!(outcome, ToolOutcome::Failed(_)) {
            let kind = call.tool.item_type().0;
            events.push(self.inserted(&format!("response.{kind}.completed"), position(&item_id, index)));
        }
        events
            .push(self.inserted("response.output_item.done", format_args!(r#""output_index":{index},"item":{item}"#)));
        self.results.insert(index, outcome.into_output());
        events
    }

    /// Records the outputs of the calls that have ended, in the order of the calls. `note` is added to them for the
    /// model.
    pub fn record_outputs(&mut self, note: &str) {
        let place = if self.has_client_calls { OutputPlace::BesideClientOutputs } else { OutputPlace::AfterCall };
        for call in &self.calls {
            let output_index = call.output_index;
            let Some(output) = self.results.remove(&output_index) else { continue };
            let output = call.output_item(output, note);
            self.outputs.push(output.clone());
            let (item_id, call) = (self.item_id_of(output_index), call.backend_item().to_owned());
            self.hidden.push(HiddenItems { output_index, item_id, call, output, place });
        }
    }

    /// The input items that the next round's request adds: those of this round, and the outputs of its calls.
    #[must_use]
    pub fn next_input(&self) -> Vec<Box<RawValue>> {
        self.items.values().chain(&self.outputs).cloned().collect()
    }
}
