//! Recording: what goes by is handed to a thread of its own, which redacts it and writes it down.
//!
//! An event costs a stream one push of a handle to bytes that are there anyway. The queue is bounded;
//! an exchange that does not fit into it is not recorded, and goes on as ever. A file is written
//! when its exchange is over.

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

use super::redact::Redaction;
use super::{Answer, Cassette, Content, End, Ending, Event, Head, Request, SCHEMA, directory};

/// What may wait for the thread.
const MAX_WAITING: usize = 8192;
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// The longest exchange that is written down.
const MAX_EXCHANGE_BYTES: usize = 32 * 1024 * 1024;

/// Writes down the exchanges that it is shown.
#[derive(Debug)]
pub struct Recorder {
    queue: Arc<Queue>,
    next: AtomicU64,
    thread: Option<JoinHandle<()>>,
}

/// One exchange that is being recorded. It ends with its last clone.
#[derive(Clone, Debug)]
pub(in crate::upstream) struct Tape(Arc<Running>);

#[derive(Debug)]
struct Running {
    number: u64,
    began: Instant,
    queue: Arc<Queue>,
    /// Set when something of it was lost.
    is_spoiled: AtomicBool,
    end: OnceLock<(u64, End)>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    has_come: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    notes: VecDeque<(u64, Note)>,
    bytes: usize,
    is_closed: bool,
}

/// Something to write down.
#[derive(Debug)]
enum Note {
    Request(HeaderMap, Bytes),
    /// Another connection is tried for the same request.
    Again,
    Answer(u64, u16, HeaderMap, Option<Bytes>),
    Event(u64, Bytes),
    /// `None`: something was lost.
    End(Option<Ending>),
}

impl Recorder {
    /// Begins to record into a directory, which is made where it is missing.
    ///
    /// # Errors
    /// When the directory or the thread can't be made.
    pub fn start(directory: PathBuf, now: SystemTime) -> io::Result<Self> {
        crate::fs::create_private_directory(&directory)?;
        let queue = Arc::new(Queue::default());
        let writer =
            Writer { began: humantime::format_rfc3339_seconds(now).to_string(), directory, exchanges: HashMap::new() };
        let read = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("recorder".to_owned()).spawn(move || writer.work(&read))?;
        Ok(Self { queue, next: AtomicU64::new(1), thread: Some(thread) })
    }

    /// Begins with an exchange.
    pub(in crate::upstream) fn tape(&self, headers: &HeaderMap, body: &Bytes) -> Tape {
        let tape = Tape(Arc::new(Running {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            began: Instant::now(),
            queue: Arc::clone(&self.queue),
            is_spoiled: AtomicBool::new(false),
            end: OnceLock::new(),
        }));
        // The token is not even handed to the thread.
        let mut headers = headers.clone();
        headers.remove(http::header::AUTHORIZATION);
        tape.note(Note::Request(headers, body.clone()), body.len());
        tape
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queue.lock().is_closed = true;
        self.queue.has_come.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has told of its own trouble.
            let _ = thread.join();
        }
    }
}

impl Tape {
    /// What came so far is of no use; the request is sent again.
    pub(in crate::upstream) fn rewind(&self) {
        self.note(Note::Again, 0);
    }

    /// The head of the answer, and its body where it is no stream.
    pub(in crate::upstream) fn answer(&self, status: u16, headers: &HeaderMap, body: Option<Bytes>) {
        let size = body.as_ref().map_or(0, Bytes::len);
        self.note(Note::Answer(self.elapsed(), status, headers.clone(), body), size);
    }

    /// An event.
    pub(in crate::upstream) fn event(&self, data: &Bytes) {
        self.note(Note::Event(self.elapsed(), data.clone()), data.len());
    }

    /// How it ended; said once.
    pub(in crate::upstream) fn end(&self, how: End) {
        // What was said first came first.
        let _ = self.0.end.set((self.elapsed(), how));
    }

    fn elapsed(&self) -> u64 {
        self.0.elapsed()
    }

    fn note(&self, note: Note, size: usize) {
        if !self.0.is_spoiled.load(Ordering::Relaxed) && !self.0.queue.push(self.0.number, note, size) {
            self.0.is_spoiled.store(true, Ordering::Relaxed);
        }
    }
}

