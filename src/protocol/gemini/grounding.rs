//! Collects `groundingMetadata`: the web searches of a reply, their sources, and the text that cites them.
//!
//! The backend counts the characters of a part; this API counts bytes of UTF-8. Positions are those in the whole
//! visible text, which clients join from the parts: the chunks of a stream have no numbered parts. This differs from
//! Google's service, which counts from the start of the part in `partIndex`, if a document has several parts with text.

use crate::protocol::json::quoted;
use crate::protocol::json::string::RawText;
use crate::protocol::reply::{Citation, Search};

/// The web searches and citations of a reply with web search. Sources are escaped.
#[derive(Debug, Default)]
pub(super) struct Grounding {
    /// The visible text.
    text: String,
    /// The item and part of each text, with the position of its start in `text`.
    starts: Vec<((usize, usize), usize)>,
    queries: Vec<String>,
    /// URL and title of each source.
    sources: Vec<(String, String)>,
    supports: Vec<String>,
}

impl Grounding {
    /// Adds text of a part, escaped.
    pub(super) fn push_text(&mut self, part: (usize, usize), text: &str) {
        if self.starts.last().is_none_or(|(last, _)| *last != part) {
            self.starts.push((part, self.text.len()));
        }
        self.text.push_str(&RawText::from_escaped(text).decode());
    }

    /// Adds text between two messages, escaped.
    pub(super) fn push_separator(&mut self, text: &str) {
        self.text.push_str(&RawText::from_escaped(text).decode());
    }

    pub(super) fn add_search(&mut self, search: &Search<'_>) {
        if !search.query.is_empty() && !self.queries.iter().any(|query| *query == *search.query) {
            self.queries.push(search.query.to_string());
        }
        for source in &search.sources {
            self.source(&source.url, &source.title);
        }
    }

    pub(super) fn cite(&mut self, part: (usize, usize), citation: &Citation<'_>) {
        let source = self.source(&citation.url, &citation.title);
        let Some(start) = self.byte_position(part, citation.start_index) else { return };
        let Some(end) = self.byte_position(part, citation.end_index) else { return };
        let cited = quoted(self.text.get(start..end).unwrap_or_default());
        self.supports.push(format!(
            r#"{{"segment":{{"startIndex":{start},"endIndex":{end},"text":{cited}}},"groundingChunkIndices":[{source}]}}"#
        ));
    }

    /// Whether the backend neither searched nor cited.
    pub(super) fn is_empty(&self) -> bool {
        self.queries.is_empty() && self.sources.is_empty()
    }

    /// The object, rendered.
    pub(super) fn render(&self) -> String {
        let queries: Vec<String> = self.queries.iter().map(|query| format!("\"{query}\"")).collect();
        let chunk = |(url, title): &(String, String)| {
            let title = if title.is_empty() { url } else { title };
            format!(r#"{{"web":{{"uri":"{url}","title":"{title}"}}}}"#)
        };
        let chunks: Vec<String> = self.sources.iter().map(chunk).collect();
        format!(
            r#"{{"webSearchQueries":[{}],"groundingChunks":[{}],"groundingSupports":[{}]}}"#,
            queries.join(","),
            chunks.join(","),
            self.supports.join(",")
        )
    }

    /// The position of a source in the list, which has each page once.
    fn source(&mut self, url: &str, title: &str) -> usize {
        let position = self.sources.iter().position(|(known, _)| known == url).unwrap_or_else(|| {
            self.sources.push((url.to_owned(), String::new()));
            self.sources.len() - 1
        });
        if let Some((_, known)) = self.sources.get_mut(position)
            && known.is_empty()
        {
            title.clone_into(known);
        }
        position
    }

    /// The position in the whole text of a character of a part.
    fn byte_position(&self, part: (usize, usize), characters: u64) -> Option<usize> {
        let (_, start) = self.starts.iter().rfind(|(known, _)| *known == part)?;
        let text = self.text.get(*start..)?;
        let within = usize::try_from(characters).ok()?;
        Some(start + text.char_indices().nth(within).map_or(text.len(), |(at, _)| at))
    }
}
