//! Cassettes: recordings of requests to the backend and of its responses, for bug reports and playback.
//!
//! Attempts at `/responses` and at [side calls](super::side_call) are recorded. Each has a file with one JSON object
//! per line: the request, the head of the response, its events with their times, and its end. Everything is redacted
//! before it is written: only listed headers are kept, and in bodies only protocol words and some numbers. Recording
//! never delays a stream: if the writer falls behind, recordings that don't fit in its queue are dropped, even if they
//! have begun. `docs/cassettes.md` describes the format.

mod allowlist;
mod directory;
mod endpoint;
mod masking;
mod player;
mod recorder;
mod redact;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::error::ProxyError;
use crate::protocol::codex::lite;
use redact::{Redacted, Redactor};

pub(super) use endpoint::RecordedEndpoint;
pub(super) use player::Playback;
pub(super) use recorder::Recording;

pub use allowlist::is_protocol_word;
pub use directory::latest;
pub use masking::mask;
pub use player::{LoadError, Player};
pub use recorder::Recorder;

/// Version of the file format. Files of older versions must stay readable.
const SCHEMA: u32 = 2;
/// Version of the files of `/responses` requests: earlier releases can read them.
const RESPONSES_SCHEMA: u32 = 1;
/// Size limit of a recording: its bodies and events.
const MAX_RECORDING_BYTES: usize = 32 * 1024 * 1024;
/// Request headers that are recorded.
const REQUEST_HEADERS: &[&str] = &[
    "accept",
    "content-type",
    "openai-beta",
    "originator",
    "version",
    "x-codex-beta-features",
    "x-codex-routing-hint",
];
/// Response headers that are recorded, in addition to the quota headers.
const RESPONSE_HEADERS: &[&str] =
    &["content-type", "openai-model", "retry-after", "retry-after-ms", "x-models-etag", "x-reasoning-included"];

/// The content of a file: a recorded request and its response.
#[derive(Debug)]
pub(super) struct Cassette {
    head: Head,
    /// `None` if no response arrived.
    response: Option<Response>,
    events: Vec<Event>,
    end: End,
}

/// One line of a file. The times in it, `after_ms`, count from the start of the attempt.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Cassette(Head),
    /// Named `answer` in the file.
    #[serde(rename = "answer")]
    Response(Response),
    Event(Event),
    End(End),
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    schema: u32,
    /// The release that wrote the file.
    version: String,
    request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    /// Hash of the redacted body, by which the player finds the recordings of the endpoint.
    sha256: String,
    body: Content,
}

#[derive(Debug, Serialize, Deserialize)]
struct Response {
    after_ms: u64,
    status: u16,
    headers: BTreeMap<String, String>,
    /// Set if the response is not an event stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Content>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Event {
    after_ms: u64,
    data: Content,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct End {
    after_ms: u64,
    how: Outcome,
}

/// A redacted body or event: JSON, or text that isn't JSON, or only the size of other data.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Content {
    Json(Box<RawValue>),
    Text(String),
    SizeBytes(u64),
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Terminal event received, also that of a failed response; or the whole body, if it isn't an event stream.
    Whole,
    /// The connection ended before the terminal event.
    Cut,
    /// Timed out.
    Silent,
    /// A response with an error status, or one that isn't an event stream.
    Refused,
    /// The backend could not be reached.
    Unreachable,
    /// The response could not be parsed.
    Damaged,
    /// The stream was dropped before its end, usually because the client disconnected.
    Left,
}

impl Cassette {
    fn lines(self) -> impl Iterator<Item = Line> {
        let lines = [Some(Line::Cassette(self.head)), self.response.map(Line::Response)].into_iter().flatten();
        lines.chain(self.events.into_iter().map(Line::Event)).chain([Line::End(self.end)])
    }

