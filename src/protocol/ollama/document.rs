//! The answer as one document: the fold of the lines that a streaming client would get.

use bytes::Bytes;

use super::Form;
use super::event::{DoneReason, Ending, Line, Template};

/// A document in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    text: String,
    thinking: String,
    calls: Vec<String>,
    ending: Option<Ending>,
}

impl Draft {
    pub(super) fn absorb(&mut self, line: &Line<'_>) {
        match *line {
            Line::Text(text) => self.text.push_str(text),
            Line::Thinking(text) => self.thinking.push_str(text),
            Line::Call(call) => self.calls.push(call.render()),
            Line::Ended(ending) => self.ending = Some(ending),
            Line::Failed(_) => {}
        }
    }

    pub(super) fn render(&self, form: Form, template: &Template) -> Bytes {
        let (head, text) = (template.head(), &self.text);
        let thinking = match self.thinking.as_str() {
            "" => String::new(),
            thinking => format!(r#","thinking":"{thinking}""#),
        };
        let calls = match self.calls.as_slice() {
            [] => String::new(),
            calls => format!(r#","tool_calls":[{}]"#, calls.join(",")),
        };
        let end = self.ending.unwrap_or(Ending { reason: DoneReason::Stop, spent: None }).members();
        Bytes::from(match form {
            Form::Chat => {
                format!(r#"{head}"message":{{"role":"assistant","content":"{text}"{thinking}{calls}}}{end}}}"#)
            }
            Form::Generate => format!(r#"{head}"response":"{text}"{thinking}{end}}}"#),
        })
    }
}
