//! Cassettes: exchanges with the backend, written down for a bug report and played back.
//!
//! One file for each exchange, of one JSON object a line: the request, the head of the answer, its
//! events with their times, its end. What is written has gone through `redact` first: headers by an
//! allow-list, and of bodies only what the protocol itself says. The form is told in
//! `docs/cassettes.md`. Recording never holds a stream up; what can't be kept pace with is not
//! recorded.

mod allowlist;
mod directory;
mod masking;
mod player;
mod recorder;
mod redact;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::error::ProxyError;
use crate::protocol::codex::lite;
use redact::{Redacted, Redaction};

pub(super) use player::Reel;
pub(super) use recorder::Tape;

pub use allowlist::is_word;
pub use directory::latest;
pub use masking::of_text as shaped;
pub use player::{Player, Unplayable};
pub use recorder::Recorder;

/// The form of the files; older ones are still read when it changes.
const SCHEMA: u32 = 1;
/// What is recorded.
const METHOD: &str = "POST";
const PATH: &str = "/responses";
/// Headers of a request that may be written down.
const REQUEST_HEADERS: &[&str] = &[
    "accept",
    "content-type",
    "openai-beta",
    "originator",
    "version",
    "x-codex-beta-features",
    "x-codex-routing-hint",
];
/// Headers of an answer that may be written down, beside those of the quota.
const ANSWER_HEADERS: &[&str] =
    &["content-type", "openai-model", "retry-after", "retry-after-ms", "x-models-etag", "x-reasoning-included"];

/// One exchange as it was recorded.
#[derive(Debug)]
pub(super) struct Cassette {
    head: Head,
    answer: Option<Answer>,
    events: Vec<Event>,
    end: Ending,
}

/// One line of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Cassette(Head),
    Answer(Answer),
    Event(Event),
    End(Ending),
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    schema: u32,
    /// The release that has written it.
    version: String,
    request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    /// Of the body as it stands here.
    sha256: String,
    body: Content,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    after_ms: u64,
    status: u16,
    headers: BTreeMap<String, String>,
    /// Of an answer that is no stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Content>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Event {
    after_ms: u64,
    data: Content,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Ending {
    after_ms: u64,
    how: End,
}

/// JSON as it came, or a text that is none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Content {
    Json(Box<RawValue>),
    Text(String),
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// With its terminal event.
    Whole,
    /// The stream broke off.
    Cut,
    /// Nothing came any more.
    Silent,
    /// With a status that is a failure.
    Refused,
    /// Nobody was reached.
    Unreachable,
    /// It could not be made sense of.
    Damaged,
    /// The client went away.
    Left,
}

impl Cassette {
    fn lines(self) -> impl Iterator<Item = Line> {
        let lines = [Some(Line::Cassette(self.head)), self.answer.map(Line::Answer)].into_iter().flatten();
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

/// The lines of a cassette, redacted once more: whatever a file of that name holds, nothing private
/// comes out.
///
/// # Errors
/// When it can't be read, or is no cassette; in a few words.
pub fn copy(path: &Path) -> Result<Vec<Box<RawValue>>, String> {
    let mut cassette = directory::read(path)?;
    let mut redaction = Redaction::default();
    let again = |headers: &mut BTreeMap<String, String>, is_told: fn(&str) -> bool| {
        headers.retain(|name, _| is_told(name));
        for value in headers.values_mut() {
            *value = allowlist::header(value);
        }
    };
    let request = &mut cassette.head.request;
    again(&mut request.headers, is_told_of_request);
    let (content, sha256) = body(&mut redaction, request.body.text().as_bytes());
    (request.body, request.sha256) = (content, sha256);
    METHOD.clone_into(&mut request.method);
    PATH.clone_into(&mut request.path);
    cassette.head.version = allowlist::header(&cassette.head.version);
    if let Some(answer) = &mut cassette.answer {
        again(&mut answer.headers, is_told_of_answer);
        answer.body = answer.body.take().map(|body| redaction.document(body.text()).into());
    }
    for event in &mut cassette.events {
        event.data = redaction.event(event.data.text()).into();
    }
    let line = |line| serde_json::value::to_raw_value(&line).map_err(|error| error.to_string());
    cassette.lines().map(line).collect()
}

impl End {
    /// How an attempt ended that failed so.
    pub(super) fn of(error: &ProxyError) -> Self {
        match error {
            ProxyError::Silent { .. } => Self::Silent,
            ProxyError::Unreachable { .. } => Self::Unreachable,
            ProxyError::Truncated { .. } => Self::Cut,
            ProxyError::Upstream(failure) if failure.status.is_some() => Self::Refused,
            ProxyError::Upstream(_) => Self::Whole,
            _ => Self::Damaged,
        }
    }
}

impl Content {
    fn text(&self) -> &str {
        match self {
            Self::Json(json) => json.get(),
            Self::Text(text) => text,
        }
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

/// A body of a request as it may be written down, and what it is found by.
fn body(redaction: &mut Redaction, body: &[u8]) -> (Content, String) {
    let content = Content::from(redaction.document(&String::from_utf8_lossy(body)));
    let hex = Sha256::digest(content.text()).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a text takes any writing");
        hex
    });
    (content, hex)
}

fn headers<'h>(all: &'h http::HeaderMap, is_told: impl Fn(&str) -> bool + 'h) -> BTreeMap<String, String> {
    let told = all.iter().filter(|(name, _)| is_told(name.as_str()));
    let texts = told.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    texts.map(|(name, value)| (name.to_owned(), allowlist::header(value))).collect()
}

fn is_told_of_request(name: &str) -> bool {
    REQUEST_HEADERS.contains(&name) || name == lite::HEADER
}

fn is_told_of_answer(name: &str) -> bool {
    ANSWER_HEADERS.contains(&name) || (name.starts_with("x-codex-") && name != "x-codex-turn-state")
}
