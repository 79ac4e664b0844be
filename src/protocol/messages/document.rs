//! The answer as one document: the fold of the events that a streaming client would get.
//!
//! Knows nothing but [`Event`], so that it can't drift from the stream. Texts stay escaped from the
//! backend's bytes to the client's.

use bytes::Bytes;

use super::event::{Block, Delta, Event, StopReason};
use super::{SIGNATURE, usage};
use crate::protocol::codex::Usage;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::RawText;
use crate::protocol::reply::response_meta::quoted;

/// A document in the making.
#[derive(Debug, Default)]
pub(super) struct Draft {
    blocks: Vec<DraftBlock>,
    ending: Option<(StopReason, Option<String>, Usage, u64)>,
}

#[derive(Debug)]
enum DraftBlock {
    Text {
        text: String,
        citations: Vec<String>,
    },
    Thinking {
        thinking: String,
        signature: String,
    },
    /// A call up to its input, and the input.
    Call {
        members: String,
        input: String,
    },
    Whole(String),
}

impl Draft {
    pub(super) fn absorb(&mut self, event: &Event<'_>) {
        match *event {
            Event::Opened(_, block) => self.blocks.push(DraftBlock::new(&block)),
            Event::Delta(index, delta) => {
                if let Some(block) = self.blocks.get_mut(index) {
                    block.add(delta);
                }
            }
            Event::Ended { reason, stop, usage, searches } => {
                self.ending = Some((reason, stop.map(str::to_owned), usage, searches));
            }
            Event::Start | Event::Closed(_) | Event::Stop | Event::Failed(_) => {}
        }
    }

    pub(super) fn render(&self, id: &str, model: &str) -> Bytes {
        let blocks: Vec<String> = self.blocks.iter().map(DraftBlock::render).collect();
        let (reason, stop, usage, searches) =
            self.ending.clone().unwrap_or((StopReason::EndTurn, None, Usage::default(), 0));
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

impl DraftBlock {
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
            Block::SearchResult { .. } => Self::Whole(block.render()),
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
                // What a model calls a tool with is not always JSON; a document has to be.
                let input = if RawObject::parse(&input).is_ok() { &*input } else { "{}" };
                format!(r#"{members},"input":{input}}}"#)
            }
            Self::Whole(json) => json.clone(),
        }
    }
}
