//! Citations of the pages that searches found.
//!
//! The backend's search returns text without a list of sources, and the model cites pages by their URLs in the answer.
//! The proxy finds both, and adds annotations as those that the hosted search has: at the URL if it occurs in the text,
//! else at its end.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::json::quoted;

/// Maximum number of pages that are listed for one search, and cited in one response.
const MAX_PAGES: usize = 20;

/// The position of a text part: of its item in the response, and of the part in the item.
pub(super) type PartPosition = (u64, u64);

/// The pages that searches have found, and the citations of them.
#[derive(Debug, Default)]
pub(super) struct Citations {
    /// Pages that no text has cited yet.
    uncited: Vec<String>,
    cited: BTreeSet<String>,
    /// The annotations that were added to each part, as JSON.
    added: BTreeMap<PartPosition, Vec<String>>,
    /// Parts that the backend annotates itself.
    annotated: BTreeSet<PartPosition>,
    /// Items that are not the answer, but comments before it.
    comments: BTreeSet<u64>,
}

impl Citations {
    /// Notes the pages in the output of a search, and returns them.
    pub(super) fn note_sources<'o>(&mut self, output: &'o str) -> Vec<&'o str> {
        let found = urls(output);
        for url in &found {
            let is_new = !self.cited.contains(*url) && !self.uncited.iter().any(|known| known == url);
            if is_new && self.cited.len() + self.uncited.len() < MAX_PAGES {
                self.uncited.push((*url).to_owned());
            }
        }
        found
    }

    /// Whether there may be something to cite.
    pub(super) fn has_sources(&self) -> bool {
        !self.uncited.is_empty() || !self.added.is_empty()
    }

    /// Notes that the backend annotates a part.
    pub(super) fn note_annotated(&mut self, part: PartPosition) {
        self.annotated.insert(part);
    }

    /// Notes that an item is a comment before the answer: it cites only the pages that its text names.
    pub(super) fn note_comment(&mut self, item: u64) {
        self.comments.insert(item);
    }

    /// The annotations to add to a part with this text. Empty if the part has been seen before.
    pub(super) fn annotate(&mut self, part: PartPosition, text: &str) -> Vec<String> {
        if self.annotated.contains(&part) || self.added.contains_key(&part) || text.is_empty() {
            return Vec::new();
        }
        let length = text.chars().count();
        let is_comment = self.comments.contains(&part.0);
        let (mut named, mut unnamed) = (Vec::new(), Vec::new());
        for url in std::mem::take(&mut self.uncited) {
            match find_url(text, &url) {
                Some((start, end)) => named.push((start, end, url)),
                None => unnamed.push(url),
            }
        }
        named.sort();
        if is_comment {
            self.uncited = unnamed;
        } else {
            named.extend(unnamed.into_iter().map(|url| (length, length, url)));
        }
        let annotations: Vec<_> = named.iter().map(|(start, end, url)| annotation(*start, *end, url)).collect();
        self.cited.extend(named.into_iter().map(|(_, _, url)| url));
        self.added.insert(part, annotations.clone());
        annotations
    }

    /// The annotations that were added to a part.
    pub(super) fn added_to(&self, part: PartPosition) -> &[String] {
        self.added.get(&part).map_or(&[], Vec::as_slice)
    }
}

