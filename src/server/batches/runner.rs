//! Runs the lines of batches, one after the other, each as a request on behalf of the key that created its batch.
//!
//! The result of a line is stored before the next one starts. A line whose result isn't stored when the daemon ends is
//! run again after the next start. Batches take turns; one that has to wait doesn't delay the others.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::time::timeout;
use uuid::Uuid;

use super::activity::Obstacle;
use super::gate;
use crate::command_hint;
use crate::error::ProxyError;
use crate::history::{
    BatchLock, BatchRecord, BatchStatus, FileError, InputLine, LineOutcome, LinePosition, LineResult, OutputIds,
};
use crate::protocol::batches::{InputCheck, LineRequest, OutputResponse, response_line};
use crate::protocol::openai;
use crate::server::files::fresh_id;
use crate::server::internal_request::{ErrorClass, InternalRequest, InternalRoutes};
use crate::server::request_log::RequestId;
use crate::server::state::ServerState;
use crate::server::{Services, Settings};

/// How often the store is checked for batches of other processes, and for the right to run them.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// What the envelope of a line may have beside its body.
const ENVELOPE_BYTES: u64 = 64 * 1024;

/// Runs the batches of all clients.
#[derive(Debug)]
pub(in crate::server) struct BatchRunner {
    pub(super) services: Arc<Services>,
    pub(super) state: Arc<ServerState>,
    routes: InternalRoutes,
    /// `batch.window_percent`.
    pub(super) window_percent: u8,
    max_line_bytes: usize,
}

/// What was done for a batch.
enum Step {
    /// It has changed, and can go on.
    Progress,
    /// It has to wait.
    Blocked(Obstacle),
}

/// The response for a line.
struct LineResponse {
    status: StatusCode,
    request_id: String,
    warnings: Option<String>,
    body: Bytes,
    /// Set if the line is to be run again.
    retry: Option<Obstacle>,
}

impl BatchRunner {
    pub(in crate::server) fn new(
        settings: &Settings,
        services: &Arc<Services>,
        state: &Arc<ServerState>,
        routes: InternalRoutes,
    ) -> Self {
        Self {
            services: Arc::clone(services),
            state: Arc::clone(state),
            routes,
            window_percent: settings.batch_window_percent,
            max_line_bytes: usize::try_from(settings.body_limit_bytes.saturating_add(ENVELOPE_BYTES))
                .unwrap_or(usize::MAX),
        }
    }

    /// Runs batches until it is dropped, which ends the running line.
    pub(in crate::server) async fn run(&self) {
        let mut lock = None;
        loop {
            if let Some(wait) = self.round(&mut lock).await {
                let _ = timeout(wait, self.state.batches.changed()).await;
            }
        }
    }

    /// Does one step for each batch. Returns how long to wait before the next round; `None`: not at all.
    async fn round(&self, lock: &mut Option<BatchLock>) -> Option<Duration> {
        let active = match self.services.files.active_batches().await {
            Ok(active) => active,
            Err(error) => {
                tracing::warn!(%error, "batches can't be read");
                return Some(POLL_INTERVAL);
            }
        };
        if !active.is_empty() && lock.is_none() {
            *lock = self.services.files.lock_batches().await;
        }
        if active.is_empty() || lock.is_none() {
            return Some(POLL_INTERVAL);
        }
        let (mut wait, mut has_progress) = (POLL_INTERVAL, false);
        for batch in active {
            match self.step_or_wait(&batch).await {
                None => has_progress = true,
                Some(left) => wait = wait.min(left),
            }
        }
        (!has_progress).then_some(wait)
    }

    /// Does one step for a batch; returns how long it has to wait, if it has.
    async fn step_or_wait(&self, batch: &BatchRecord) -> Option<Duration> {
        let activity = &self.state.batches;
        // A cancelled batch ends at once.
        if batch.status != BatchStatus::Cancelling
            && let Some(left) = activity.remaining_pause(batch.number)
        {
            return Some(left);
        }
        let step = self.step(batch).await.unwrap_or_else(|error| {
            Step::Blocked(Obstacle { kind: "storage", reason: error.to_string(), wait: POLL_INTERVAL })
        });
        match step {
            Step::Progress => {
                if batch.status == BatchStatus::InProgress {
                    activity.resume(batch.number, &batch.batch.id);
                } else {
                    activity.forget(batch.number);
                }
                None
            }
            Step::Blocked(obstacle) => {
                let wait = obstacle.wait;
                activity.pause(batch.number, &batch.batch.id, obstacle);
                Some(wait)
            }
        }
    }

