//! `/v1/batches` and the paths below: creates, lists, shows and cancels the batches of a client key.
//!
//! [`runner`] chooses the next line, [`gate`] decides when it may start, [`line`] runs it, [`retry`] decides whether it
//! is run again, and [`activity`] has what they share with the requests.

mod activity;
mod gate;
mod line;
mod retry;
mod runner;

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::request::Parts;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::api_flavor::{ApiFlavor, error_response, refuse, refuse_unread};
use super::body::{self, BodyLimits};
use super::files::{failed, owner, page};
use super::handler::Limits;
use super::http_response::{json, with_warnings};
use super::query::list_query;
use super::request_log::RequestId;
use super::state::ServerState;
use super::{Services, account};
use crate::budget::BufferedBody;
use crate::error::{ProxyError, Refusal};
use crate::history::{BatchRecord, ListOrder, ListQuery, NewBatch};
use crate::protocol::Warnings;
use crate::protocol::batches::{BatchErrors, BatchObject, BatchRequest, RequestCounts};
use crate::token_source::CredentialSource;
pub(super) use activity::BatchActivity;
pub use activity::{BatchProgress, PauseStatus};
pub(super) use runner::BatchRunner;

/// Batches in a list.
const DEFAULT_LISTED: usize = 20;
const MAX_LISTED: usize = 100;
/// The purpose of input files.
const PURPOSE: &str = "batch";

/// Handles requests that create or cancel batches.
#[derive(Clone, Debug)]
pub(super) struct Batches {
    services: Arc<Services>,
    state: Arc<ServerState>,
    limits: Limits,
}

impl Batches {
    pub(super) fn new(services: &Arc<Services>, state: &Arc<ServerState>, limits: Limits) -> Self {
        Self { services: Arc::clone(services), state: Arc::clone(state), limits }
    }

    /// `POST /v1/batches`.
    pub(super) async fn create(self, request: Request) -> Response {
        let flavor = ApiFlavor::of(&request);
        let (parts, body) = request.into_parts();
        let limits = BodyLimits::new(self.limits, &self.state.memory);
        let created = match body::read(&parts.headers, body, &limits).await {
            Ok(body) => self.try_create(&parts, &body).await,
            Err(error) => Err(error),
        };
        match created {
            Ok((record, warnings)) => {
                self.state.batches.notify();
                with_warnings(json(&object(record)), &warnings)
            }
            Err(error) => error_response(flavor, &error, &RequestId::of(&parts).0),
        }
    }

    async fn try_create(&self, parts: &Parts, body: &BufferedBody) -> Result<(BatchRecord, Warnings), ProxyError> {
        if self.services.tokens.credentials() == CredentialSource::Client {
            let message = "batches run without a client, and need a login of this machine: they aren't available while \
                           clients sign in themselves (setting upstream.credentials = \"client\")";
            return Err(Refusal::forbidden("stored_login_required", None, message));
        }
        let request = BatchRequest::decode(&body.bytes)?;
        // Checks the account that the request selects.
        account::tokens(parts, &self.services).await?;
        let (owner, id) = (owner(&parts.extensions), &request.input_file_id);
        let input = self.services.files.find(&owner, id).await;
        let input = input.map_err(|error| failed(&error, "File", id, "input_file_id"))?;
        if input.purpose != PURPOSE {
            let message = format!("the file '{id}' has the purpose '{}'; upload it with 'batch'", input.purpose);
            return Err(Refusal::invalid("input_file_id", message));
        }
        let mut warnings = Warnings::default();
        warnings.ignored_members(&request.ignored);
        if request.output_lifetime.is_some_and(|lifetime| lifetime > self.services.files.lifetime()) {
            warnings.note("clamped:output_expires_after");
        }
        let account = parts.headers.get(account::HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let batch = NewBatch {
            id: format!("batch_{}", Uuid::new_v4().simple()),
            input_file_id: request.input_file_id,
            endpoint: request.endpoint,
            completion_window: request.completion_window,
            metadata: request.metadata,
            account,
            output_seconds: request.output_lifetime.map(|lifetime| lifetime.as_secs()),
        };
        let id = batch.input_file_id.clone();
        let created = self.services.files.create_batch(&owner, batch).await;
        Ok((created.map_err(|error| failed(&error, "File", &id, "input_file_id"))?, warnings))
    }

    /// `POST /v1/batches/{id}/cancel`.
    pub(super) async fn cancel(self, Path(id): Path<String>, request: Request) -> Response {
        match self.services.files.cancel_batch(&owner(request.extensions()), &id).await {
            Ok(record) => {
                // A pause doesn't delay the end.
                self.state.batches.forget(record.number);
                self.state.batches.notify();
                json(&object(record))
            }
            Err(error) => refuse_unread(&failed(&error, "Batch", &id, "id"), request).await,
        }
    }
}

/// `GET /v1/batches/{id}`.
pub(super) async fn retrieve(
    State(services): State<Arc<Services>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    match services.files.find_batch(&owner(request.extensions()), &id).await {
        Ok(record) => json(&object(record)),
        Err(error) => refuse(&failed(&error, "Batch", &id, "id"), &request),
    }
}

/// `GET /v1/batches`.
pub(super) async fn list(State(services): State<Arc<Services>>, request: Request) -> Response {
    let query = match list_query(&request, DEFAULT_LISTED, MAX_LISTED) {
        Ok(query) => ListQuery { order: ListOrder::Descending, ..query },
        Err(error) => return refuse(&error, &request),
    };
    let after = query.after.clone();
    match services.files.list_batches(&owner(request.extensions()), query).await {
        Ok(listing) => page(listing, object, |batch: &BatchObject| &batch.id),
        Err(error) => refuse(&failed(&error, "Batch", &after.unwrap_or_default(), "after"), &request),
    }
}

fn object(record: BatchRecord) -> BatchObject {
    let BatchRecord { batch, status, times, errors, output_file_id, error_file_id, counts, .. } = record;
    let raw = |json: Option<String>| json.and_then(|json| RawValue::from_string(json).ok());
    BatchObject {
        id: batch.id,
        object: "batch",
        endpoint: batch.endpoint,
        errors: raw(errors).map(|data| BatchErrors { object: "list", data }),
        input_file_id: batch.input_file_id,
        completion_window: batch.completion_window,
        status: status.name(),
        output_file_id,
        error_file_id,
        created_at: times.created_at,
        in_progress_at: times.in_progress_at,
        expires_at: None,
        finalizing_at: times.finalizing_at,
        completed_at: times.completed_at,
        failed_at: times.failed_at,
        expired_at: None,
        cancelling_at: times.cancelling_at,
        cancelled_at: times.cancelled_at,
        request_counts: RequestCounts { total: counts.total, completed: counts.completed, failed: counts.failed },
        metadata: raw(batch.metadata),
    }
}
