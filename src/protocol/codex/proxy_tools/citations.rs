//! Citations of the pages that searches found.
//!
//! The output of the backend's search is text without a list of sources, and the model cites pages by writing their
//! URLs. The proxy finds the URLs in both texts, and adds annotations like those of the hosted search: at the URL if it
//! occurs in the message, otherwise at the end of the message.

use std::collections::{BTreeMap, BTreeSet};

use crate::protocol::json::quoted;

/// Maximum number of pages listed for one search, and cited in one response.
const MAX_PAGES: usize = 20;
/// Maximum number of pages whose URLs are searched for in the texts of a response.
const MAX_CANDIDATES: usize = 500;

/// Position of a text part: that of its item in the response, and that of the part in the item.
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
}

/// Treatment of pages whose URLs don't occur in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnnamedPages {
    /// Keep them: a later text may cite them.
    Keep,
    /// Cite them at the end of the text, which is the last one of the response.
    Cite,
}

impl Citations {
    /// Records the pages in the output of a search, and returns those to list in its item.
    pub(super) fn note_sources<'o>(&mut self, output: &'o str) -> Vec<&'o str> {
        let mut found = urls(output);
        for url in &found {
            let is_new = !self.cited.contains(*url) && !self.uncited.iter().any(|known| known == url);
            if is_new && self.uncited.len() < MAX_CANDIDATES {
                self.uncited.push((*url).to_owned());
            }
        }
        found.truncate(MAX_PAGES);
        found
    }

    /// Whether a message may need citations.
    pub(super) fn has_sources(&self) -> bool {
        !self.uncited.is_empty() || !self.added.is_empty()
    }

    /// Records that the backend annotates a part itself.
    pub(super) fn note_annotated(&mut self, part: PartPosition) {
        self.annotated.insert(part);
    }

    /// The annotations to add to a part with this text: first for pages whose URLs occur in it, then for others, up to
    /// the limit. Empty if the backend annotates the part, or the part has been annotated before.
    pub(super) fn annotate(&mut self, part: PartPosition, text: &str, pages: UnnamedPages) -> Vec<String> {
        if self.annotated.contains(&part) || self.added.contains_key(&part) || text.is_empty() {
            return Vec::new();
        }
        let (mut cited, mut unnamed) = (Vec::new(), Vec::new());
        for url in std::mem::take(&mut self.uncited) {
            match find_url(text, &url) {
                Some((start, end)) => cited.push((start, end, url)),
                None => unnamed.push(url),
            }
        }
        cited.sort();
        match pages {
            UnnamedPages::Keep => self.uncited = unnamed,
            UnnamedPages::Cite => {
                let length = text.chars().count();
                cited.extend(unnamed.into_iter().map(|url| (length, length, url)));
            }
        }
        cited.truncate(MAX_PAGES.saturating_sub(self.cited.len()));
        let annotations: Vec<_> = cited.iter().map(|(start, end, url)| annotation(*start, *end, url)).collect();
        self.cited.extend(cited.into_iter().map(|(_, _, url)| url));
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
        if url.len() > scheme.len() && !urls.contains(&url) && urls.len() < MAX_CANDIDATES {
            urls.push(url);
        }
        rest = rest.get(url.len().max(scheme.len())..).unwrap_or_default();
    }
    urls
}

/// The URL at the start of a text, without punctuation that belongs to the text around it.
fn url_at_start(text: &str) -> &str {
    let mut depth = 0_i32;
    let mut end = text.len();
    for (at, c) in text.char_indices() {
        depth += match c {
            '(' | '[' => 1,
            ')' | ']' => -1,
            _ => 0,
        };
        if ends_url(c, text.get(at..).unwrap_or_default()) || depth < 0 {
            end = at;
            break;
        }
    }
    text.get(..end).unwrap_or_default().trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '_', '[', '('])
}