    fn write(self, out: &mut impl Write) -> io::Result<()> {
        for line in self.lines() {
            serde_json::to_writer(&mut *out, &line)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// Reads the lines of a cassette, and redacts them once more, in case the file was edited or written by an older
/// release.
///
/// # Errors
/// The reason, if the file can't be read or is not a cassette.
pub fn read_redacted(path: &Path) -> Result<Vec<Box<RawValue>>, String> {
    let mut cassette = directory::read(path)?;
    let endpoint = cassette.head.request.endpoint();
    let mut redactor = Redactor::new(&endpoint);
    let redact_headers = |headers: &mut BTreeMap<String, String>, is_recorded: fn(&str) -> bool| {
        headers.retain(|name, _| is_recorded(name));
        for value in headers.values_mut() {
            *value = allowlist::header_value(value);
        }
    };
    let request = &mut cassette.head.request;
    redact_headers(&mut request.headers, is_recorded_request_header);
    request.body = request.body.redacted(&mut redactor);
    request.sha256 = request.body.sha256();
    endpoint.method().clone_into(&mut request.method);
    endpoint.path().clone_into(&mut request.path);
    cassette.head.version = allowlist::header_value(&cassette.head.version);
    if let Some(response) = &mut cassette.response {
        redact_headers(&mut response.headers, is_recorded_response_header);
        response.body = response.body.take().map(|body| body.redacted(&mut redactor));
    }
    for event in &mut cassette.events {
        event.data = redactor.event(&event.data.text()).into();
    }
    let line = |line| serde_json::value::to_raw_value(&line).map_err(|error| error.to_string());
    cassette.lines().map(line).collect()
}

impl Outcome {
    /// The outcome of an attempt that failed with this error.
    pub(super) fn of(error: &ProxyError) -> Self {
        match error {
            ProxyError::Silent { .. } => Self::Silent,
            ProxyError::Unreachable { .. } => Self::Unreachable,
            ProxyError::Truncated { .. } => Self::Cut,
            ProxyError::Upstream(failure) if failure.status.is_some() => Self::Refused,
            // A terminal event reported the failure.
            ProxyError::Upstream(_) => Self::Whole,
            _ => Self::Damaged,
        }
    }
}

impl Request {
    /// The endpoint, with its path redacted again.
    fn endpoint(&self) -> RecordedEndpoint {
        RecordedEndpoint::new(&self.method, &self.path)
    }
}

impl Content {
    /// Redacts a body. Of one that is neither JSON nor text, according to its headers, only the size is kept.
    fn of_body(redactor: &mut Redactor, headers: &HeaderMap, body: &[u8]) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if body.is_empty() || kind.contains("json") || kind.starts_with("text/") {
            return redactor.document(&String::from_utf8_lossy(body)).into();
        }
        Self::SizeBytes(body.len() as u64)
    }

    /// The JSON or text; for a size, its number.
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Json(json) => json.get().into(),
            Self::Text(text) => text.into(),
            Self::SizeBytes(size) => size.to_string().into(),
        }
    }

    /// The bytes to play: zeros if only the size is known.
    fn bytes(&self) -> Bytes {
        match self {
            Self::Json(_) | Self::Text(_) => Bytes::copy_from_slice(self.text().as_bytes()),
            Self::SizeBytes(size) => {
                // The file may have been edited.
                vec![0; usize::try_from(*size).map_or(MAX_RECORDING_BYTES, |size| size.min(MAX_RECORDING_BYTES))].into()
            }
        }
    }

    fn redacted(&self, redactor: &mut Redactor) -> Self {
        match self {
            Self::Json(_) | Self::Text(_) => redactor.document(&self.text()).into(),
            Self::SizeBytes(size) => Self::SizeBytes(*size),
        }
    }

    fn sha256(&self) -> String {
        format!("{:x}", Sha256::digest(self.text().as_bytes()))
    }
}

impl From<Redacted> for Content {
    fn from(redacted: Redacted) -> Self {
        match redacted {
            Redacted::Json(json) => Self::Json(json),
            Redacted::Text(text) => Self::Text(text),
        }
    }
}

/// Returns those headers that are recorded, redacted.
fn headers<'h>(all: &'h HeaderMap, is_recorded: impl Fn(&str) -> bool + 'h) -> BTreeMap<String, String> {
    let recorded = all.iter().filter(|(name, _)| is_recorded(name.as_str()));
    let texts = recorded.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    texts.map(|(name, value)| (name.to_owned(), allowlist::header_value(value))).collect()
}

fn is_recorded_request_header(name: &str) -> bool {
    REQUEST_HEADERS.contains(&name) || name == lite::HEADER
}

fn is_recorded_response_header(name: &str) -> bool {
    RESPONSE_HEADERS.contains(&name) || (name.starts_with("x-codex-") && name != "x-codex-turn-state")
}
