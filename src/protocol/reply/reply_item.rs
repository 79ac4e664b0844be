//! The pieces of output items, in the form that is independent of the client's API.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::protocol::codex::OutputItem;
use crate::protocol::json::string::{RawText, Str};
use crate::protocol::upstream_input::CallKind;

/// A piece of an output item: its start, an addition or its end. Texts are escaped, names and ids are not. `part` is a
/// position in the item's list of parts.
#[derive(Clone, Debug)]
pub enum ReplyItem<'a> {
    /// A message begins. Its text may come later.
    MessageStart,
    /// Visible text.
    Text {
        /// The part of the message.
        part: usize,
        /// The next text.
        text: Cow<'a, str>,
    },
    /// The text of a part is complete.
    TextEnd,
    /// A message is complete.
    MessageEnd,
    /// Text of a refusal.
    Refusal {
        /// The part of the message.
        part: usize,
        /// The next text.
        text: Cow<'a, str>,
    },
    /// A citation of text that was sent.
    Citation {
        /// The part of the message.
        part: usize,
        /// Source and position.
        citation: Citation<'a>,
    },
    /// Visible reasoning.
    Reasoning {
        /// The part of the reasoning item.
        part: usize,
        /// The next text.
        text: Cow<'a, str>,
    },
    /// A reasoning item is complete.
    ReasoningEnd {
        /// The reasoning in encrypted form, with which a later request can continue it.
        encrypted: Option<Cow<'a, str>>,
    },
    /// A call begins. Its arguments or input follow.
    CallStart {
        /// The call's id.
        id: Cow<'a, str>,
        /// The tool, as the backend names it.
        name: Cow<'a, str>,
        /// Function or custom tool.
        kind: CallKind,
    },
    /// Arguments or input of a call.
    CallText(Cow<'a, str>),
    /// A call ends.
    CallEnd(CallEnd),
    /// A complete image.
    Image {
        /// `png`, `webp` or `jpeg`.
        format: Cow<'a, str>,
        /// The data.
        base64: Cow<'a, str>,
    },
    /// A complete web search.
    Search(Search<'a>),
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// Its arguments are complete.
    Complete,
    /// The response ended before the call did, so that arguments may be missing.
    Truncated,
}

/// A web search that the backend made. Texts are escaped, the id is not.
#[derive(Clone, Debug)]
pub struct Search<'a> {
    /// The backend's id.
    pub id: Cow<'a, str>,
    /// The search terms; empty if not reported.
    pub query: Cow<'a, str>,
    /// The pages that were found, as far as the backend reports them.
    pub sources: Vec<Source<'a>>,
    /// Whether it ended without a result.
    pub is_failed: bool,
}

/// A page that a web search found. Texts are escaped.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// The URL.
    pub url: Cow<'a, str>,
    /// The title. Empty if it is not known.
    pub title: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct ActionWire<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Str<'a>,
    #[serde(borrow, default)]
    query: Option<RawText<'a>>,
    #[serde(borrow, default)]
    sources: Option<Vec<SourceWire<'a>>>,
}

#[derive(Deserialize)]
struct SourceWire<'a> {
    #[serde(borrow, default)]
    url: Option<RawText<'a>>,
}

impl<'a> Search<'a> {
    /// Reads a finished web search item. `None` if it opened a page or searched within one. An item that doesn't name
    /// its action is a search.
    pub(super) fn read(item: &OutputItem<'a>) -> Option<Self> {
        let action: Option<ActionWire<'a>> = item.action.and_then(|action| serde_json::from_str(action.get()).ok());
        let action = action.unwrap_or_default();
        let urls = action.sources.unwrap_or_default().into_iter().filter_map(|source| source.url);
        let source = |url: RawText<'a>| Source { url: Cow::Borrowed(url.escaped()), title: Cow::Borrowed("") };
        let is_failed = item.status.as_ref().is_some_and(|status| matches!(status.as_str(), "failed" | "incomplete"));
        matches!(action.kind.as_str(), "search" | "").then(|| Self {
            is_failed,
            id: item.id.clone().unwrap_or_default().into_cow(),
            query: Cow::Borrowed(action.query.map_or("", RawText::escaped)),
            sources: urls.map(source).collect(),
        })
    }

    fn into_owned(self) -> Search<'static> {
        let source = |source: Source<'_>| Source { url: own(source.url), title: own(source.title) };
        Search {
            id: own(self.id),
            query: own(self.query),
            sources: self.sources.into_iter().map(source).collect(),
            is_failed: self.is_failed,
        }
    }
}

/// A source, and the range of text that cites it. Texts are escaped.
#[derive(Clone, Debug)]
pub struct Citation<'a> {
    /// Start of the range, in characters from the start of its part.
    pub start_index: u64,
    /// End of the range, exclusive, in the same unit.
    pub end_index: u64,
    /// The URL of the source.
    pub url: Cow<'a, str>,
    /// The title of the source. May be empty.
    pub title: Cow<'a, str>,
}

#[derive(Deserialize)]
struct CitationWire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Str<'a>,
    #[serde(default)]
    start_index: u64,
    #[serde(default)]
    end_index: u64,
    #[serde(borrow)]
    url: RawText<'a>,
    #[serde(borrow, default)]
    title: Option<RawText<'a>>,
}

impl<'a> Citation<'a> {
    /// Reads an annotation. `None` for kinds that aren't sent to clients.
    pub(super) fn read(raw: &'a RawValue) -> Option<Self> {
        let wire: CitationWire<'a> = serde_json::from_str(raw.get()).ok()?;
        let title = wire.title.map_or("", RawText::escaped);
        (wire.kind.as_str() == "url_citation").then(|| Self {
            start_index: wire.start_index,
            end_index: wire.end_index,
            url: Cow::Borrowed(wire.url.escaped()),
            title: Cow::Borrowed(title),
        })
    }

    pub(super) fn into_owned(self) -> Citation<'static> {
        Citation {
            url: own(self.url),
            title: own(self.title),
            start_index: self.start_index,
            end_index: self.end_index,
        }
    }
}

impl ReplyItem<'_> {
    pub(super) fn into_owned(self) -> ReplyItem<'static> {
        match self {
            Self::MessageStart => ReplyItem::MessageStart,
            Self::Text { part, text } => ReplyItem::Text { part, text: own(text) },
            Self::TextEnd => ReplyItem::TextEnd,
            Self::MessageEnd => ReplyItem::MessageEnd,
            Self::Refusal { part, text } => ReplyItem::Refusal { part, text: own(text) },
            Self::Citation { part, citation } => ReplyItem::Citation { part, citation: citation.into_owned() },
            Self::Reasoning { part, text } => ReplyItem::Reasoning { part, text: own(text) },
            Self::ReasoningEnd { encrypted } => ReplyItem::ReasoningEnd { encrypted: encrypted.map(own) },
            Self::CallStart { id, name, kind } => ReplyItem::CallStart { id: own(id), name: own(name), kind },
            Self::CallText(text) => ReplyItem::CallText(own(text)),
            Self::CallEnd(end) => ReplyItem::CallEnd(end),
            Self::Image { format, base64 } => ReplyItem::Image { format: own(format), base64: own(base64) },
            Self::Search(search) => ReplyItem::Search(search.into_owned()),
        }
    }
}

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}
