//! Web searches, told as if a server had run a tool: what was looked for, and what was found.
//!
//! Where the search is all that a client wants, what comes after the first one waits for the end,
//! so that the last result can list everything that the text quotes.

use std::borrow::Cow;

use super::event::{Block, Delta};
use super::render::Open;
use super::reply::{MessagesReply, SearchForm};
use crate::protocol::reply::reply_item::{Citation, Search, Step};
use crate::protocol::reply::response_meta::quoted;
use crate::protocol::{Reply, Sink};

impl MessagesReply {
    /// Tells of a search as if a server had run a tool: what was looked for, and what was found.
    pub(super) fn tell_search(
        &mut self,
        item: usize,
        search: &Search<'_>,
        results: &[String],
        sink: &mut impl Sink<Self>,
    ) {
        if self.shape.search == SearchForm::Hidden {
            return;
        }
        if self.flush(sink).is_break() {
            return;
        }
        self.shown.searches += 1;
        let id = search_id(&search.id, item);
        self.begin_block(Open::Call, Block::ServerToolUse { id: &id }, sink);
        let input = quoted(&format!(r#"{{"query":"{}"}}"#, search.query));
        let escaped = input.get(1..input.len() - 1).unwrap_or_default();
        self.put(Delta::Json(escaped), sink);
        let results = format!("[{}]", results.join(","));
        self.begin_block(Open::Call, Block::SearchResult { id: &id, results: &results }, sink);
        self.close_block(sink);
    }

    /// Tells what waited for the last search, which is given all that the text quotes.
    pub(super) fn tell_held(&mut self, sink: &mut impl Sink<Self>) {
        let Some(held) = self.shown.held.take() else { return };
        let last = held.iter().rposition(|(_, step)| matches!(step, Step::Search(_)));
        let citations: Vec<&Citation<'_>> = held.iter().filter_map(|(_, step)| cited(step)).collect();
        let mut listed: Vec<&str> = Vec::new();
        for (position, (item, step)) in held.iter().enumerate() {
            if self.is_finished() {
                return;
            }
            let Step::Search(search) = step else {
                self.tell(*item, step, sink);
                continue;
            };
            let mut found = results(search, &citations);
            listed.extend(search.sources.iter().map(Cow::as_ref));
            for citation in citations.iter().filter(|_| Some(position) == last) {
                if !listed.contains(&citation.url.as_ref()) {
                    listed.push(&citation.url);
                    found.push(result(&citation.url, title(&citation.title, &citation.url)));
                }
            }
            self.tell_search(*item, search, &found, sink);
        }
    }
}

fn cited<'s>(step: &'s Step<'static>) -> Option<&'s Citation<'static>> {
    if let Step::Citation { citation, .. } = step { Some(citation) } else { None }
}

/// The results that a search names itself, under the titles that the text gives them.
pub(super) fn results(search: &Search<'_>, citations: &[&Citation<'_>]) -> Vec<String> {
    let mut seen: Vec<&str> = Vec::new();
    for url in &search.sources {
        if !seen.contains(&&**url) {
            seen.push(url);
        }
    }
    let titled = |url: &str| citations.iter().find(|citation| citation.url == url).map(|citation| &*citation.title);
    seen.into_iter().map(|url| result(url, title(titled(url).unwrap_or_default(), url))).collect()
}

fn result(url: &str, title: &str) -> String {
    format!(r#"{{"type":"web_search_result","url":"{url}","title":"{title}","encrypted_content":"","page_age":null}}"#)
}

/// A page without a title goes by its address.
pub(super) fn title<'t>(title: &'t str, url: &'t str) -> &'t str {
    if title.is_empty() { url } else { title }
}

/// An id of the form that clients expect of a tool that a server runs.
fn search_id(id: &str, item: usize) -> String {
    let plain = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    let mut told = String::from("srvtoolu_");
    told.extend(plain);
    if id.is_empty() {
        told.push_str(&item.to_string());
    }
    told
}
