//! A Messages reply as one document, folded from the events of the stream.

use bytes::Bytes;

use super::event::{Block, Delta, Event, StopReason};
use super::{SIGNATURE, usage};
use crate::protocol::codex::Usage;
use crate::protocol::json::quoted;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::RawText;

/// The document so far. Texts are escaped.
#[derive(Debug, Default)]
pub(super) struct DocumentDraft {
    blocks: Vec<ContentBlock>,
    /// Stop reason, stop sequence, usage, and number of web searches.
    end: Option<(StopReason, Option<String>, Usage, u64)>,
}

#[derive(Debug)]
enum ContentBlock {
    Text {
        text: String,
        citations: Vec<String>,
    },
    Thinking {
        thinking: String,
        signature: String,
    },
    /// A tool use: the JSON up to `input`, and the input.
    Call {
        members: String,
        input: String,
    },
    /// Another block, rendered.
    Json(String),
}

impl DocumentDraft {
    pub(super) fn absorb(&mut self, event: &Event<'_>) {
        match *event {
            Event::BlockStart(_, block) => self.blocks.push(ContentBlock::new(&block)),
            Event::Delta(index, delta) => {
                if let Some(block) = self.blocks.get_mut(index) {
                    block.add(delta);
                }
            }
            Event::End { reason, stop, usage, searches } => {
                self.end = Some((reason, stop.map(str::to_owned), usage, searches));
            }
            Event::Start | Event::BlockStop(_) | Event::Stop | Event::Failed(_) => {}
        }
    }

    pub(super) fn render(&self, id: &str, model: &str) -> Bytes {
        let blocks: Vec<String> = self.blocks.iter().map(ContentBlock::render).collect();
        let (reason, stop, usage, searches) =
            self.end.clone().unwrap_or((StopReason::EndTurn, None, Usage::default(), 0));
        let stop = stop.map_or_else(|| "null".to_owned(), |stop| quoted(&stop));
        Bytes::from(format!(
            concat!(
                r#"{{"id":{},"type":"message","role":"assistant","model":{},"content":[{}],"#,
                r#""stop_reason":"{}","stop_sequence":{},"usage":{}}}"#,
            ),
            quoted(id),
            quoted(model),
            blocks.join(","),
            reason.as_str(),
            stop,
            usage::json(&usage, searches),
        ))
    }
}

impl ContentBlock {
    fn new(block: &Block<'_>) -> Self {
        let call = |kind: &str, id: &str, name: &str| Self::Call {
            members: format!(r#"{{"type":"{kind}","id":{},"name":{}"#, quoted(id), quoted(name)),
            input: String::new(),
        };
        match block {
            Block::Text => Self::Text { text: String::new(), citations: Vec::new() },
            Block::Thinking => Self::Thinking { thinking: String::new(), signature: String::new() },
            Block::ToolUse { id, name } => call("tool_use", id, name),
            Block::ServerToolUse { id } => call("server_tool_use", id, "web_search"),
            Block::SearchResult { .. } => Self::Json(block.render()),
        }
    }

    fn add(&mut self, delta: Delta<'_>) {
        match (self, delta) {
            (Self::Text { text, .. }, Delta::Text(piece)) => text.push_str(piece),
            (Self::Text { citations, .. }, Delta::Citation(citation)) => citations.push(citation.to_owned()),
            (Self::Thinking { thinking, .. }, Delta::Thinking(piece)) => thinking.push_str(piece),
            (Self::Thinking { signature, .. }, Delta::Signature(piece)) => {
                signature.push_str(SIGNATURE);
                signature.push_str(piece);
            }
            (Self::Call { input, .. }, Delta::Json(piece)) => input.push_str(piece),
            _ => {}
        }
    }

    fn render(&self) -> String {
        match self {
            Self::Text { text, citations } if citations.is_empty() => format!(r#"{{"type":"text","text":"{text}"}}"#),
            Self::Text { text, citations } => {
                format!(r#"{{"type":"text","text":"{text}","citations":[{}]}}"#, citations.join(","))
            }
            Self::Thinking { thinking, signature } => {
                format!(r#"{{"type":"thinking","thinking":"{thinking}","signature":"{signature}"}}"#)
            }
            Self::Call { members, input } => {
                let input = RawText::from_escaped(input).decode();
                // Models sometimes write input that is not JSON, but a document has to be JSON.
                let input = if RawObject::parse(&input).is_ok() { &*input } else { "{}" };
                format!(r#"{members},"input":{input}}}"#)
            }
            Self::Json(json) => json.clone(),
        }
    }
}
