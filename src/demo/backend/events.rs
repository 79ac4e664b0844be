//! Generates the events of a response in the order and format of the real stream.
//!
//! Each event has a delay, which the sender waits for. As in the real stream, the response in the terminal event has an
//! empty `output`; the items are in the `response.output_item.done` events.

use std::time::Duration;

use serde_json::{Value, json};

use super::output::{Output, Payload};
use super::script::Progress;

/// The generated image: one red dot, as Base64.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
/// Maximum length of a delta.
const MAX_DELTA_CHARACTERS: usize = 12;
/// A placeholder for encrypted reasoning and compacted conversations.
const ENCRYPTED: &str = "gAAAAABkZW1vLW5vdGhpbmctaXMtZW5jcnlwdGVkLWhlcmU";

/// An event and the delay before it.
#[derive(Clone, Debug)]
pub(super) struct TimedEvent {
    pub(super) delay: Duration,
    pub(super) event: Value,
}

/// Properties of a response that its events share.
#[derive(Clone, Debug)]
pub(super) struct ResponseMeta {
    /// The part of all ids that is unique to the response.
    pub(super) key: String,
    /// Unix time in seconds.
    pub(super) created_at: u64,
    /// Request members that the response repeats.
    pub(super) echo: Value,
    /// The delay before each delta.
    pub(super) delay: Duration,
}

/// Writes the events of one response.
#[derive(Debug)]
pub(super) struct EventWriter {
    meta: ResponseMeta,
    events: Vec<TimedEvent>,
    /// Of the next event.
    sequence_number: u64,
    /// Of the next item.
    output_index: u64,
    /// Length of all deltas, for the usage.
    written_characters: usize,
    reasoning_characters: usize,
}

impl EventWriter {
    /// Starts a response with its first two events.
    pub(super) fn new(meta: ResponseMeta) -> Self {
        let mut writer = Self {
            meta,
            events: Vec::new(),
            sequence_number: 0,
            output_index: 0,
            written_characters: 0,
            reasoning_characters: 0,
        };
        for kind in ["response.created", "response.in_progress"] {
            let response = writer.response("in_progress", json!({}));
            writer.put(kind, json!({ "response": response }));
        }
        writer
    }

    /// Returns all events.
    pub(super) fn finish(self) -> Vec<TimedEvent> {
        self.events
    }

    /// Estimates the output tokens at four characters each: `(all, reasoning)`.
    pub(super) fn tokens(&self) -> (usize, usize) {
        let reasoning = self.reasoning_characters.div_ceil(4);
        (self.written_characters.div_ceil(4) + reasoning, reasoning)
    }

    /// Removes all events after the first half of the last item's deltas.
    pub(super) fn drop_second_half(&mut self) {
        let is_delta = |timed: &&TimedEvent| timed.event.get("delta").is_some();
        let last = self.output_index.saturating_sub(1);
        let is_last = |timed: &TimedEvent| timed.event["output_index"] == last;
        let deltas = self.events.iter().filter(|timed| is_last(timed)).filter(is_delta).count();
        let mut left = deltas.div_ceil(2);
        let kept = self.events.iter().position(|timed| {
            left -= usize::from(is_last(timed) && is_delta(&timed) && left > 0);
            is_last(timed) && left == 0 && is_delta(&timed)
        });
        if let Some(kept) = kept {
            self.events.truncate(kept + 1);
            self.sequence_number = kept as u64 + 1;
        }
    }

    /// Adds the events of one item.
    pub(super) fn item(&mut self, output: &Output) {
        match output {
            Output::Reasoning { summary } => self.reasoning(summary.as_deref()),
            Output::Message { text, source } => self.message(text, source.as_deref()),
            Output::Refusal { text } => self.refusal(text),
            Output::Call { namespace, name, payload } => self.call(namespace.as_deref(), name, payload),
            Output::Search { query } => self.search(query),
            Output::Image { prompt } => self.image(prompt),
            Output::Compaction { progress } => self.compaction(*progress),
        }
        self.output_index += 1;
    }

    /// Adds the terminal event `response.KIND`; `more` are members of its response.
    pub(super) fn end(&mut self, kind: &str, more: Value) {
        let response = self.response(kind, more);
        self.put(&format!("response.{kind}"), json!({ "response": response }));
    }