fn annotation(start: usize, end: usize, url: &str) -> String {
    let title = quoted(host(url));
    let url = quoted(url);
    format!(r#"{{"type":"url_citation","start_index":{start},"end_index":{end},"url":{url},"title":{title}}}"#)
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// The distinct URLs in a text, in order.
fn urls(text: &str) -> Vec<&str> {
    let mut urls: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("http") {
        rest = rest.get(start..).unwrap_or_default();
        let scheme = ["https://", "http://"].into_iter().find(|scheme| rest.starts_with(scheme));
        let Some(scheme) = scheme else {
            rest = rest.get(4..).unwrap_or_default();
            continue;
        };
        let url = url_at_start(rest);
        if url.len() > scheme.len() && !urls.contains(&url) && urls.len() < MAX_PAGES {
            urls.push(url);
        }
        rest = rest.get(url.len().max(scheme.len())..).unwrap_or_default();
    }
    urls
}

/// The URL at the start of a text, without punctuation that belongs to the text around it.
fn url_at_start(text: &str) -> &str {
    let is_end =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '<' | '>' | '`' | '|' | '\\' | '【' | '】');
    let mut depth = 0_i32;
    let mut end = text.len();
    for (at, c) in text.char_indices() {
        depth += match c {
            '(' | '[' => 1,
            ')' | ']' => -1,
            _ => 0,
        };
        if is_end(c) || depth < 0 {
            end = at;
            break;
        }
    }
    text.get(..end).unwrap_or_default().trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '*', '_', '[', '('])
}

/// The range of a URL in a text, in characters. `None` if it occurs only as the beginning of another one.
fn find_url(text: &str, url: &str) -> Option<(usize, usize)> {
    let (at, _) = text.match_indices(url).find(|(at, _)| url_at_start(text.get(*at..).unwrap_or_default()) == url)?;
    let start = text.get(..at)?.chars().count();
    Some((start, start + url.chars().count()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Citations, find_url, urls};

    proptest! {
        #[test]
        fn every_url_is_found_again_in_its_text(text in "(https?://|http|[a-zß()\\[\\]., \"/\\n]){0,40}") {
            for url in urls(&text) {
                let (start, end) = find_url(&text, url).unwrap();
                prop_assert_eq!(text.chars().skip(start).take(end - start).collect::<String>(), url);
            }
        }
    }

    #[test]
    fn urls_end_before_the_punctuation_around_them() {
        let text = "See [a](https://a.example/x?y=1), https://b.example/w_(z). <http://c.example> and https://a.example/x?y=1; https:// http";
        assert_eq!(urls(text), ["https://a.example/x?y=1", "https://b.example/w_(z)", "http://c.example"]);
    }

    #[test]
    fn a_page_is_cited_once_at_its_url_or_at_the_end() {
        let mut citations = Citations::default();
        assert_eq!(citations.note_sources("https://a.example/1 https://a.example https://b.example").len(), 3);
        let added = citations.annotate((1, 0), "Älter: https://a.example/1.");
        assert_eq!(
            added,
            [
                r#"{"type":"url_citation","start_index":7,"end_index":26,"url":"https://a.example/1","title":"a.example"}"#,
                r#"{"type":"url_citation","start_index":27,"end_index":27,"url":"https://a.example","title":"a.example"}"#,
                r#"{"type":"url_citation","start_index":27,"end_index":27,"url":"https://b.example","title":"b.example"}"#,
            ]
        );
        assert_eq!(citations.added_to((1, 0)), added);
        assert!(citations.annotate((1, 0), "again").is_empty() && citations.annotate((2, 0), "more").is_empty());
        citations.note_sources("https://b.example");
        assert!(citations.annotate((3, 0), "https://b.example").is_empty(), "it was cited");
    }

    #[test]
    fn a_comment_cites_only_the_pages_that_it_names() {
        let mut citations = Citations::default();
        citations.note_sources("https://a.example https://b.example");
        citations.note_comment(1);
        assert_eq!(citations.annotate((1, 0), "I open https://b.example now.").len(), 1);
        assert_eq!(citations.annotate((2, 0), "Done.").len(), 1);
    }

    #[test]
    fn at_most_twenty_pages_are_cited() {
        let text = (0..50).map(|n| format!("https://{n}.example")).collect::<Vec<_>>().join("\n");
        let mut citations = Citations::default();
        assert_eq!(citations.note_sources(&text).len(), 20);
        citations.note_sources("https://other.example");
        assert_eq!(citations.annotate((0, 0), "x").len(), 20);
    }
}
