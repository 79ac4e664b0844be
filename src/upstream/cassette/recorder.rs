//! Records requests and responses; a separate thread redacts them and writes the files.
//!
//! A stream only pushes a handle to each event into a bounded queue. If the queue is full, the recording is discarded
//! and the response continues normally. The file of a recording is written when its response has ended.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::redact::Redactor;
use super::{
    Cassette, Content, End, Event, Head, MAX_RECORDING_BYTES, Outcome, RESPONSES_SCHEMA, RecordedEndpoint, Request,
    Response, SCHEMA, directory,
};
use crate::clock::rfc3339;

/// Limits of the queue: parts, and the size of their bodies and events.
const MAX_QUEUED: usize = 8192;
const MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// Starts recordings, and owns the writer thread. Dropping it waits until the queued parts are written.
#[derive(Debug)]
pub struct Recorder {
    queue: Arc<Queue>,
    /// Number of the next recording.
    next: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

/// The recording of one attempt. It ends, and is written, when its last clone is dropped.
#[derive(Clone, Debug)]
pub(in crate::upstream) struct Recording(Arc<RecordingState>);

#[derive(Debug)]
struct RecordingState {
    number: u64,
    started: Instant,
    queue: Arc<Queue>,
    /// Set if a part did not fit into the queue.
    is_incomplete: AtomicBool,
    /// Milliseconds since the start, and how the response ended.
    end: OnceLock<(u64, Outcome)>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    /// Each with the number of its recording.
    parts: VecDeque<(u64, Part)>,
    bytes: usize,
    is_closed: bool,
}

/// A part of a recording. Times are milliseconds since its start.
#[derive(Debug)]
enum Part {
    Request(RecordedEndpoint, HeaderMap, Bytes),
    /// The response so far is discarded, because the request is sent again on another connection.
    Restart,
    /// Time, status, headers, and body if it isn't an event stream and has been read completely.
    Response(u64, u16, HeaderMap, Option<Bytes>),
    /// The next part of a body that isn't an event stream.
    Chunk(Bytes),
    Event(u64, Bytes),
    /// `None` if the recording is incomplete, and therefore not written.
    End(Option<End>),
}

impl Recorder {
    /// Starts the writer thread, and creates the directory if it doesn't exist.
    ///
    /// # Errors
    /// If the directory or the thread can't be created.
    pub fn start(directory: PathBuf, now: SystemTime) -> io::Result<Self> {
        crate::fs::create_private_directory(&directory)?;
        let queue = Arc::new(Queue::default());
        let writer = Writer { started: rfc3339(now), directory, recordings: HashMap::new() };
        let reader = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("recorder".to_owned()).spawn(move || writer.run(&reader))?;
        Ok(Self { queue, next: AtomicU64::new(1), thread: Some(thread) })
    }

    /// Starts the recording of an attempt. `headers` are those of the HTTP request, also for a WebSocket.
    pub(in crate::upstream) fn start_recording(
        &self,
        endpoint: RecordedEndpoint,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Recording {
        let recording = Recording(Arc::new(RecordingState {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            started: Instant::now(),
            queue: Arc::clone(&self.queue),
            is_incomplete: AtomicBool::new(false),
            end: OnceLock::new(),
        }));
        // The token never reaches the writer.
        let mut headers = headers.clone();
        headers.remove(http::header::AUTHORIZATION);
        recording.push(Part::Request(endpoint, headers, body.clone()), body.len());
        recording
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread has logged its errors.
            let _ = thread.join();
        }
    }
}

impl Recording {
    /// Discards the response so far, because the request is sent again.
    pub(in crate::upstream) fn restart(&self) {
        self.push(Part::Restart, 0);
    }

    /// Records the head of the response, and its body if it isn't a stream.
    pub(in crate::upstream) fn response(&self, status: u16, headers: &HeaderMap, body: Option<Bytes>) {
        let size = body.as_ref().map_or(0, Bytes::len);
        self.push(Part::Response(self.elapsed(), status, headers.clone(), body), size);
    }

    /// Records the next part of a body that isn't an event stream.
    pub(in crate::upstream) fn chunk(&self, bytes: &Bytes) {
        self.push(Part::Chunk(bytes.clone()), bytes.len());
    }

    /// Records an event.
    pub(in crate::upstream) fn event(&self, data: &Bytes) {
        self.push(Part::Event(self.elapsed(), data.clone()), data.len());
    }

    /// Records how the response ended. Only the first call counts; without one, it ended because the stream was
    /// dropped.
    pub(in crate::upstream) fn end(&self, how: Outcome) {
        let _ = self.0.end.set((self.elapsed(), how));
    }

    fn elapsed(&self) -> u64 {
        self.0.elapsed()
    }