    fn response(&self, status: &str, more: Value) -> Value {
        let mut response = self.meta.echo.clone();
        merge(
            &mut response,
            json!({
                "id": format!("resp_demo_{}", self.meta.key),
                "object": "response",
                "created_at": self.meta.created_at,
                "status": status,
                "output": [],
                "store": false,
                "error": null,
                "incomplete_details": null,
                "usage": null,
            }),
        );
        merge(&mut response, more);
        response
    }

    fn reasoning(&mut self, summary: Option<&str>) {
        let id = self.id("rs");
        let item =
            |parts: Value| json!({ "id": id, "type": "reasoning", "summary": parts, "encrypted_content": ENCRYPTED });
        self.reasoning_characters += summary.map_or(64, |summary| summary.chars().count());
        self.added(&item(json!([])));
        if let Some(summary) = summary {
            let at = json!({ "item_id": id, "summary_index": 0 });
            let part = |text: &str| json!({ "type": "summary_text", "text": text });
            self.put_at("response.reasoning_summary_part.added", &at, json!({ "part": part("") }));
            self.deltas("response.reasoning_summary_text.delta", &at, summary);
            self.put_at("response.reasoning_summary_text.done", &at, json!({ "text": summary }));
            self.put_at("response.reasoning_summary_part.done", &at, json!({ "part": part(summary) }));
        }
        self.done(&item(summary.map_or(json!([]), |text| json!([{ "type": "summary_text", "text": text }]))));
    }

    fn message(&mut self, text: &str, source: Option<&str>) {
        let id = self.id("msg");
        let annotations: Vec<Value> = source.and_then(|source| citation(text, source)).into_iter().collect();
        let part = |text: &str, annotations: &[Value]| json!({ "type": "output_text", "annotations": annotations, "logprobs": [], "text": text });
        let at = json!({ "item_id": id, "content_index": 0 });
        self.added(&message_item(&id, "in_progress", &json!([])));
        self.put_at("response.content_part.added", &at, json!({ "part": part("", &[]) }));
        self.deltas("response.output_text.delta", &at, text);
        for (index, annotation) in annotations.iter().enumerate() {
            let more = json!({ "annotation_index": index, "annotation": annotation });
            self.put_at("response.output_text.annotation.added", &at, more);
        }
        self.put_at("response.output_text.done", &at, json!({ "text": text, "logprobs": [] }));
        self.put_at("response.content_part.done", &at, json!({ "part": part(text, &annotations) }));
        self.done(&message_item(&id, "completed", &json!([part(text, &annotations)])));
    }

    fn refusal(&mut self, text: &str) {
        let id = self.id("msg");
        let at = json!({ "item_id": id, "content_index": 0 });
        let part = |text: &str| json!({ "type": "refusal", "refusal": text });
        self.added(&message_item(&id, "in_progress", &json!([])));
        self.put_at("response.content_part.added", &at, json!({ "part": part("") }));
        self.deltas("response.refusal.delta", &at, text);
        self.put_at("response.refusal.done", &at, json!({ "refusal": text }));
        self.put_at("response.content_part.done", &at, json!({ "part": part(text) }));
        self.done(&message_item(&id, "completed", &json!([part(text)])));
    }

    fn call(&mut self, namespace: Option<&str>, name: &str, payload: &Payload) {
        let (kind, prefix, member, text, events) = match payload {
            Payload::Arguments(text) => ("function_call", "fc", "arguments", text, "response.function_call_arguments"),
            Payload::Input(text) => ("custom_tool_call", "ctc", "input", text, "response.custom_tool_call_input"),
        };
        let id = self.id(prefix);
        let call_id = format!("call_demo_{}_{}", self.meta.key, self.output_index);
        let item = |status: &str, text: &str| {
            let mut item = json!({ "id": id, "type": kind, "status": status, "call_id": call_id, "name": name });
            item[member] = json!(text);
            if let Some(namespace) = namespace {
                item["namespace"] = json!(namespace);
            }
            item
        };
        let at = json!({ "item_id": id });
        self.added(&item("in_progress", ""));
        self.deltas(&format!("{events}.delta"), &at, text);
        let mut done = json!({});
        done[member] = json!(text);
        self.put_at(&format!("{events}.done"), &at, done);
        self.done(&item("completed", text));
    }