    async fn step(&self, batch: &BatchRecord) -> Result<Step, FileError> {
        match batch.status {
            BatchStatus::Validating => self.validate(batch).await.map(|()| Step::Progress),
            BatchStatus::InProgress => self.run_line(batch).await,
            BatchStatus::Finalizing | BatchStatus::Cancelling => {
                let ids = OutputIds { output: fresh_id(), error: fresh_id() };
                self.services.files.end_batch(batch.clone(), ids).await?;
                let counts = batch.counts;
                tracing::info!(batch = batch.batch.id, counts.completed, counts.failed, counts.total, "batch ended");
                Ok(Step::Progress)
            }
            BatchStatus::Failed | BatchStatus::Completed | BatchStatus::Cancelled => Ok(Step::Progress),
        }
    }

    /// Checks the input file.
    async fn validate(&self, batch: &BatchRecord) -> Result<(), FileError> {
        let files = &self.services.files;
        let check = InputCheck::new(batch.batch.endpoint.clone());
        let checked =
            files.visit_lines(&batch.batch.input_file_id, self.max_line_bytes, check, InputCheck::add).await?;
        match checked.finish() {
            Ok(total) => {
                tracing::info!(batch = batch.batch.id, total, "batch started");
                files.start_batch(batch.number, total).await
            }
            Err(errors) => {
                tracing::info!(batch = batch.batch.id, errors = errors.len(), "batch failed: its input is invalid");
                let errors = serde_json::to_string(&errors).expect("strings and numbers always serialize");
                files.fail_batch(batch.number, errors).await
            }
        }
    }

    /// Runs the next line, if it may start, and stores its result.
    async fn run_line(&self, batch: &BatchRecord) -> Result<Step, FileError> {
        let files = &self.services.files;
        let line = files.line(&batch.batch.input_file_id, batch.next.offset, self.max_line_bytes).await?;
        let Some(InputLine { bytes, next_offset }) = line else {
            files.finalize_batch(batch.number).await?;
            return Ok(Step::Progress);
        };
        let next = LinePosition { line: batch.next.line + 1, offset: next_offset };
        let bytes = bytes.unwrap_or_default();
        let result = if bytes.is_empty() {
            None
        } else {
            if let Some(obstacle) = self.obstacle(batch).await? {
                return Ok(Step::Blocked(obstacle));
            }
            // The file was checked, so this fails only if it was changed since.
            let Ok(request) = LineRequest::read(&bytes, &batch.batch.endpoint) else {
                return Err(FileError::Storage("the input file was changed on the disk".to_owned()));
            };
            let Some(response) = self.respond(batch, &request).await? else { return Ok(Step::Progress) };
            if let Some(obstacle) = response.retry {
                return Ok(Step::Blocked(obstacle));
            }
            Some(line_result(&request.custom_id, &response))
        };
        files.record_line(batch.number, batch.next.line, next, result).await?;
        Ok(Step::Progress)
    }

    /// The response for a line; `None` if the batch was cancelled meanwhile.
    async fn respond(&self, batch: &BatchRecord, request: &LineRequest<'_>) -> Result<Option<LineResponse>, FileError> {
        if let Err(error) = request.check_mode() {
            return Ok(Some(LineResponse::refused(&error)));
        }
        let request = InternalRequest {
            owner: batch.owner.clone(),
            method: Method::POST,
            path: batch.batch.endpoint.clone(),
            headers: gate::headers(batch),
            body: Bytes::copy_from_slice(request.body.get().as_bytes()),
        };
        let mut running = std::pin::pin!(self.run_request(batch, request));
        loop {
            tokio::select! {
                response = &mut running => return Ok(Some(response)),
                () = self.state.batches.changed() => {
                    if self.services.files.batch_status(batch.number).await? == BatchStatus::Cancelling {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn run_request(&self, batch: &BatchRecord, request: InternalRequest) -> LineResponse {
        let (head, body) = self.routes.run(request).await.into_parts();
        let class = head.extensions.get::<ErrorClass>().map(|ErrorClass(class)| *class);
        let (class, body) = match body.collect().await {
            Ok(body) => (class, body.to_bytes()),
            Err(_) => (Some(ProxyError::Internal.class()), Bytes::new()),
        };
        let retry = class.and_then(|class| self.retry(batch, class, &head.headers));
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (request_id, warnings) = (text("x-request-id").unwrap_or_default(), text("x-proxy-warnings"));
        LineResponse { status: head.status, request_id, warnings, body, retry }
    }
}

impl LineResponse {
    /// The response for a line that isn't run.
    fn refused(error: &ProxyError) -> Self {
        let (status, _, body) = openai::error::to_error_response(error, "input", command_hint::current());
        Self { status, request_id: RequestId::fresh().0, warnings: None, body, retry: None }
    }
}

fn line_result(custom_id: &str, response: &LineResponse) -> LineResult {
    let outcome = if response.status.is_success() { LineOutcome::Completed } else { LineOutcome::Failed };
    let id = format!("batch_req_{}", Uuid::new_v4().simple());
    let response = OutputResponse {
        status_code: response.status.as_u16(),
        request_id: &response.request_id,
        warnings: response.warnings.as_deref(),
        body: &response.body,
    };
    let text = response_line(&id, custom_id, &response);
    LineResult { outcome, text }
}