    fn push(&self, part: Part, size: usize) {
        if !self.0.is_incomplete.load(Ordering::Relaxed) && !self.0.queue.push(self.0.number, part, size) {
            self.0.is_incomplete.store(true, Ordering::Relaxed);
        }
    }
}

impl RecordingState {
    fn elapsed(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for RecordingState {
    fn drop(&mut self) {
        let (after_ms, how) = self.end.get().copied().unwrap_or_else(|| (self.elapsed(), Outcome::Left));
        let is_complete = !*self.is_incomplete.get_mut();
        self.queue.push_end(self.number, is_complete.then_some(End { after_ms, how }));
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a part if it fits. Returns whether it did.
    fn push(&self, number: u64, part: Part, size: usize) -> bool {
        let mut state = self.lock();
        let has_room = state.parts.len() < MAX_QUEUED && state.bytes + size <= MAX_QUEUED_BYTES;
        if has_room {
            state.bytes += size;
            state.parts.push_back((number, part));
            self.changed.notify_one();
        }
        has_room
    }

    /// Adds an end even if the queue is full: there is only one per recording, and without it the writer would keep the
    /// other parts.
    fn push_end(&self, number: u64, end: Option<End>) {
        self.lock().parts.push_back((number, Part::End(end)));
        self.changed.notify_one();
    }

    /// Waits for the next part. `None` once the queue is closed and empty.
    fn next(&self) -> Option<(u64, Part)> {
        let mut state = self.lock();
        loop {
            if let Some((number, part)) = state.parts.pop_front() {
                state.bytes = state.bytes.saturating_sub(part.size());
                return Some((number, part));
            }
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Part {
    fn size(&self) -> usize {
        match self {
            Self::Request(_, _, bytes)
            | Self::Chunk(bytes)
            | Self::Event(_, bytes)
            | Self::Response(_, _, _, Some(bytes)) => bytes.len(),
            Self::Restart | Self::Response(_, _, _, None) | Self::End(_) => 0,
        }
    }
}

/// Collects and redacts the parts of each recording, and writes the file at its end.
struct Writer {
    directory: PathBuf,
    /// When recording started, for the file names.
    started: String,
    /// By number.
    recordings: HashMap<u64, PendingCassette>,
}

/// The redacted parts of a recording.
struct PendingCassette {
    redactor: Redactor,
    head: Head,
    response: Option<Response>,
    /// The headers of the response, and the chunks of its body so far.
    body: Option<(HeaderMap, Vec<u8>)>,
    events: Vec<Event>,
    /// Bytes before redaction.
    size: usize,
}

impl Writer {
    fn run(mut self, queue: &Queue) {
        while let Some((number, part)) = queue.next() {
            self.add(number, part);
        }
    }

    fn add(&mut self, number: u64, part: Part) {
        let size = part.size();
        if let Part::Request(endpoint, headers, body) = part {
            self.recordings.insert(number, PendingCassette::new(&endpoint, &headers, &body));
            return;
        }
        let Some(pending) = self.recordings.get_mut(&number) else { return };
        pending.size += size;
        if let Part::End(end) = part {
            let pending = self.recordings.remove(&number);
            if let (Some(pending), Some(end)) = (pending, end) {
                self.write(number, pending, end);
            } else {
                tracing::warn!(number, "a response was not recorded: the recorder fell behind");
            }
        } else if pending.size <= MAX_RECORDING_BYTES {
            pending.add(part);
        } else {
            self.recordings.remove(&number);
            tracing::warn!(number, limit_bytes = MAX_RECORDING_BYTES, "a response is too large to be recorded");
        }
    }

    fn write(&self, number: u64, pending: PendingCassette, end: End) {
        let cassette = pending.finish(end);
        if let Err(error) = directory::put(&self.directory, &directory::name(&self.started, number), cassette) {
            tracing::warn!(%error, number, "a cassette could not be written");
        }
    }
}

impl PendingCassette {
    fn new(endpoint: &RecordedEndpoint, headers: &HeaderMap, body: &Bytes) -> Self {
        let mut redactor = Redactor::new(endpoint);
        let content = Content::of_body(&mut redactor, headers, body);
        let request = Request {
            method: endpoint.method().to_owned(),
            path: endpoint.path().to_owned(),
            headers: super::headers(headers, super::is_recorded_request_header),
            sha256: content.sha256(),
            body: content,
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let schema = if endpoint.is_responses() { RESPONSES_SCHEMA } else { SCHEMA };
        let head = Head { schema, version, request };
        Self { redactor, head, response: None, body: None, events: Vec::new(), size: body.len() }
    }

    fn add(&mut self, part: Part) {
        match part {
            Part::Response(after_ms, status, headers, body) => {
                let body = body.map(|body| Content::from(self.redactor.document(&String::from_utf8_lossy(&body))));
                let recorded = super::headers(&headers, super::is_recorded_response_header);
                self.response = Some(Response { after_ms, status, headers: recorded, body });
                self.body = Some((headers, Vec::new()));
            }
            Part::Chunk(bytes) => {
                if let Some((_, body)) = &mut self.body {
                    body.extend_from_slice(&bytes);
                }
            }
            Part::Event(after_ms, data) => {
                let data = Content::from(self.redactor.event(&String::from_utf8_lossy(&data)));
                self.events.push(Event { after_ms, data });
            }
            Part::Restart => {
                self.response = None;
                self.body = None;
                self.events.clear();
            }
            Part::Request(..) | Part::End(_) => {}
        }
    }

    fn finish(mut self, end: End) -> Cassette {
        let is_responses = self.head.request.endpoint().is_responses();
        if let (Some(response), Some((headers, body))) = (&mut self.response, self.body)
            && response.body.is_none()
            && !is_responses
        {
            response.body = Some(Content::of_body(&mut self.redactor, &headers, &body));
        }
        Cassette { head: self.head, response: self.response, events: self.events, end }
    }
}
