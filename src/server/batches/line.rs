//! Runs one line of a batch.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use uuid::Uuid;

use super::activity::Obstacle;
use super::gate;
use super::runner::BatchRunner;
use crate::blocking::off_thread;
use crate::budget::Reservation;
use crate::command_hint;
use crate::error::ProxyError;
use crate::history::{BatchRecord, BatchStatus, FileError, InputLine, LineOutcome, LinePosition, LineResult};
use crate::protocol::batches::{LineRequest, OutputResponse, response_line};
use crate::protocol::openai;
use crate::server::internal_request::{InternalRequest, ReportedError};
use crate::server::request_log::RequestId;

/// Longer lines count against `limits.memory`.
const SHORT_LINE_BYTES: usize = 256 * 1024;
/// The endpoint whose responses are stored by default.
const STORING_ENDPOINT: &str = "/v1/responses";

/// How an attempt to run the next line of a batch ended.
pub(super) enum LineEnd {
    /// The line has a result.
    Result(NewResult),
    /// It has to wait.
    Blocked(Obstacle),
    /// The batch was cancelled before the line was sent.
    Cancelled,
    /// There is no further line.
    NoLine,
}

/// A result that isn't stored yet.
#[derive(Debug)]
pub(super) struct NewResult {
    /// The number and the id of the batch.
    pub(super) number: i64,
    pub(super) id: String,
    /// The number of the line.
    pub(super) line: u64,
    /// The line after it.
    pub(super) next: LinePosition,
    pub(super) result: LineResult,
}

/// A line in memory.
struct Line {
    bytes: Bytes,
    next_offset: u64,
    memory: Reservation,
}

/// The request in a line.
struct ParsedLine {
    custom_id: String,
    body: Bytes,
    /// Why it isn't sent.
    refusal: Option<ProxyError>,
}

/// The response for a line.
struct LineResponse {
    status: StatusCode,
    request_id: String,
    warnings: Option<String>,
    body: Bytes,
}

impl BatchRunner {
    /// Runs the next line of a batch, if it may start.
    pub(super) async fn run_line(&self, batch: &BatchRecord) -> Result<LineEnd, FileError> {
        let line = match self.read_line(batch).await? {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(LineEnd::NoLine),
            Err(error) => return Ok(LineEnd::Blocked(self.obstacle_of(batch, &error).await?)),
        };
        let Line { bytes, next_offset, memory } = line;
        let parsed = off_thread(bytes.len(), || parse(&bytes, &batch.batch.endpoint));
        drop(bytes);
        // The file was checked, so this fails only if it was changed since.
        let changed = || FileError::Storage("the input file was changed on the disk".to_owned());
        let ParsedLine { custom_id, body, refusal } = parsed.ok_or_else(changed)?;
        if let Some(obstacle) = self.obstacle(batch).await? {
            return Ok(LineEnd::Blocked(obstacle));
        }
        if self.services.files.batch_status(batch.number).await? != BatchStatus::InProgress {
            return Ok(LineEnd::Cancelled);
        }
        let response = if let Some(error) = refusal {
            LineResponse::refused(&error)
        } else {
            // The handler reserves memory for the body itself.
            drop(memory);
            match self.respond(batch, body).await? {
                Ok(response) => response,
                Err(obstacle) => return Ok(LineEnd::Blocked(obstacle)),
            }
        };
        let next = LinePosition { line: batch.next.line + 1, offset: next_offset };
        let result = off_thread(response.body.len(), || line_result(&custom_id, &response));
        let (number, id, line) = (batch.number, batch.batch.id.clone(), batch.next.line);
        Ok(LineEnd::Result(NewResult { number, id, line, next, result }))
    }

    /// Reads the next line, whatever its length: it was checked with the limit in force then. The inner error is a lack
    /// of memory.
    async fn read_line(&self, batch: &BatchRecord) -> Result<Result<Option<Line>, ProxyError>, FileError> {
        let (files, id, offset) = (&self.services.files, &batch.batch.input_file_id, batch.next.offset);
        let mut memory = self.state.memory.reserve();
        let mut limit_bytes = SHORT_LINE_BYTES;
        loop {
            match files.line(id, offset, limit_bytes).await? {
                None => return Ok(Ok(None)),
                Some(InputLine { bytes: Some(bytes), next_offset }) => {
                    return Ok(Ok(Some(Line { bytes: bytes.into(), next_offset, memory })));
                }
                Some(InputLine { bytes: None, next_offset }) => {
                    limit_bytes = usize::try_from(next_offset - offset).unwrap_or(usize::MAX);
                    // The body may be copied once, to add a member.
                    if let Err(error) = memory.set_buffered(limit_bytes.saturating_mul(2)).await {
                        return Ok(Err(error));
                    }
                }
            }
        }
    }

    /// Sends a line; the inner error is why it is to be sent again.
    async fn respond(&self, batch: &BatchRecord, body: Bytes) -> Result<Result<LineResponse, Obstacle>, FileError> {
        let request = InternalRequest {
            owner: batch.owner.clone(),
            method: Method::POST,
            path: batch.batch.endpoint.clone(),
            headers: gate::headers(batch),
            body,
            extensions: self.extensions(),
        };
        let (head, body) = match self.routes.run(request).await {
            Ok(response) => response.into_parts(),
            Err(error) => return Ok(Err(self.obstacle_of(batch, &error).await?)),
        };
        let reported = head.extensions.get::<ReportedError>().map(|ReportedError(error)| Arc::clone(error));
        let unexplained = || head.status.is_server_error().then(|| Arc::new(ProxyError::Internal));
        let (error, body) = match body.collect().await {
            Ok(body) => (reported.or_else(unexplained), body.to_bytes()),
            Err(_) => (Some(Arc::new(ProxyError::Internal)), Bytes::new()),
        };
        if let Some(obstacle) = error.and_then(|error| self.retry(batch, &error, &head.headers)) {
            return Ok(Err(obstacle));
        }
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (request_id, warnings) = (header("x-request-id").unwrap_or_default(), header("x-proxy-warnings"));
        Ok(Ok(LineResponse { status: head.status, request_id, warnings, body }))
    }
}

/// Reads a line; `None` if it isn't a request for this endpoint.
fn parse(line: &Bytes, endpoint: &str) -> Option<ParsedLine> {
    let request = LineRequest::read(line, endpoint).ok()?;
    let refusal = request.check_mode().err();
    // Responses of a long batch would otherwise replace those that clients have stored.
    let unstored = if endpoint == STORING_ENDPOINT { request.unstored_body() } else { None };
    let body = unstored.map_or_else(|| line.slice_ref(request.body.get().as_bytes()), Bytes::from);
    Some(ParsedLine { custom_id: request.custom_id, body, refusal })
}

impl LineResponse {
    /// The response for a line that isn't sent.
    fn refused(error: &ProxyError) -> Self {
        let (status, _, body) = openai::error::to_error_response(error, "input", command_hint::current());
        Self { status, request_id: RequestId::fresh().0, warnings: None, body }
    }
}

fn line_result(custom_id: &str, response: &LineResponse) -> LineResult {
    let LineResponse { status, request_id, warnings, body } = response;
    let outcome = if status.is_success() { LineOutcome::Completed } else { LineOutcome::Failed };
    let id = format!("batch_req_{}", Uuid::new_v4().simple());
    let (status_code, warnings) = (status.as_u16(), warnings.as_deref());
    let text = response_line(&id, custom_id, &OutputResponse { status_code, request_id, warnings, body });
    LineResult { outcome, text }
}
