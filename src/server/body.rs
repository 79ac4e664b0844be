//! Reads request bodies within the limits: undoes the content encoding, and holds the limit on the decoded size, the
//! memory of all requests ([`super::budget`]) and the slowest pace ([`super::pace`]). The rest of a refused body is
//! read and dropped for a while, so that the client reads why. A byte order mark is
//! skipped, and escapes that stand for half a character are replaced, so that every API reads the same text.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::Body;
use bytes::{Buf as _, BufMut as _, Bytes};
use futures_core::Stream;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use http_body_util::BodyExt;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead};
use tokio::time::{timeout, timeout_at};
use tokio_util::io::{StreamReader, poll_read_buf};

use super::budget::{ByteBudget, Reservation};
use super::handler::{Handler, Limits};
use super::pace::Pace;
use crate::blocking::off_thread;
use crate::error::ProxyError;
use crate::protocol::Dialect;
use crate::protocol::json::surrogates;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// How long, and how much, is taken from a client that has been refused.
const DISCARD_LIMIT: Duration = Duration::from_secs(2);
const DISCARD_LIMIT_BYTES: usize = 256 * 1024 * 1024;
/// The buffer of a body that is not announced as shorter. It doubles as the body arrives.
const FIRST_BYTES: usize = 64 * 1024;
/// How much is decoded at once.
const STEP_BYTES: usize = 256 * 1024;
/// The largest window of a zstd body: RFC 9659 allows none above 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;
/// The largest window of a decoder: Brotli's.
const WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// The limits that a body is read within.
#[derive(Debug)]
pub(super) struct BodyLimits {
    /// Largest decoded body.
    pub(super) limit_bytes: u64,
    /// Longest silence between two bytes.
    pub(super) silence: Duration,
    pub(super) memory: Arc<ByteBudget>,
}

/// A whole decoded body, and its memory.
#[derive(Debug)]
pub(super) struct BufferedBody {
    pub(super) bytes: Bytes,
    pub(super) memory: Reservation,
}

/// A buffer that reserves memory before it grows.
struct GrowingBuffer {
    bytes: Vec<u8>,
    memory: Reservation,
    /// Its largest size.
    limit_bytes: usize,
    /// The largest window that a decoder keeps of it.
    window_bytes: usize,
}

/// The whole decoded body.
pub(super) async fn read(headers: &HeaderMap, mut body: Body, intake: &BodyLimits) -> Result<BufferedBody, ProxyError> {
    let whole = match encoding(headers).as_str() {
        "" | "identity" => read_plain(headers, &mut body, intake).await,
        encoding => read_encoded(encoding, &mut body, intake).await,
    };
    match whole {
        Ok(BufferedBody { bytes, memory }) => {
            Ok(BufferedBody { bytes: off_thread(bytes.len(), || readable(bytes)), memory })
        }
        // It sends nothing that could be dropped.
        Err(error @ ProxyError::BodyTooSlow { .. }) => Err(error),
        Err(error) => {
            discard(headers, body).await;
            Err(error)
        }
    }
}

/// The JSON text of a body, as every reader accepts it.
fn readable(mut body: Bytes) -> Bytes {
    if body.starts_with(BYTE_ORDER_MARK) {
        // Some editors and shells write one; RFC 8259 lets a parser ignore it.
        body.advance(BYTE_ORDER_MARK.len());
    }
    surrogates::replaced_in_place(body)
}

/// Throws away what is still to come. Most clients look for the answer when they have sent
/// everything; a connection that is closed before that is reset, and the answer is lost with it.
pub(super) async fn discard(headers: &HeaderMap, mut body: Body) {
    if headers.contains_key(EXPECT) {
        // The client waits for leave to send, and gets its answer instead.
        return;
    }
    let taken = async {
        let mut left = DISCARD_LIMIT_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    // A client that takes longer has to do without the answer.
    let _ = timeout(DISCARD_LIMIT, taken).await;
}

fn encoding(headers: &HeaderMap) -> String {
    let texts = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    texts.collect::<Vec<_>>().join(",").trim().to_ascii_lowercase()
}

async fn read_plain(headers: &HeaderMap, body: &mut Body, intake: &BodyLimits) -> Result<BufferedBody, ProxyError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > intake.limit_bytes) {
        return Err(intake.too_large());
    }
    let mut gathered = GrowingBuffer::new(intake, announced.unwrap_or(intake.limit_bytes));
    let mut pace = Pace::new(intake.silence);
    while let Some(data) = next_data(body, &mut pace).await? {
        if gathered.bytes.is_empty() && announced == Some(data.len() as u64) {
            gathered.memory.buffer(data.len()).await?;
            return Ok(BufferedBody { bytes: data, memory: gathered.memory });
        }
        if (gathered.bytes.len() + data.len()) as u64 > intake.limit_bytes {
            return Err(intake.too_large());
        }
        if gathered.grow(data.len()).await? {
            pace.restart();
        }
        gathered.bytes.extend_from_slice(&data);
    }
    Ok(gathered.finish())
}

