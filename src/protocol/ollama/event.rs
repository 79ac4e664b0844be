//! What a client is told, line by line, and how a line looks on the wire.
//!
//! Texts are in the escaped form in which the backend sent them. Every line is whole JSON: there is
//! no framing but the end of the line.

use bytes::{BufMut, BytesMut};

use super::{Form, error};
use crate::error::ProxyError;
use crate::protocol::codex::Usage;
use crate::protocol::reply::response_meta::quoted;

/// Nanoseconds of a second: the unit of all durations.
const SECOND: u64 = 1_000_000_000;

/// One line of the client's stream. Texts are escaped, names and ids are not.
#[derive(Clone, Copy, Debug)]
pub enum Line<'e> {
    /// A piece of visible text.
    Text(&'e str),
    /// A piece of visible thinking.
    Thinking(&'e str),
    /// A whole call.
    Call(Call<'e>),
    /// The end of a whole answer.
    Ended(Ending),
    /// The end of an answer that failed.
    Failed(&'e ProxyError),
}

/// A call of a tool.
#[derive(Clone, Copy, Debug)]
pub struct Call<'e> {
    /// The call's id, for clients that keep it.
    pub id: &'e str,
    /// Position among the calls of the answer.
    pub index: usize,
    /// The tool, as the client named it.
    pub name: &'e str,
    /// A JSON object on one line.
    pub arguments: &'e str,
}

/// Why an answer ended, and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: DoneReason,
    /// What was spent; `None` where nobody was asked.
    pub spent: Option<Spent>,
}

/// What an answer cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Tokens.
    pub usage: Usage,
    /// Time. The backend's clock tells whole seconds; never 0, since clients divide by it.
    pub seconds: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoneReason {
    /// The model was done, or a stop sequence was met.
    Stop,
    /// A limit was met.
    Length,
    /// The answer was filtered.
    ContentFilter,
    /// Nothing was asked: the model is ready.
    Load,
    /// Nothing was asked: the model is let go.
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
    pub(super) fn render(&self) -> String {
        let Self { id, index, name, arguments } = self;
        let (id, name) = (quoted(id), quoted(name));
        format!(r#"{{"id":{id},"function":{{"index":{index},"name":{name},"arguments":{arguments}}}}}"#)
    }
}

impl Ending {
    /// The members of the last line, each after a comma.
    pub(super) fn members(&self) -> String {
        let mut members = format!(r#","done":true,"done_reason":"{}""#, self.reason.as_str());
        if let Some(Spent { usage, seconds }) = self.spent {
            let duration = seconds.saturating_mul(SECOND);
            let (prompt, answer) = (usage.input_tokens, usage.output_tokens);
            members.push_str(&format!(
                concat!(
                    r#","total_duration":{},"load_duration":0,"prompt_eval_count":{},"#,
                    r#""prompt_eval_duration":0,"eval_count":{},"eval_duration":{}"#,
                ),
                duration, prompt, answer, duration
            ));
        }
        members
    }
}

/// The bytes that are the same in every line of a stream.
#[derive(Debug)]
pub(super) struct Template {
    form: Form,
    /// Model and time, each followed by a comma.
    head: String,
}

impl Template {
    pub(super) fn new(form: Form, model: &str, created_at: &str) -> Self {
        Self { form, head: format!(r#"{{"model":{},"created_at":"{created_at}","#, quoted(model)) }
    }

    /// Up to the members of an answer.
    pub(super) fn head(&self) -> &str {
        &self.head
    }

    pub(super) fn encode(&self, line: &Line<'_>, wire: &mut BytesMut) {
        let (open, close) = match self.form {
            Form::Chat => (r#""message":{"role":"assistant","content":""#, "}"),
            Form::Generate => (r#""response":""#, ""),
        };
        let end = ",\"done\":false}\n";
        match *line {
            Line::Text(text) => put(&[&self.head, open, text, "\"", close, end], wire),
            Line::Thinking(text) => put(&[&self.head, open, r#"","thinking":""#, text, "\"", close, end], wire),
            Line::Call(call) => {
                put(&[&self.head, open, r#"","tool_calls":["#, &call.render(), "]", close, end], wire);
            }
            Line::Ended(ending) => put(&[&self.head, open, "\"", close, &ending.members(), "}\n"], wire),
            Line::Failed(error) => wire.put_slice(&error::line(error)),
        }
    }
}

fn put(pieces: &[&str], wire: &mut BytesMut) {
    for piece in pieces {
        wire.put_slice(piece.as_bytes());
    }
}
