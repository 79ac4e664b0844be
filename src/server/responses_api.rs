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
use sha2::{Digest, Sha256};

use super::api_flavor::{refuse, refuse_unread};
use super::background::{BackgroundRuns, Run, with_run_warnings};
use super::http_response::{deleted, json_response};
use super::item_list::{self, Query, query};
use super::response_store::ResponseStore;
use crate::error::{ProxyError, Refusal};
use crate::history::{Item, ResponseRecord, Responses};
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
        if let Some(run) = &run
            && let Some(response) = self.runs.show(run, from)?
        {
            return Ok(response);
        }
        let stored = self.find(extensions, id).await?;
        if from.is_some() {
            let message = "the events of this response are not recorded: only those of a background response are, in \
                           the process that ran it and for up to an hour after its end; leave out 'stream'";
            return Err(Refusal::unsupported_value("stream", message));
        }
        let response = json_response(StatusCode::OK, Bytes::from(stored.response.clone()));
        Ok(match &run {
            Some(run) => with_run_warnings(response, run),
            None => response,
        })
    }

    /// Cancels a response in the background. Returns its object.
    async fn cancel(&self, extensions: &Extensions, id: &str) -> Result<String, ProxyError> {
        if let Some(run) = self.find_run(extensions, id)
            && let Some(object) = self.runs.cancel(&run).await
        {
            return Ok(object);
        }
        let stored = self.find(extensions, id).await?;
        if background::is_background(&stored.response) {
            return Ok(stored.response.clone());
        }
        Err(Refusal::body("Cannot cancel a synchronous response."))
    }

    /// Deletes a response, after cancelling it if it runs. Returns whether it existed.
    async fn delete(&self, extensions: &Extensions, id: &str) -> Result<bool, ProxyError> {
        let run = self.find_run(extensions, id);
        if let Some(run) = &run {
            self.runs.delete(run).await;
        }
        let was_stored = self.store(extensions).delete(id).await?;
        Ok(run.is_some() || was_stored)
    }

    /// The page of input items that the query selects. An item without an id gets one that is the same each time.
    async fn input_page(&self, extensions: &Extensions, id: &str, query: &Query<'_>) -> Result<Response, ProxyError> {
        let own = match self.find_run(extensions, id) {
            Some(run) => self.runs.input(&run).await?,
            None => Vec::new(),
        };
        let stored = if own.is_empty() { Some(self.find(extensions, id).await?) } else { None };
        let items = stored.as_ref().map_or(&own, |stored| &stored.input);
        if items.is_empty() {
            let message = "the input of this response was not stored: the proxy was stopped before the response ended, \
                           or its request could not be read again";
            return Err(Refusal::coded("input_items_unavailable", "response_id", message));
        }
        let id_of = |index: usize, (own, item): &Item| match own {
            Some(own) => own.clone(),
            None => item_list::new_id(item, &format!("{:.32x}", Sha256::digest(format!("{id} {index}")))),
        };
        let shown = |(own, item): &Item, id: &str| match own {
            Some(_) => item.clone(),
            None => item_list::with_id(item, id),
        };
        item_list::page(items, query, self.runs.reserve_memory(), id_of, shown).await
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

/// `DELETE /v1/responses/{id}`.
pub(super) async fn delete(
    Extension(stored): Extension<StoredResponses>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    match stored.delete(request.extensions(), &id).await {
        Ok(true) => deleted(&id, "response"),
        Ok(false) => refuse(&unknown(&id), &request),
        Err(error) => refuse(&error, &request),
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
    let page = stored.input_page(request.extensions(), &id, &query(request.uri())).await;
    page.unwrap_or_else(|error| refuse(&error, &request))
}

fn unknown(id: &str) -> ProxyError {
    Refusal::unknown("Response", id, None)
}
