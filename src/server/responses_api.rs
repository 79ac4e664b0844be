//! `/v1/responses/{id}` and the paths below: reads and deletes the stored responses of the client key.
//!
//! Responses that only a WebSocket connection keeps aren't found here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{Extensions, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::Services;
use super::api_flavor::{refuse, refuse_unread};
use super::http_response::{json, json_response};
use super::response_store::ResponseStore;
use crate::error::{ProxyError, Refusal};
use crate::history::ResponseRecord;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

/// Items on a page, unless the query has a `limit`.
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// `GET /v1/responses/{id}`.
pub(super) async fn retrieve(
    State(services): State<Arc<Services>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let response = find(&services, request.extensions(), &id).await.and_then(|stored| {
        if query(&request).get("stream").is_some_and(|stream| stream == "true") {
            return Err(Refusal::unsupported_value(
                "stream",
                "a stored response can't be streamed; leave out 'stream'",
            ));
        }
        Ok(json_response(StatusCode::OK, Bytes::from(stored.response.clone())))
    });
    response.unwrap_or_else(|error| refuse(&error, &request))
}

#[derive(Serialize)]
struct Deletion<'d> {
    id: &'d str,
    object: &'static str,
    deleted: bool,
}

/// `DELETE /v1/responses/{id}`.
pub(super) async fn delete(
    State(services): State<Arc<Services>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    match store(&services, request.extensions()).delete(&id).await {
        Ok(true) => json(&Deletion { id: &id, object: "response", deleted: true }),
        Ok(false) => refuse(&unknown(&id), &request),
        Err(error) => {
            tracing::warn!(%error, "can't delete a stored response");
            refuse(&ProxyError::Internal, &request)
        }
    }
}

/// `POST /v1/responses/{id}/cancel`: always fails, since responses don't run in the background.
pub(super) async fn cancel(
    State(services): State<Arc<Services>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let error = match find(&services, request.extensions(), &id).await {
        Ok(_) => Refusal::body("Cannot cancel a synchronous response."),
        Err(error) => error,
    };
    refuse_unread(&error, request).await
}

#[derive(Serialize)]
struct Page<'p> {
    object: &'static str,
    data: Vec<&'p RawValue>,
    first_id: Option<&'p str>,
    last_id: Option<&'p str>,
    has_more: bool,
}

/// `GET /v1/responses/{id}/input_items`.
pub(super) async fn input_items(
    State(services): State<Arc<Services>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let response = find(&services, request.extensions(), &id).await.and_then(|stored| page(&stored, &query(&request)));
    response.unwrap_or_else(|error| refuse(&error, &request))
}

/// The page of input items that `order`, `limit` and `after` select.
fn page(stored: &ResponseRecord, query: &HashMap<Cow<'_, str>, Cow<'_, str>>) -> Result<Response, ProxyError> {
    let mut items: Vec<(String, Box<RawValue>)> =
        stored.input.iter().enumerate().map(|item| with_id(stored, item)).collect();
    match query.get("order").map(AsRef::as_ref) {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(_) => return Err(Refusal::invalid("order", "'order' must be 'asc' or 'desc'")),
    }
    let count = query.get("limit").map_or(Ok(DEFAULT_LIMIT), |limit| {
        let count = limit.parse().ok().filter(|count| (1..=MAX_LIMIT).contains(count));
        count.ok_or_else(|| Refusal::invalid("limit", "'limit' must be a number from 1 to 100"))
    })?;
    let start = query.get("after").map_or(Ok(0), |after| {
        let position = items.iter().position(|(id, _)| id == after);
        position
            .map(|position| position + 1)
            .ok_or_else(|| Refusal::invalid("after", "'after' must be the id of an item"))
    })?;
    let page = items.get(start..).unwrap_or_default();
    let (shown, rest) = page.split_at(count.min(page.len()));
    Ok(json(&Page {
        object: "list",
        data: shown.iter().map(|(_, item)| &**item).collect(),
        first_id: shown.first().map(|(id, _)| id.as_str()),
        last_id: shown.last().map(|(id, _)| id.as_str()),
        has_more: !rest.is_empty(),
    }))
}

/// An item with its id. If it has none, one is derived from the response and the position, so it is the same each time.
fn with_id(
    stored: &ResponseRecord,
    (index, (id, item)): (usize, &(Option<String>, Box<RawValue>)),
) -> (String, Box<RawValue>) {
    if let Some(id) = id {
        return (id.clone(), item.clone());
    }
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
    let digest = Sha256::digest(format!("{} {index}", stored.id));
    let id = format!("{prefix}_{digest:.32x}");
    let mut splice = Splice::new(item.get());
    splice.remove(item.get(), &members, "id");
    splice.add(item.get(), format!(r#""id":"{id}""#));
    let named = RawValue::from_string(splice.text().into_owned());
    (id, named.unwrap_or_else(|_| item.clone()))
}

fn store(services: &Services, extensions: &Extensions) -> ResponseStore {
    ResponseStore::new(&services.history, extensions)
}

async fn find(services: &Services, extensions: &Extensions, id: &str) -> Result<Arc<ResponseRecord>, ProxyError> {
    store(services, extensions).find_in_history(id).await.ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> ProxyError {
    Refusal::unknown("Response", id, None)
}

fn query(request: &Request) -> HashMap<Cow<'_, str>, Cow<'_, str>> {
    url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).collect()
}
