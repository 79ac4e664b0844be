//! The pieces of an item on their way to the client.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::protocol::codex::OutputItem;
use crate::protocol::json::string::{RawText, Str};
use crate::protocol::upstream_input::CallKind;

/// A piece of an item. Texts are escaped, names and ids are not.
#[derive(Clone, Debug)]
pub(in crate::protocol) enum Step<'a> {
    Text {
        part: usize,
        text: Cow<'a, str>,
    },
    /// A message has begun; its text may still be missing.
    MessageOpened,
    /// A part is over.
    TextEnd,
    /// A message is over.
    MessageEnd,
    Refusal(Cow<'a, str>),
    Reasoning {
        part: usize,
        text: Cow<'a, str>,
    },
    /// A piece of reasoning is over; this is what it can be replayed with.
    ReasoningEnd {
        encrypted: Option<Cow<'a, str>>,
    },
    Citation {
        part: usize,
        citation: Citation<'a>,
    },
    /// The name is the backend's.
    CallOpened {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        kind: CallKind,
    },
    CallText(Cow<'a, str>),
    CallClosed,
    Image {
        format: Cow<'a, str>,
        base64: Cow<'a, str>,
    },
    Search(Search<'a>),
}

/// A web search that the backend has made. Texts are escaped, the id is not.
#[derive(Clone, Debug)]
pub(in crate::protocol) struct Search<'a> {
    pub(in crate::protocol) id: Cow<'a, str>,
    pub(in crate::protocol) query: Cow<'a, str>,
    /// Addresses of what was found.
    pub(in crate::protocol) sources: Vec<Cow<'a, str>>,
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
    /// Reads a finished call. `None` if it opened a page or looked through one; a call that does not say what it did
    /// was a search.
    pub(in crate::protocol) fn read(item: &OutputItem<'a>) -> Option<Self> {
        let action: Option<ActionWire<'a>> = item.action.and_then(|action| serde_json::from_str(action.get()).ok());
        let action = action.unwrap_or_default();
        let sources = action.sources.unwrap_or_default().into_iter().filter_map(|source| source.url);
        matches!(action.kind.as_str(), "search" | "").then(|| Self {
            id: item.id.clone().unwrap_or_default().into_cow(),
            query: Cow::Borrowed(action.query.map_or("", RawText::escaped)),
            sources: sources.map(|url| Cow::Borrowed(url.escaped())).collect(),
        })
    }

    fn into_owned(self) -> Search<'static> {
        Search { id: own(self.id), query: own(self.query), sources: self.sources.into_iter().map(own).collect() }
    }
}

/// A quotation's place in the text and its source, escaped.
#[derive(Clone, Debug)]
pub(in crate::protocol) struct Citation<'a> {
    pub(in crate::protocol) start_index: u64,
    pub(in crate::protocol) end_index: u64,
    pub(in crate::protocol) url: Cow<'a, str>,
    pub(in crate::protocol) title: Cow<'a, str>,
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
    /// Reads an annotation; `None` for kinds that no client knows.
    pub(in crate::protocol) fn read(raw: &'a RawValue) -> Option<Self> {
        let wire: CitationWire<'a> = serde_json::from_str(raw.get()).ok()?;
        let title = wire.title.map_or("", RawText::escaped);
        (wire.kind.as_str() == "url_citation").then(|| Self {
            start_index: wire.start_index,
            end_index: wire.end_index,
            url: Cow::Borrowed(wire.url.escaped()),
            title: Cow::Borrowed(title),
        })
    }

    /// The annotation as the Responses API has it.
    pub(in crate::protocol) fn render_flat(&self) -> String {
        let Self { start_index, end_index, url, title } = self;
        format!(
            r#"{{"type":"url_citation","start_index":{start_index},"end_index":{end_index},"url":"{url}","title":"{title}"}}"#
        )
    }

    /// The annotation, for a part that begins after `offset` characters of content.
    pub(in crate::protocol) fn render(&self, offset: usize) -> String {
        let shift = |index: u64| index.saturating_add(offset as u64);
        let (start, end) = (shift(self.start_index), shift(self.end_index));
        let (url, title) = (&self.url, &self.title);
        format!(
            r#"{{"type":"url_citation","url_citation":{{"start_index":{start},"end_index":{end},"url":"{url}","title":"{title}"}}}}"#
        )
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

impl Step<'_> {
    pub(in crate::protocol) fn into_owned(self) -> Step<'static> {
        match self {
            Self::Text { part, text } => Step::Text { part, text: own(text) },
            Self::MessageOpened => Step::MessageOpened,
            Self::TextEnd => Step::TextEnd,
            Self::MessageEnd => Step::MessageEnd,
            Self::ReasoningEnd { encrypted } => Step::ReasoningEnd { encrypted: encrypted.map(own) },
            Self::Search(search) => Step::Search(search.into_owned()),
            Self::Refusal(text) => Step::Refusal(own(text)),
            Self::Reasoning { part, text } => Step::Reasoning { part, text: own(text) },
            Self::Citation { part, citation } => Step::Citation { part, citation: citation.into_owned() },
            Self::CallOpened { id, name, kind } => Step::CallOpened { id: own(id), name: own(name), kind },
            Self::CallText(text) => Step::CallText(own(text)),
            Self::CallClosed => Step::CallClosed,
            Self::Image { format, base64 } => Step::Image { format: own(format), base64: own(base64) },
        }
    }
}

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}