/// Whether a character ends a URL; `rest` is the text from it on. Besides delimiters, these are typographic quotation
/// marks, the punctuation of Chinese and Japanese texts, and delimiters that are escaped as in HTML.
fn ends_url(c: char, rest: &str) -> bool {
    const DELIMITERS: &str = "\"'<>`|\\{}";
    const ESCAPED: [&str; 5] = ["&quot;", "&apos;", "&#39;", "&lt;", "&gt;"];
    match c {
        '\u{2018}'..='\u{201f}' | '\u{2026}' | '\u{3000}'..='\u{303f}' | '\u{ff01}'..='\u{ff65}' => true,
        '&' => ESCAPED.iter().any(|escaped| rest.starts_with(escaped)),
        _ => c.is_whitespace() || c.is_control() || DELIMITERS.contains(c),
    }
}

/// The range of a URL in a text, in characters. `None` if it occurs only as the beginning of another URL.
fn find_url(text: &str, url: &str) -> Option<(usize, usize)> {
    let (at, _) = text.match_indices(url).find(|(at, _)| url_at_start(text.get(*at..).unwrap_or_default()) == url)?;
    let start = text.get(..at)?.chars().count();
    Some((start, start + url.chars().count()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Citations, UnnamedPages, find_url, urls};

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
    fn urls_end_before_quotation_marks_and_the_punctuation_of_other_scripts() {
        let text = "见https://a.example/1。谢谢（https://a.example/2）、{https://a.example/3} 'https://a.example/4' \
                    href=&quot;https://a.example/5?x=1&y=2&quot; &lt;https://a.example/6&gt; “https://a.example/7”";
        let expected = ["1", "2", "3", "4", "5?x=1&y=2", "6", "7"].map(|path| format!("https://a.example/{path}"));
        assert_eq!(urls(text), expected);
    }

    #[test]
    fn a_page_is_cited_once_at_its_url_or_at_the_end() {
        let mut citations = Citations::default();
        assert_eq!(citations.note_sources("https://a.example/1 https://a.example https://b.example").len(), 3);
        let added = citations.annotate((1, 0), "Älter: https://a.example/1.", UnnamedPages::Cite);
        assert_eq!(
            added,
            [
                r#"{"type":"url_citation","start_index":7,"end_index":26,"url":"https://a.example/1","title":"a.example"}"#,
                r#"{"type":"url_citation","start_index":27,"end_index":27,"url":"https://a.example","title":"a.example"}"#,
                r#"{"type":"url_citation","start_index":27,"end_index":27,"url":"https://b.example","title":"b.example"}"#,
            ]
        );
        assert_eq!(citations.added_to((1, 0)), added);
        assert!(citations.annotate((1, 0), "again", UnnamedPages::Cite).is_empty());
        assert!(citations.annotate((2, 0), "more", UnnamedPages::Cite).is_empty());
        citations.note_sources("https://b.example");
        assert!(citations.annotate((3, 0), "https://b.example", UnnamedPages::Cite).is_empty(), "it was cited");
    }

    #[test]
    fn only_the_last_text_cites_pages_whose_urls_occur_in_no_text() {
        let mut citations = Citations::default();
        citations.note_sources("https://a.example https://b.example https://c.example");
        assert_eq!(citations.annotate((1, 0), "I open https://b.example now.", UnnamedPages::Keep).len(), 1);
        let last = citations.annotate((2, 0), "See https://c.example.", UnnamedPages::Cite);
        assert!(last[0].contains(r#""start_index":4,"end_index":21,"url":"https://c.example""#), "{last:?}");
        assert!(last[1].contains(r#""url":"https://a.example""#) && last.len() == 2, "{last:?}");
    }

    #[test]
    fn at_most_twenty_pages_are_cited_and_those_in_the_text_come_first() {
        let text = (0..50).map(|n| format!("https://{n}.example")).collect::<Vec<_>>().join("\n");
        let mut citations = Citations::default();
        assert_eq!(citations.note_sources(&text).len(), 20);
        citations.note_sources("https://other.example");
        let added = citations.annotate((0, 0), "https://other.example and https://49.example", UnnamedPages::Cite);
        assert!(added[0].contains("https://other.example") && added[1].contains("https://49.example"), "{added:?}");
        assert_eq!(added.len(), 20);
        assert!(citations.annotate((1, 0), "https://48.example", UnnamedPages::Cite).is_empty());
    }
}
