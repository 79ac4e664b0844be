//! Lists of stored items, in pages, and the ids of items that have none.

use std::borrow::Cow;
use std::collections::HashMap;

use axum::response::Response;
use http::Uri;
use serde::Serialize;
use serde_json::value::RawValue;

use super::http_response::json;
use crate::blocking::off_thread;
use crate::budget::Reservation;
use crate::error::{ProxyError, Refusal};
use crate::history::Item;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

/// Items on a page, unless the query has a `limit`.
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;
/// Copies of an item in a page: the item as clients get it, and the body of the response.
const COPIES: usize = 2;

/// The parameters of a query.
pub(super) type Query<'q> = HashMap<Cow<'q, str>, Cow<'q, str>>;

#[derive(Serialize)]
struct Page<'p> {
    object: &'static str,
    data: Vec<&'p RawValue>,
    first_id: Option<&'p str>,
    last_id: Option<&'p str>,
    has_more: bool,
}

/// The parameters of the query of a URI.
pub(super) fn query(uri: &Uri) -> Query<'_> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).collect()
}

/// The page of items, given oldest first, that `order`, `limit` and `after` select. `id_of` returns the id of an item
/// and its index, `shown` the item for clients. Reserves memory for the page.
///
/// # Errors
/// If a parameter is invalid, or there isn't enough memory.
pub(super) async fn page(
    items: &[Item],
    query: &Query<'_>,
    mut memory: Reservation,
    id_of: impl Fn(usize, &Item) -> String,
    shown: impl Fn(&Item, &str) -> Box<RawValue>,
) -> Result<Response, ProxyError> {
    let mut ordered: Vec<(usize, &Item)> = items.iter().enumerate().collect();
    match query.get("order").map(AsRef::as_ref) {
        None | Some("desc") => ordered.reverse(),
        Some("asc") => {}
        Some(_) => return Err(Refusal::invalid("order", "'order' must be 'asc' or 'desc'")),
    }
    let count = query.get("limit").map_or(Ok(DEFAULT_LIMIT), |limit| {
        let count = limit.parse().ok().filter(|count| (1..=MAX_LIMIT).contains(count));
        count.ok_or_else(|| Refusal::invalid("limit", "'limit' must be a number from 1 to 100"))
    })?;
    let start = query.get("after").map_or(Ok(0), |after| {
        let position = ordered.iter().position(|(index, item)| id_of(*index, item) == *after);
        position
            .map(|position| position + 1)
            .ok_or_else(|| Refusal::invalid("after", "'after' must be the id of an item"))
    })?;
    let rest = ordered.get(start..).unwrap_or_default();
    let (page, rest) = rest.split_at(count.min(rest.len()));
    let bytes = page.iter().map(|(_, (_, item))| item.get().len()).sum();
    memory.set_buffered(COPIES * bytes).await?;
    let show = |(index, item): &(usize, &Item)| {
        let id = id_of(*index, item);
        let shown = shown(item, &id);
        (id, shown)
    };
    Ok(off_thread(bytes, || list(&page.iter().map(show).collect::<Vec<_>>(), !rest.is_empty())))
}

/// A list of these items.
pub(super) fn list(items: &[(String, Box<RawValue>)], has_more: bool) -> Response {
    json(&Page {
        object: "list",
        data: items.iter().map(|(_, item)| &**item).collect(),
        first_id: items.first().map(|(id, _)| id.as_str()),
        last_id: items.last().map(|(id, _)| id.as_str()),
        has_more,
    })
}

/// The id of an item that has none, from a suffix that is unique.
pub(super) fn new_id(item: &RawValue, suffix: &str) -> String {
    let members = RawObject::parse(item.get()).unwrap_or_default();
    let prefix = match members.get("type").map(RawValue::get).unwrap_or_default() {
        r#""message""# => "msg",
        r#""function_call""# => "fc",
        r#""function_call_output""# => "fco",
        r#""custom_tool_call""# => "ctc",
        r#""custom_tool_call_output""# => "ctco",
        r#""reasoning""# => "rs",
        _ => "item",
    };
    format!("{prefix}_{suffix}")
}

/// The item with this id in its JSON.
pub(super) fn with_id(item: &RawValue, id: &str) -> Box<RawValue> {
    let members = RawObject::parse(item.get()).unwrap_or_default();
    let mut splice = Splice::new(item.get());
    splice.remove(item.get(), &members, "id");
    splice.add(item.get(), format!(r#""id":"{id}""#));
    let named = RawValue::from_string(splice.text().into_owned());
    named.unwrap_or_else(|_| item.to_owned())
}
