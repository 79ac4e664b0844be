//! The model list in Anthropic's format: pages, forward or backward from an id.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Serialize;

use super::NO_DATE;
use crate::error::{ProxyError, Refusal};
use crate::protocol::models::Model;

/// Models on a page, unless the query has a `limit`.
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 1000;

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct ModelObject<'m> {
    r#type: &'static str,
    id: &'m str,
    display_name: &'m str,
    created_at: &'static str,
    lifecycle: &'static str,
    max_input_tokens: Option<u64>,
    /// The backend doesn't report an output limit.
    max_tokens: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct ModelPage<'m> {
    data: Vec<ModelObject<'m>>,
    has_more: bool,
    first_id: Option<&'m str>,
    last_id: Option<&'m str>,
}

impl<'m> ModelObject<'m> {
    pub(super) fn new(id: &'m str, model: &'m Model) -> Self {
        Self {
            r#type: "model",
            id,
            display_name: &model.display_name,
            created_at: NO_DATE,
            lifecycle: "active",
            max_input_tokens: model.context_window,
            max_tokens: None,
        }
    }
}

/// The page that `limit`, `after_id` and `before_id` select. `named` has the names that clients can use.
pub(super) fn page<'m>(named: &[(&'m str, &'m Model)], query: &[u8]) -> Result<ModelPage<'m>, ProxyError> {
    let query: HashMap<Cow<'_, str>, Cow<'_, str>> = url::form_urlencoded::parse(query).collect();
    let count = query.get("limit").map_or(Ok(DEFAULT_LIMIT), |limit| {
        let count = limit.parse().ok().filter(|count| (1..=MAX_LIMIT).contains(count));
        count.ok_or_else(|| Refusal::invalid("limit", "limit: must be a number from 1 to 1000"))
    })?;
    let position_of = |name: &str| {
        let position = |id: &Cow<'_, str>| named.iter().position(|(known, _)| known == id);
        let unknown = || Refusal::invalid(name, format!("{name}: must be the id of a model in the list"));
        query.get(name).map(|id| position(id).ok_or_else(unknown)).transpose()
    };
    let (after, before) = (position_of("after_id")?, position_of("before_id")?);
    let start = after.map_or(0, |after| after + 1);
    let within = named.get(start..before.unwrap_or(named.len())).unwrap_or_default();
    // Backward, the page ends at the id.
    let from = if before.is_some() { within.len().saturating_sub(count) } else { 0 };
    let shown = within.get(from..within.len().min(from + count)).unwrap_or_default();
    Ok(ModelPage {
        data: shown.iter().map(|(id, model)| ModelObject::new(id, model)).collect(),
        has_more: shown.len() < within.len(),
        first_id: shown.first().map(|(id, _)| *id),
        last_id: shown.last().map(|(id, _)| *id),
    })
}

#[cfg(test)]
mod tests {
    use super::page;
    use crate::protocol::models::Catalogue;

    fn ids(query: &str) -> Option<(Vec<String>, bool)> {
        let catalogue =
            Catalogue::parse(br#"{"models":[{"slug":"a"},{"slug":"b"},{"slug":"c"},{"slug":"d"}]}"#).unwrap();
        let named: Vec<_> = catalogue.models().iter().map(|model| (model.slug.as_str(), model)).collect();
        let page = page(&named, query.as_bytes()).ok()?;
        let ids: Vec<String> = page.data.iter().map(|entry| entry.id.to_owned()).collect();
        assert_eq!((page.first_id, page.last_id), (ids.first().map(|id| &**id), ids.last().map(|id| &**id)));
        Some((ids, page.has_more))
    }

    #[test]
    fn a_list_has_pages_in_both_directions() {
        for (query, expected, has_more) in [
            ("", "abcd", false),
            ("limit=1000", "abcd", false),
            ("limit=3", "abc", true),
            ("limit=3&after_id=c", "d", false),
            ("limit=1&after_id=b", "c", true),
            ("after_id=d", "", false),
            ("limit=2&before_id=d", "bc", true),
            ("limit=2&before_id=c", "ab", false),
            ("before_id=a", "", false),
        ] {
            let (ids, more) = ids(query).unwrap();
            assert_eq!((ids.concat().as_str(), more), (expected, has_more), "{query}");
        }
        for query in ["limit=0", "limit=1001", "limit=x", "after_id=z", "before_id=z"] {
            assert!(ids(query).is_none(), "{query}");
        }
    }
}
