//! The events of a reply in Ollama's API, encoded as lines of a stream or folded into a document.
//!
//! Texts are in the escaped form in which the backend sent them. Every line is a JSON object; there is no other
//! framing.

use std::time::{Duration, UNIX_EPOCH};

use bytes::{BufMut, Bytes, BytesMut};

use super::render::ReplyOptions;
use super::{Form, error};
use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::json::quoted;
use crate::protocol::reply::{Encoder, ResponseMeta};

/// The last Unix second that can be written as an RFC 3339 time.
const LAST_SECOND: u64 = 253_402_300_799;
/// Ollama's API has durations in nanoseconds.
const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// The end of every line but the last.
const LINE_END: &str = ",\"done\":false}\n";

/// One event of a reply. Texts are escaped, names and ids are not.
#[derive(Clone, Copy, Debug)]
pub enum Line<'e> {
    /// Visible text.
    Text(&'e str),
    /// Visible reasoning.
    Thinking(&'e str),
    /// A complete call.
    Call(Call<'e>),
    /// The end of a complete reply.
    End(LineEnd),
    /// The end of a reply that failed.
    Failed(&'e ProxyError),
}

/// A call of a tool.
#[derive(Clone, Copy, Debug)]
pub struct Call<'e> {
    /// The call's id, for clients that keep it.
    pub id: &'e str,
    /// Position among the calls of the reply.
    pub index: usize,
    /// The tool, as the client named it.
    pub name: &'e str,
    /// A JSON object on one line.
    pub arguments: &'e str,
}

/// Reason, tokens and time in the last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineEnd {
    /// Why the reply ended.
    pub reason: DoneReason,
    /// `None` for a reply that did not come from the backend: the model was loaded or unloaded.
    pub cost: Option<Cost>,
}

/// Tokens and time of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Token usage.
    pub usage: Usage,
    /// How long the backend took, which it reports in whole seconds. Never 0, since clients divide by it.
    pub seconds: u64,
}

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoneReason {
    /// The model was done, or the text reached a stop sequence.
    Stop,
    /// A token limit was reached.
    Length,
    /// The output was filtered.
    ContentFilter,
    /// The request had no prompt: it was to load the model.
    Load,
    /// The request had no prompt: it was to unload the model.
    Unload,
}

impl DoneReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
            Self::Load => "load",
            Self::Unload => "unload",
        }
    }
}

impl Call<'_> {
    fn render(&self) -> String {
        let Self { id, index, name, arguments } = self;
        let (id, name) = (quoted(id), quoted(name));
        format!(r#"{{"id":{id},"function":{{"index":{index},"name":{name},"arguments":{arguments}}}}}"#)
    }
}

impl LineEnd {
    /// The members of the last line, each after a comma.
    fn members(&self) -> String {
        let mut members = format!(r#","done":true,"done_reason":"{}""#, self.reason.as_str());
        if let Some(Cost { usage, seconds }) = self.cost {
            let duration = seconds.saturating_mul(NANOSECONDS_PER_SECOND);
            let (prompt, output) = (usage.input_tokens, usage.output_tokens);
            members.push_str(&format!(
                concat!(
                    r#","total_duration":{},"load_duration":0,"prompt_eval_count":{},"#,
                    r#""prompt_eval_duration":0,"eval_count":{},"eval_duration":{}"#,
                ),
                duration, prompt, output, duration
            ));
        }
        members
    }
}

/// Encodes lines around the bytes that all lines of a reply have in common, and folds them into a document.
#[derive(Debug)]
pub struct LineEncoder {
    form: Form,
    commands: CommandHint,
    /// The start of a line: its members before `message` or `response`.
    head: String,
    /// The texts (escaped), calls (rendered) and end of the document so far.
    text: String,
    thinking: String,
    calls: Vec<String>,
    end: LineEnd,
}

impl LineEncoder {
    pub(super) fn new(options: &ReplyOptions, response: &ResponseMeta) -> Self {
        let (model, time) = (quoted(&options.model), rfc3339(response.created_at.unwrap_or(0)));
        Self {
            form: options.api.form,
            commands: options.commands,
            head: format!(r#"{{"model":{model},"created_at":"{time}","#),
            text: String::new(),
            thinking: String::new(),
            calls: Vec::new(),
            end: LineEnd { reason: DoneReason::Stop, cost: None },
        }
    }

    /// A line with an empty text.
    pub(super) fn empty_text(&self) -> Bytes {
        let mut wire = BytesMut::new();
        self.put_text("", &mut wire);
        wire.freeze()
    }

    fn put_text(&self, text: &str, wire: &mut BytesMut) {
        let (open, close) = self.content();
        put(&[&self.head, open, text, "\"", close, LINE_END], wire);
    }

    /// The JSON before and after a text.
    fn content(&self) -> (&'static str, &'static str) {
        match self.form {
            Form::Chat => (r#""message":{"role":"assistant","content":""#, "}"),
            Form::Generate => (r#""response":""#, ""),
        }
    }

    /// The document that was folded from the lines.
    pub(super) fn document(&self) -> Bytes {
        let Self { head, text, .. } = self;
        let thinking = match self.thinking.as_str() {
            "" => String::new(),
            thinking => format!(r#","thinking":"{thinking}""#),
        };
        let calls = match self.calls.as_slice() {
            [] => String::new(),
            calls => format!(r#","tool_calls":[{}]"#, calls.join(",")),
        };
        let end = self.end.members();
        Bytes::from(match self.form {
            Form::Chat => {
                format!(r#"{head}"message":{{"role":"assistant","content":"{text}"{thinking}{calls}}}{end}}}"#)
            }
            Form::Generate => format!(r#"{head}"response":"{text}"{thinking}{end}}}"#),
        })
    }
}

impl Encoder for LineEncoder {
    type Event<'e> = Line<'e>;

    fn encode(&mut self, line: &Line<'_>, wire: &mut BytesMut) {
        let (open, close) = self.content();
        match *line {
            Line::Text(text) => self.put_text(text, wire),
            Line::Thinking(text) => put(&[&self.head, open, r#"","thinking":""#, text, "\"", close, LINE_END], wire),
            Line::Call(call) => {
                put(&[&self.head, open, r#"","tool_calls":["#, &call.render(), "]", close, LINE_END], wire);
            }
            Line::End(last) => put(&[&self.head, open, "\"", close, &last.members(), "}\n"], wire),
            Line::Failed(error) => wire.put_slice(&error::line(error, self.commands)),
        }
    }

    fn absorb(&mut self, line: &Line<'_>) {
        match *line {
            Line::Text(text) => self.text.push_str(text),
            Line::Thinking(text) => self.thinking.push_str(text),
            Line::Call(call) => self.calls.push(call.render()),
            Line::End(end) => self.end = end,
            Line::Failed(_) => {}
        }
    }
}

fn put(pieces: &[&str], wire: &mut BytesMut) {
    for piece in pieces {
        wire.put_slice(piece.as_bytes());
    }
}

fn rfc3339(unix_seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(unix_seconds.min(LAST_SECOND));
    crate::clock::rfc3339(time)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn any_time_can_be_written() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_790_000_000), "2026-09-21T14:13:20Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
