//! Simulates the frames that a client sends while a response is streamed: `response.interrupt` and `response.steer`.
//!
//! An interrupted response ends at once, without the item that was being generated. A steered response ends after the
//! current item, and another response answers the input. If the steered response has called tools, the input waits for
//! the request with their results.

use serde_json::{Value, json};

use crate::protocol::codex::control::ControlKind;

/// A frame for the running response.
pub(super) struct ControlFrame {
    kind: ControlKind,
    members: Value,
}

/// How the response continues after the last event that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// The events that were generated.
    Unchanged,
    /// The end of the response, now.
    Interrupted,
    /// The end of the response, after the current item.
    Steered,
}

/// The response that is being streamed.
#[derive(Debug)]
pub(super) struct RunningResponse {
    id: String,
    /// The item that has begun: id and output index.
    open_item: Option<(Value, Value)>,
    /// Accepted inputs.
    pub(super) inputs: Vec<Value>,
    pub(super) has_tool_call: bool,
    /// Of the next event.
    sequence_number: u64,
    pub(super) course: Course,
}

impl ControlFrame {
    /// Parses a frame; `None` if it isn't a control frame.
    pub(super) fn parse(frame: &str) -> Option<Self> {
        let members: Value = serde_json::from_str(frame).ok()?;
        let kind = ControlKind::of(members["type"].as_str()?)?;
        Some(Self { kind, members })
    }

    fn failed(&self, code: &str, message: &str) -> Value {
        let mut event = json!({ "type": self.kind.failed_event() });
        match self.kind {
            ControlKind::Interrupt => event["response_id"] = self.members["response_id"].clone(),
            ControlKind::Steer => {
                let (previous, input) = (&self.members["previous_response_id"], &self.members["input"]);
                event["steer"] = json!({ "previous_response_id": previous, "input": input });
            }
        }
        event["error"] = json!({ "type": "invalid_request_error", "code": code, "message": message });
        event
    }

    /// The event for a frame that arrives while no response is streamed.
    pub(super) fn refused(&self) -> Value {
        self.failed("response_not_active", "No response is active on this connection.")
    }
}

impl RunningResponse {
    /// A response that has not been sent yet.
    pub(super) fn new(id: String) -> Self {
        Self {
            id,
            open_item: None,
            inputs: Vec::new(),
            has_tool_call: false,
            sequence_number: 0,
            course: Course::Unchanged,
        }
    }

    /// Numbers an event that is about to be sent, and updates the state.
    pub(super) fn record(&mut self, event: &mut Value) {
        if event.get("sequence_number").is_some() {
            event["sequence_number"] = json!(self.sequence_number);
            self.sequence_number += 1;
        }
        match event["type"].as_str() {
            Some("response.output_item.added") => {
                self.open_item = Some((event["item"]["id"].clone(), event["output_index"].clone()));
            }
            Some("response.output_item.done") => {
                self.open_item = None;
                let kind = event["item"]["type"].as_str().unwrap_or_default();
                self.has_tool_call |= kind.ends_with("_call") && event["item"].get("call_id").is_some();
            }
            _ => {}
        }
    }

    /// Whether the response ends before this event.
    pub(super) fn ends_before(&self, next: &Value) -> bool {
        match self.course {
            Course::Unchanged => false,
            Course::Interrupted => true,
            // A response that is complete anyway stays complete.
            Course::Steered => self.open_item.is_none() && next["type"] == "response.output_item.added",
        }
    }

    /// Handles a frame. Returns the event to send.
    pub(super) fn handle(&mut self, frame: &ControlFrame) -> Value {
        let target = match frame.kind {
            ControlKind::Interrupt => &frame.members["response_id"],
            ControlKind::Steer => &frame.members["previous_response_id"],
        };
        if *target != json!(self.id) {
            return frame.failed("response_not_found", "The response is not active on this connection.");
        }
        match frame.kind {
            ControlKind::Interrupt if frame.members["mode"] != "discard_partial_items" => {
                frame.failed("invalid_input", "'mode' must be 'discard_partial_items'.")
            }
            ControlKind::Interrupt => {
                self.course = Course::Interrupted;
                self.numbered(json!({ "type": "response.interrupt.accepted", "response_id": self.id }))
            }
            ControlKind::Steer => match messages(&frame.members["input"]) {
                Some(messages) => {
                    self.course = Course::Steered;
                    self.inputs.extend(messages);
                    let event = json!({ "type": "response.steer.accepted", "steer": self.steer() });
                    self.numbered(event)
                }
                None => frame.failed("invalid_input", "'input' must be a string or a list of user messages."),
            },
        }
    }

    /// The event that reports that accepted input waits for the outputs of these calls.
    pub(super) fn pending(&mut self, calls: &[Value]) -> Value {
        let event = json!({
            "type": "response.steer.pending", "steer": self.steer(), "reason": "waiting_for_required_input",
            "required_input": calls.iter().map(|call| json!({
                "type": format!("{}_output", call["type"].as_str().unwrap_or_default()),
                "call_id": call["call_id"], "name": call["name"],
            })).collect::<Vec<_>>(),
        });
        self.numbered(event)
    }

    /// The events that end the response early, given the terminal event that was generated.
    pub(super) fn early_end(&mut self, terminal: &Value) -> Vec<Value> {
        let mut events = Vec::new();
        if let Some((id, index)) = self.open_item.take() {
            let event = json!({
                "type": "response.output_item.interrupted", "response_id": self.id, "item_id": id, "output_index": index,
            });
            events.push(self.numbered(event));
        }
        let reason = if self.course == Course::Steered { "steered" } else { "interrupted" };
        let mut event = terminal.clone();
        event["type"] = json!("response.incomplete");
        event["response"]["status"] = json!("incomplete");
        event["response"]["incomplete_details"] = json!({ "reason": reason });
        event["response"]["end_turn"] = json!(false);
        events.push(self.numbered(event));
        events
    }

    fn steer(&self) -> Value {
        let id = format!("steer_{}_{}", self.id.trim_start_matches("resp_"), self.inputs.len());
        json!({ "id": id, "previous_response_id": self.id })
    }

    fn numbered(&mut self, mut event: Value) -> Value {
        event["sequence_number"] = json!(self.sequence_number);
        self.sequence_number += 1;
        event
    }
}

/// The user messages of an input.
fn messages(input: &Value) -> Option<Vec<Value>> {
    match input {
        Value::String(text) if !text.is_empty() => {
            let content = json!([{ "type": "input_text", "text": text }]);
            Some(vec![json!({ "type": "message", "role": "user", "content": content })])
        }
        Value::Array(list) if !list.is_empty() && list.iter().all(|item| item["role"] == "user") => Some(list.clone()),
        _ => None,
    }
}