impl Running {
    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (after_ms, how) = self.end.get().copied().unwrap_or_else(|| (self.elapsed(), End::Left));
        let is_whole = !*self.is_spoiled.get_mut();
        self.queue.push_end(self.number, is_whole.then_some(Ending { after_ms, how }));
    }
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was room.
    fn push(&self, number: u64, note: Note, size: usize) -> bool {
        let mut waiting = self.lock();
        let has_room = waiting.notes.len() < MAX_WAITING && waiting.bytes + size <= MAX_WAITING_BYTES;
        if has_room {
            waiting.bytes += size;
            waiting.notes.push_back((number, note));
            self.has_come.notify_one();
        }
        has_room
    }

    /// An end always has room: there are no more of them than exchanges.
    fn push_end(&self, number: u64, end: Option<Ending>) {
        self.lock().notes.push_back((number, Note::End(end)));
        self.has_come.notify_one();
    }

    /// The next note; `None` when no more come.
    fn next(&self) -> Option<(u64, Note)> {
        let mut waiting = self.lock();
        loop {
            if let Some((number, note)) = waiting.notes.pop_front() {
                waiting.bytes = waiting.bytes.saturating_sub(note.size());
                return Some((number, note));
            }
            if waiting.is_closed {
                return None;
            }
            waiting = self.has_come.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Note {
    fn size(&self) -> usize {
        match self {
            Self::Request(_, bytes) | Self::Event(_, bytes) | Self::Answer(_, _, _, Some(bytes)) => bytes.len(),
            Self::Again | Self::Answer(_, _, _, None) | Self::End(_) => 0,
        }
    }
}

/// Gathers exchanges, and writes each when it is over.
struct Writer {
    directory: PathBuf,
    began: String,
    exchanges: HashMap<u64, Exchange>,
}

/// What has come of an exchange, as it may be written down.
struct Exchange {
    redaction: Redaction,
    head: Head,
    answer: Option<Answer>,
    events: Vec<Event>,
    size: usize,
}

impl Writer {
    fn work(mut self, queue: &Queue) {
        while let Some((number, note)) = queue.next() {
            self.take(number, note);
        }
    }

    fn take(&mut self, number: u64, note: Note) {
        let size = note.size();
        if let Note::Request(headers, body) = note {
            self.exchanges.insert(number, Exchange::new(&headers, &body));
            return;
        }
        let Some(exchange) = self.exchanges.get_mut(&number) else { return };
        exchange.size += size;
        if let Note::End(end) = note {
            let exchange = self.exchanges.remove(&number);
            if let (Some(exchange), Some(end)) = (exchange, end) {
                self.write(number, exchange, end);
            } else {
                tracing::warn!(number, "an exchange was not recorded: it came faster than it could be written down");
            }
        } else if exchange.size <= MAX_EXCHANGE_BYTES {
            exchange.take(note);
        } else {
            self.exchanges.remove(&number);
            tracing::warn!(number, limit_bytes = MAX_EXCHANGE_BYTES, "an exchange is too long to be recorded");
        }
    }

    fn write(&self, number: u64, exchange: Exchange, end: Ending) {
        let Exchange { head, answer, events, .. } = exchange;
        let cassette = Cassette { head, answer, events, end };
        if let Err(error) = directory::put(&self.directory, &directory::name(&self.began, number), cassette) {
            tracing::warn!(%error, number, "an exchange could not be recorded");
        }
    }
}

impl Exchange {
    fn new(headers: &HeaderMap, body: &Bytes) -> Self {
        let mut redaction = Redaction::default();
        let (content, sha256) = super::body(&mut redaction, body);
        let request = Request {
            method: super::METHOD.to_owned(),
            path: super::PATH.to_owned(),
            headers: super::headers(headers, super::is_told_of_request),
            sha256,
            body: content,
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let head = Head { schema: SCHEMA, version, request };
        Self { redaction, head, answer: None, events: Vec::new(), size: body.len() }
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Answer(after_ms, status, headers, body) => {
                let body = body.map(|body| Content::from(self.redaction.document(&String::from_utf8_lossy(&body))));
                let headers = super::headers(&headers, super::is_told_of_answer);
                self.answer = Some(Answer { after_ms, status, headers, body });
            }
            Note::Event(after_ms, data) => {
                let data = Content::from(self.redaction.event(&String::from_utf8_lossy(&data)));
                self.events.push(Event { after_ms, data });
            }
            Note::Again => {
                self.answer = None;
                self.events.clear();
            }
            Note::Request(..) | Note::End(_) => {}
        }
    }
}
