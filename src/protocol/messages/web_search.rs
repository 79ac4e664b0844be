//! Renders web searches as a tool that the server ran: the query, and the results.

use crate::protocol::json::quoted;
use crate::protocol::reply::{Citation, ReplyItem, Search, Source};

/// Completes the sources of searches from the citations of the text: adds the titles of cited sources, and to the last
/// search the cited pages that no search lists.
pub(super) fn add_citations(pieces: &mut [(usize, ReplyItem<'static>)]) {
    let citations: Vec<Citation<'static>> = pieces.iter().filter_map(|(_, piece)| citation(piece)).cloned().collect();
    let mut searches: Vec<&mut Search<'static>> = pieces.iter_mut().filter_map(|(_, piece)| search(piece)).collect();
    for source in searches.iter_mut().flat_map(|search| &mut search.sources) {
        if let Some(citation) = citations.iter().find(|citation| citation.url == source.url) {
            source.title = citation.title.clone();
        }
    }
    for Citation { url, title, .. } in citations {
        let is_listed = searches.iter().flat_map(|search| &search.sources).any(|source| source.url == url);
        if let Some(last) = searches.last_mut().filter(|_| !is_listed) {
            last.sources.push(Source { url, title });
        }
    }
}

fn citation<'p>(piece: &'p ReplyItem<'static>) -> Option<&'p Citation<'static>> {
    if let ReplyItem::Citation { citation, .. } = piece { Some(citation) } else { None }
}

/// The search, if it may have found something.
fn search<'p>(piece: &'p mut ReplyItem<'static>) -> Option<&'p mut Search<'static>> {
    if let ReplyItem::Search(search) = piece
        && !search.is_failed
    {
        Some(search)
    } else {
        None
    }
}

/// The input of the search tool: JSON text, escaped.
pub(super) fn input(search: &Search<'_>) -> String {
    let literal = quoted(&format!(r#"{{"query":"{}"}}"#, search.query));
    literal.get(1..literal.len() - 1).unwrap_or_default().to_owned()
}

/// The content of the search result block as JSON: each page once, or the error.
pub(super) fn results(search: &Search<'_>) -> String {
    if search.is_failed {
        return r#"{"type":"web_search_tool_result_error","error_code":"unavailable"}"#.to_owned();
    }
    let mut seen: Vec<&str> = Vec::new();
    let mut results: Vec<String> = Vec::new();
    for Source { url, title } in &search.sources {
        if !seen.contains(&&**url) {
            seen.push(url);
            let title = page_title(title, url);
            results.push(format!(
                r#"{{"type":"web_search_result","url":"{url}","title":"{title}","encrypted_content":"","page_age":null}}"#
            ));
        }
    }
    format!("[{}]", results.join(","))
}

/// The title of a page, or its address.
pub(super) fn page_title<'t>(title: &'t str, url: &'t str) -> &'t str {
    if title.is_empty() { url } else { title }
}

/// The id of a search in the format of server tools, from the backend's id or, if that is empty, from the position of
/// the item.
pub(super) fn use_id(id: &str, item: usize) -> String {
    let plain = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    let mut use_id = String::from("srvtoolu_");
    use_id.extend(plain);
    if id.is_empty() {
        use_id.push_str(&item.to_string());
    }
    use_id
}