async fn read_encoded(encoding: &str, body: &mut Body, intake: &BodyLimits) -> Result<BufferedBody, ProxyError> {
    let mut reader = StreamReader::new(Box::pin(stream(body, intake.silence)));
    match encoding {
        "gzip" | "x-gzip" => {
            let mut decoder = GzipDecoder::new(reader);
            decoder.multiple_members(true);
            read_decoded(decoder, intake).await
        }
        "deflate" if is_zlib(&mut reader).await? => read_decoded(ZlibDecoder::new(reader), intake).await,
        "deflate" => read_decoded(DeflateDecoder::new(reader), intake).await,
        "br" => read_decoded(BrotliDecoder::new(reader), intake).await,
        "zstd" => {
            let window = DParameter::window_log_max(ZSTD_WINDOW_LOG);
            read_decoded(ZstdDecoder::with_params(reader, &[window]), intake).await
        }
        other => Err(ProxyError::UnsupportedEncoding { encoding: other.to_owned() }),
    }
}

/// The body's data as it arrives.
fn stream(body: &mut Body, silence: Duration) -> impl Stream<Item = io::Result<Bytes>> {
    futures_util::stream::try_unfold((body, Pace::new(silence)), |(body, mut pace)| async {
        let data = next_data(body, &mut pace).await.map_err(io::Error::other)?;
        Ok(data.map(|data| (data, (body, pace))))
    })
}

/// The next piece of data; `None` at the end of the body.
async fn next_data(body: &mut Body, pace: &mut Pace) -> Result<Option<Bytes>, ProxyError> {
    loop {
        let Ok(frame) = timeout_at(pace.deadline(), body.frame()).await else { return Err(pace.too_slow()) };
        let Some(frame) = frame else { return Ok(None) };
        if let Ok(data) = frame.map_err(|error| unreadable(&error))?.into_data() {
            pace.received(data.len());
            return Ok(Some(data));
        }
    }
}

/// `deflate` means zlib, yet some clients send the bare format: the first byte tells.
async fn is_zlib(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<bool, ProxyError> {
    let start = reader.fill_buf().await.map_err(cause)?;
    Ok(start.first().is_some_and(|first| first & 0x0f == 8))
}

async fn read_decoded(mut decoder: impl AsyncRead + Unpin, intake: &BodyLimits) -> Result<BufferedBody, ProxyError> {
    // One byte more distinguishes a body that is too large from one of the largest size.
    let mut gathered = GrowingBuffer::new(intake, intake.limit_bytes.saturating_add(1));
    gathered.window_bytes = WINDOW_BYTES;
    loop {
        gathered.grow(1).await?;
        let bytes = &mut gathered.bytes;
        let room = (bytes.capacity() - bytes.len()).min(STEP_BYTES);
        let read = poll_fn(|cx| {
            let mut step = (&mut *bytes).limit(room);
            off_thread(room, || poll_read_buf(Pin::new(&mut decoder), cx, &mut step))
        });
        let is_over = read.await.map_err(cause)? == 0;
        if gathered.bytes.len() as u64 > intake.limit_bytes {
            return Err(intake.too_large());
        }
        if is_over {
            gathered.window_bytes = 0;
            return Ok(gathered.finish());
        }
    }
}

impl<D: Dialect> Handler<D> {
    /// The limits that its bodies are read within.
    pub(super) fn intake(&self) -> BodyLimits {
        let Limits { body_bytes, body_read, .. } = self.limits;
        BodyLimits { limit_bytes: body_bytes, silence: body_read, memory: Arc::clone(&self.state.memory) }
    }
}

impl BodyLimits {
    fn too_large(&self) -> ProxyError {
        ProxyError::BodyTooLarge { limit_bytes: self.limit_bytes }
    }
}

impl GrowingBuffer {
    fn new(intake: &BodyLimits, limit_bytes: u64) -> Self {
        let limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        Self { bytes: Vec::new(), memory: intake.memory.reserve(), limit_bytes, window_bytes: 0 }
    }

    /// Makes room for so many bytes more; says whether it had to grow.
    async fn grow(&mut self, more_bytes: usize) -> Result<bool, ProxyError> {
        let wanted = self.bytes.len() + more_bytes;
        if wanted <= self.bytes.capacity() {
            return Ok(false);
        }
        let doubled = (self.bytes.capacity() * 2).max(FIRST_BYTES).min(self.limit_bytes).max(wanted);
        self.memory.buffer(doubled + doubled.min(self.window_bytes)).await?;
        self.bytes.reserve_exact(doubled - self.bytes.len());
        Ok(true)
    }

    /// The room that was not needed was never touched, and takes no memory.
    fn finish(mut self) -> BufferedBody {
        self.memory.shrink(self.bytes.len());
        BufferedBody { bytes: Bytes::from(self.bytes), memory: self.memory }
    }
}

/// What a failed read means: the limits that are held below the decoder arrive as its errors.
fn cause(error: io::Error) -> ProxyError {
    match error.downcast::<ProxyError>() {
        Ok(error) => error,
        Err(error) => unreadable(&error),
    }
}

fn unreadable(error: &dyn std::error::Error) -> ProxyError {
    ProxyError::BodyUnreadable { reason: error.to_string() }
}
