//! The query parameters of requests that list records.

use std::borrow::Cow;
use std::collections::HashMap;

use axum::extract::Request;

use crate::error::{ProxyError, Refusal};
use crate::history::{ListOrder, ListQuery};

/// Reads `after`, `limit`, `order` and `purpose`.
///
/// # Errors
/// If `limit` isn't a number up to the maximum, or `order` isn't one.
pub(super) fn list_query(request: &Request, default: usize, max: usize) -> Result<ListQuery, ProxyError> {
    let query: HashMap<Cow<'_, str>, Cow<'_, str>> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).collect();
    let text = |name: &str| query.get(name).filter(|text| !text.is_empty()).map(ToString::to_string);
    let limit = match text("limit") {
        None => default,
        Some(limit) => limit.parse().ok().filter(|limit| (1..=max).contains(limit)).ok_or_else(|| {
            let message = format!("'limit' must be a number from 1 to {max}");
            Refusal::invalid("limit", message)
        })?,
    };
    let order = match text("order").as_deref() {
        None | Some("desc") => ListOrder::Descending,
        Some("asc") => ListOrder::Ascending,
        Some(_) => return Err(Refusal::invalid("order", "'order' must be 'asc' or 'desc'")),
    };
    Ok(ListQuery { purpose: text("purpose"), after: text("after"), limit, order })
}
