//! `/v1/responses/{id}` and the paths below: reads, cancels and deletes the stored responses of the client key, and those
//! in the background.
//!
//! Responses that only a WebSocket connection keeps aren't found here.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Request};
use axum::response::Response;
use bytes::Bytes;
use http::{Extensions, StatusCode};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::api_flavor::{refuse, refuse_unread};
use super::background::{BackgroundRuns, Run, with_run_warnings};
use super::http_response::{json, json_response};
use super::item_list::{self, Query, query};
use super::response_store::ResponseStore;
use crate::error::{ProxyError, Refusal};
use crate::history::{DeleteError, Item, ResponseRecord, Responses};
use crate::protocol::responses::background;

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
        let run = self.find_run(extensions, id);
        match (&run, from) {
            (Some(run), Some(from)) => return self.runs.stream(run, from),
            (Some(run), None) => {
                if let Some(response) = BackgroundRuns::show(run) {
                    return Ok(response);
                }
            }
            (None, _) => {}
        }
        let stored = self.find(extensions, id).await?;
        if from.is_some() {
            let message = "only the events of a response in the background are recorded, and for an hour after its end; \
                           leave out 'stream'";
            return Err(Refusal::unsupported_value("stream", message));
        }
        let response = json_response(StatusCode::OK, Bytes::from(stored.response.clone()));
        Ok(match run {
            Some(run) => with_run_warnings(response, &run),
            None => response,
        })
    }

    /// Cancels a response in the background. Returns its object.
    async fn cancel(&self, extensions: &Extensions, id: &str) -> Result<String, ProxyError> {
        if let Some(object) = self.find_run(extensions, id).and_then(|run| BackgroundRuns::cancel(&run)) {
            return Ok(object);
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
fn first_event(query: &Query<'_>) -> Result<Option<u64>, ProxyError> {
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
    let shown = match first_event(&query(request.uri())) {
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
        stored.find(request.extensions(), &id).await.and_then(|stored| input_page(&stored, &query(request.uri())))
    };
    response.unwrap_or_else(|error| refuse(&error, &request))
}

/// The page of input items that the query selects. An item without an id gets one that is the same each time.
fn input_page(stored: &ResponseRecord, query: &Query<'_>) -> Result<Response, ProxyError> {
    let shown = |(index, (id, item)): (usize, &Item)| {
        if let Some(id) = id {
            return (id.clone(), item.clone());
        }
        let digest = Sha256::digest(format!("{} {index}", stored.id));
        let id = item_list::new_id(item, &format!("{digest:.32x}"));
        let item = item_list::with_id(item, &id);
        (id, item)
    };
    item_list::page(stored.input.iter().enumerate().map(shown).collect(), query)
}

fn unknown(id: &str) -> ProxyError {
    Refusal::unknown("Response", id, None)
}
