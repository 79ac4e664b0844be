//! A Chat reply as one document, folded from the chunks of the stream.

use std::fmt::Write as _;

use bytes::Bytes;

use super::chunk::{CallForm, Chunk};
use super::render::ReasoningField;
use crate::protocol::codex::Usage;
use crate::protocol::json::quoted;
use crate::protocol::reply::usage;

/// The document so far. Texts are escaped.
#[derive(Debug, Default)]
pub(super) struct DocumentDraft {
    content: String,
    reasoning: String,
    refusal: Option<String>,
    annotations: Vec<String>,
    calls: Vec<Call>,
    images: Vec<String>,
    finish_reason: &'static str,
    usage: Usage,
}

#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    form: CallForm,
    /// Arguments or input, escaped.
    text: String,
}

impl DocumentDraft {
    pub(super) fn absorb(&mut self, chunk: &Chunk<'_>) {
        match *chunk {
            Chunk::Content(text) => self.content.push_str(text),
            Chunk::Reasoning(text) => self.reasoning.push_str(text),
            Chunk::Refusal(text) => self.refusal.get_or_insert_default().push_str(text),
            Chunk::Annotation(json) => self.annotations.push(json.to_owned()),
            Chunk::CallStart { id, name, form, .. } => {
                self.calls.push(Call { id: id.to_owned(), name: name.to_owned(), form, text: String::new() });
            }
            Chunk::CallText { index, text, .. } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.text.push_str(text);
                }
            }
            Chunk::Image(json) => self.images.push(json.to_owned()),
            Chunk::Finished(reason) => self.finish_reason = reason,
            Chunk::Usage(usage) => self.usage = usage,
            Chunk::Role | Chunk::Done | Chunk::Failed(_) => {}
        }
    }

    /// Renders the document. `members` are the JSON members before `choices`.
    pub(super) fn render(&self, members: &str, reasoning: ReasoningField) -> Bytes {
        let message = self.message(reasoning);
        let finish_reason = self.finish_reason;
        let usage = usage::json(&self.usage);
        Bytes::from(format!(
            r#"{{{members}"choices":[{{"index":0,"message":{message},"logprobs":null,"finish_reason":"{finish_reason}"}}],"usage":{usage}}}"#
        ))
    }

    fn message(&self, reasoning: ReasoningField) -> String {
        let mut message = String::from(r#"{"role":"assistant","content":"#);
        if self.content.is_empty() && (self.refusal.is_some() || !self.calls.is_empty()) {
            message.push_str("null");
        } else {
            push_literal(&mut message, &self.content);
        }
        message.push_str(r#","refusal":"#);
        match &self.refusal {
            Some(refusal) => push_literal(&mut message, refusal),
            None => message.push_str("null"),
        }
        push_list(&mut message, "annotations", &self.annotations);
        self.push_reasoning(&mut message, reasoning);
        self.push_calls(&mut message);
        if !self.images.is_empty() {
            push_list(&mut message, "images", &self.images);
        }
        message.push('}');
        message
    }

    fn push_reasoning(&self, message: &mut String, field: ReasoningField) {
        let members: &[&str] = match field {
            ReasoningField::ReasoningContent => &["reasoning_content"],
            ReasoningField::Reasoning => &["reasoning"],
            ReasoningField::Both => &["reasoning_content", "reasoning"],
            ReasoningField::ThinkTags | ReasoningField::None => &[],
        };
        if self.reasoning.is_empty() {
            return;
        }
        for member in members {
            push_member(message, member);
            push_literal(message, &self.reasoning);
        }
    }

    fn push_calls(&self, message: &mut String) {
        match self.calls.first() {
            None => {}
            Some(call) if call.form == CallForm::Legacy => {
                message.push(',');
                message.push_str(&call.inner());
            }
            Some(_) => {
                let calls: Vec<String> = self.calls.iter().map(Call::render).collect();
                push_list(message, "tool_calls", &calls);
            }
        }
    }
}

impl Call {
    fn render(&self) -> String {
        let (member, _) = self.form.members();
        format!(r#"{{"id":{},"type":"{member}",{}}}"#, quoted(&self.id), self.inner())
    }

    fn inner(&self) -> String {
        let (member, text) = self.form.members();
        format!(r#""{member}":{{"name":{},"{text}":"{}"}}"#, quoted(&self.name), self.text)
    }
}

fn push_member(message: &mut String, name: &str) {
    write!(message, r#","{name}":"#).expect("writing to a string can't fail");
}

fn push_literal(message: &mut String, escaped: &str) {
    message.push('"');
    message.push_str(escaped);
    message.push('"');
}

fn push_list(message: &mut String, name: &str, values: &[String]) {
    push_member(message, name);
    message.push('[');
    message.push_str(&values.join(","));
    message.push(']');
}