    fn search(&mut self, query: &str) {
        let id = self.id("ws");
        let at = json!({ "item_id": id });
        self.added(&json!({ "id": id, "type": "web_search_call", "status": "in_progress" }));
        for step in ["in_progress", "searching", "completed"] {
            self.put_at(&format!("response.web_search_call.{step}"), &at, json!({}));
        }
        let action = json!({ "type": "search", "query": query });
        self.done(&json!({ "id": id, "type": "web_search_call", "status": "completed", "action": action }));
    }

    fn image(&mut self, prompt: &str) {
        let id = self.id("ig");
        let at = json!({ "item_id": id });
        self.added(&json!({ "id": id, "type": "image_generation_call", "status": "in_progress", "result": null }));
        for step in ["in_progress", "generating"] {
            self.put_at(&format!("response.image_generation_call.{step}"), &at, json!({}));
        }
        let partial = json!({ "partial_image_index": 0, "partial_image_b64": PNG });
        self.put_at("response.image_generation_call.partial_image", &at, partial);
        self.put_at("response.image_generation_call.completed", &at, json!({}));
        self.done(&json!({
            "id": id, "type": "image_generation_call", "status": "completed", "result": PNG,
            "output_format": "png", "size": "1x1", "revised_prompt": prompt,
        }));
    }

    fn compaction(&mut self, progress: Option<Progress>) {
        let id = self.id("cmp");
        let content = progress.map_or_else(|| ENCRYPTED.to_owned(), |progress| progress.add_to(ENCRYPTED));
        self.written_characters += content.len();
        self.done(&json!({ "id": id, "type": "compaction", "encrypted_content": content }));
    }

    fn added(&mut self, item: &Value) {
        self.put_at("response.output_item.added", &json!({}), json!({ "item": item }));
    }

    fn done(&mut self, item: &Value) {
        self.put_at("response.output_item.done", &json!({}), json!({ "item": item }));
    }

    /// Adds one delta per piece of the text, each with a delay.
    fn deltas(&mut self, kind: &str, at: &Value, text: &str) {
        for piece in pieces(text) {
            self.put_at(kind, at, json!({ "delta": piece }));
            if let Some(timed) = self.events.last_mut() {
                timed.delay = self.meta.delay;
            }
        }
        self.written_characters += text.chars().count();
    }

    /// Adds an event about the current item, with the members `at` and `more`.
    fn put_at(&mut self, kind: &str, at: &Value, more: Value) {
        let mut event = at.clone();
        event["output_index"] = json!(self.output_index);
        merge(&mut event, more);
        self.put(kind, event);
    }

    fn put(&mut self, kind: &str, mut event: Value) {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.sequence_number);
        self.sequence_number += 1;
        self.events.push(TimedEvent { delay: Duration::ZERO, event });
    }

    fn id(&self, prefix: &str) -> String {
        format!("{prefix}_demo_{}_{}", self.meta.key, self.output_index)
    }
}

/// Splits text into words, and long words into pieces.
fn pieces(text: &str) -> impl Iterator<Item = String> {
    text.split_inclusive(' ').flat_map(|word| {
        let characters: Vec<char> = word.chars().collect();
        let pieces: Vec<String> = characters.chunks(MAX_DELTA_CHARACTERS).map(|piece| piece.iter().collect()).collect();
        pieces
    })
}

fn message_item(id: &str, status: &str, content: &Value) -> Value {
    json!({
        "id": id, "type": "message", "status": status, "role": "assistant", "phase": "final_answer", "content": content,
    })
}

/// Returns the annotation for `source`, a part of `text` that contains a URL. Positions are in characters.
fn citation(text: &str, source: &str) -> Option<Value> {
    let (before, _) = text.split_once(source)?;
    let start = before.chars().count();
    let url = source.split(['(', ')']).rev().find(|piece| piece.starts_with("http"))?;
    Some(json!({
        "type": "url_citation", "start_index": start, "end_index": start + source.chars().count(),
        "url": url, "title": "Demo source",
    }))
}

/// Adds or replaces members of an object.
fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(from)) = (object, more) {
        into.extend(from);
    }
}
