//! The model list in the format of the Gemini API: pages, from a token.

use serde::Serialize;

use crate::error::{ProxyError, Refusal};
use crate::protocol::models::{Effort, Model};

/// Models on a page, unless the query has a `pageSize`.
const DEFAULT_PAGE: usize = 50;
/// Larger pages are not an error, as in Google's service.
const MAX_PAGE: usize = 1000;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ModelObject<'m> {
    name: String,
    base_model_id: &'m str,
    version: &'static str,
    display_name: &'m str,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_token_limit: Option<u64>,
    supported_generation_methods: [&'static str; 2],
    thinking: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ModelPage<'m> {
    models: Vec<ModelObject<'m>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

impl<'m> ModelObject<'m> {
    pub(super) fn new(id: &'m str, model: &'m Model) -> Self {
        Self {
            name: format!("models/{id}"),
            base_model_id: id,
            version: "001",
            display_name: &model.display_name,
            // The backend doesn't report an output limit.
            input_token_limit: model.context_window,
            supported_generation_methods: ["generateContent", "countTokens"],
            thinking: model.efforts.iter().any(|effort| *effort != Effort::None),
        }
    }
}

/// The page that `pageSize` and `pageToken` select. The token is the number of models before the page.
pub(super) fn page<'m>(named: &[(&'m str, &'m Model)], query: &[u8]) -> Result<ModelPage<'m>, ProxyError> {
    let (mut size, mut start) = (DEFAULT_PAGE, 0);
    for (name, value) in url::form_urlencoded::parse(query).filter(|(_, value)| !value.is_empty()) {
        match &*name {
            "pageSize" | "page_size" => {
                let complaint = || Refusal::invalid("pageSize", "pageSize: must be a number of models");
                size = value.parse().ok().filter(|size| *size > 0).ok_or_else(complaint)?;
            }
            "pageToken" | "page_token" => start = position(&value, named.len())?,
            _ => {}
        }
    }
    let rest = named.get(start..).unwrap_or_default();
    let shown = rest.get(..size.min(MAX_PAGE)).unwrap_or(rest);
    let next = start + shown.len();
    Ok(ModelPage {
        models: shown.iter().map(|(id, model)| ModelObject::new(id, model)).collect(),
        next_page_token: (next < named.len()).then(|| next.to_string()),
    })
}

fn position(token: &str, count: usize) -> Result<usize, ProxyError> {
    let complaint = || Refusal::invalid("pageToken", "pageToken: must be the nextPageToken of an earlier page");
    token.parse().ok().filter(|start| *start < count).ok_or_else(complaint)
}

#[cfg(test)]
mod tests {
    use super::page;
    use crate::protocol::models::Catalogue;

    /// The names on a page, and the token of the next one.
    fn names(query: &str) -> Option<(String, Option<String>)> {
        let json = br#"{"models":[{"slug":"a"},{"slug":"b"},{"slug":"c"}]}"#;
        let catalogue = Catalogue::parse(json).unwrap();
        let named: Vec<_> = catalogue.models().iter().map(|model| (model.slug.as_str(), model)).collect();
        let page = page(&named, query.as_bytes()).ok()?;
        Some((page.models.iter().map(|model| model.base_model_id).collect(), page.next_page_token))
    }

    #[test]
    fn a_list_has_pages() {
        for (query, expected, next) in [
            ("", "abc", None),
            ("pageSize=2", "ab", Some("2")),
            ("page_size=2&pageToken=2", "c", None),
            ("pageSize=9999&pageToken=", "abc", None),
        ] {
            assert_eq!(names(query), Some((expected.to_owned(), next.map(str::to_owned))), "{query}");
        }
        for query in ["pageSize=0", "pageSize=x", "pageToken=3", "pageToken=x"] {
            assert!(names(query).is_none(), "{query}");
        }
    }
}
