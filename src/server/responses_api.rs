//! `/v1/responses/{id}` and the paths below: reads, cancels and deletes the stored responses of the client key, and those
//! in the background.
//!
//! Responses that only a WebSocket connection keeps aren't found here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Request};
use axum::response::Response;
use bytes::Bytes;
use http::{Extensions, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::api_flavor::{refuse, refuse_unread};
use super::background::{BackgroundRuns, Run};
use super::http_response::{json, json_response};
use super::response_store::ResponseStore;
use crate::error::{ProxyError, Refusal};
use crate::history::{DeleteError, ResponseRecord, Responses};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;
use crate::protocol::responses::background;

/// Items on a page, unless the query has a `limit`.
const DEFAULT_LIMIT: usize = 20;
const MAX_LIMIT: usize = 100;

/// The stored responses, and those in the background.
#[derive(Clone, Debug)]
pub(super) struct StoredResponses {
    history: Arc<Responses>,
    runs: Arc<BackgroundRuns>,
}

impl StoredResponses {
    pub(super) fn new(history: &Arc<Responses>, runs: &Arc<BackgroundRuns>) -> Self {
        Self { history: Arc::clone(history), runs: Arc::clone(runs) }
    }

    fn store(&self, extensions: &Extensions) -> ResponseStore {
        ResponseStore::new(&self.history, extensions)
    }

    async fn find(&self, extensions: &Extensions, id: &str) -> Result<Arc<ResponseRecord>, ProxyError> {
        self.store(extensions).find_in_history(id).await.ok_or_else(|| unknown(id))
    }

    fn find_run(&self, extensions: &Extensions, id: &str) -> Option<Arc<Run>> {
        self.runs.find(self.store(extensions).owner(), id)
    }

    /// Responds with a response; with `from`, with its events from this number on.
    async fn show(&self, extensions: &Extensions, id: &str, from: Option<u64>) -> Result<Response, ProxyError> {
        if let Some(run) = self.find_run(extensions, id) {
            return self.runs.show(&run, from);
        }
        let stored = self.find(extensions, id).await?;
        if from.is_some() {
            let message = "only the events of a response in the background are recorded, and for an hour after its end; \
                           leave out 'stream'";
            return Err(Refusal::unsupported_value("stream", message));
        }
        Ok(json_response(StatusCode::OK, Bytes::from(stored.response.clone())))
    }

    /// Cancels a response in the background. Returns its object.
    async fn cancel(&self, extensions: &Extensions, id: &str) -> Result<String, ProxyError> {
        if let Some(run) = self.find_run(extensions, id) {
            return Ok(BackgroundRuns::cancel(&run));
        }
        let stored = self.find(extensions, id).await?;
        if background::is_background(&stored.response) {
            return Ok(stored.response.clone());
        }
        Err(Refusal::body("Cannot cancel a synchronous response."))
    }

    /// Deletes a response, after cancelling it if it runs. Returns whether it existed.
    async fn delete(&self, extensions: &Extensions, id: &str) -> Result<bool, DeleteError> {
        let run = self.find_run(extensions, id);
        if let Some(run) = &run {
            self.runs.remove(run);
        }
        let was_stored = self.store(extensions).delete(id).await?;
        Ok(run.is_some() || was_stored)
    }
}

/// The number of the first event to stream; `None` if the query doesn't ask for a stream.
fn first_event(query: &HashMap<Cow<'_, str>, Cow<'_, str>>) -> Result<Option<u64>, ProxyError> {
    let is_stream = query.get("stream").is_some_and(|stream| stream == "true");
    let after = query.get("starting_after").map(|after| {
        let number: Option<u64> = after.parse().ok();
        number.ok_or_else(|| Refusal::invalid("starting_after", "'starting_after' must be the number of an event"))
    });
    let from = after.transpose()?.map_or(0, |after| after.saturating_add(1));
    Ok(is_stream.then_some(from))
}

/// `GET /v1/responses/{id}`.
pub(super) async fn retrieve(
    Extension(stored): Extension<StoredResponses>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let shown = match first_event(&query(&request)) {
        Ok(from) => stored.show(request.extensions(), &id, from).await,
        Err(error) => Err(error),
    };
    shown.unwrap_or_else(|error| refuse(&error, &request))
}

#[derive(Serialize)]
struct Deletion<'d> {
    id: &'d str,
    object: &'static str,
    deleted: bool,
}

/// `DELETE /v1/responses/{id}`.
pub(super) async fn delete(
    Extension(stored): Extension<StoredResponses>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    match stored.delete(request.extensions(), &id).await {
        Ok(true) => json(&Deletion { id: &id, object: "response", deleted: true }),
        Ok(false) => refuse(&unknown(&id), &request),
        Err(error) => {
            tracing::warn!(%error, "can't delete a stored response");
            refuse(&ProxyError::Internal, &request)
        }
    }
}

/// `POST /v1/responses/{id}/cancel`.
pub(super) async fn cancel(
    Extension(stored): Extension<StoredResponses>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    match stored.cancel(request.extensions(), &id).await {
        Ok(object) => json_response(StatusCode::OK, Bytes::from(object)),
        Err(error) => refuse_unread(&error, request).await,
    }
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
    Extension(stored): Extension<StoredResponses>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let is_open = stored.find_run(request.extensions(), &id).is_some_and(|run| !run.is_ended());
    let response = if is_open {
        Err(Refusal::body("The input items of a response in the background are available when it has ended."))
    } else {
        stored.find(request.extensions(), &id).await.and_then(|stored| page(&stored, &query(&request)))
    };
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

fn unknown(id: &str) -> ProxyError {
    Refusal::unknown("Response", id, None)
}

fn query(request: &Request) -> HashMap<Cow<'_, str>, Cow<'_, str>> {
    url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).collect()
}
