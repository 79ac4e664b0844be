//! Reads the bodies of requests within the limits: decoded size, memory of all requests ([`crate::budget`]) and rate
//! ([`super::pace`]).
//!
//! Removes the content encoding and, from JSON, a byte order mark, and replaces escaped lone surrogates, so that every
//! API reads the same text. The rest of a refused body is read and discarded, within limits, so that the client reads
//! the error.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, ZlibDecoder};
use axum::body::Body;
use bytes::{Buf as _, BufMut as _, Bytes};
use futures_core::Stream;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body_util::BodyExt;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead};
use tokio::time::{timeout, timeout_at};
use tokio_util::io::{StreamReader, poll_read_buf};

use super::handler::{Handler, Limits};
use super::pace::Pace;
use crate::blocking::off_thread;
use crate::budget::{BufferedBody, ByteBudget, GrowingBuffer};
use crate::content_encoding::{content_encoding, gzip_decoder, zstd_decoder};
use crate::error::ProxyError;
use crate::protocol::Dialect;
use crate::protocol::json::surrogates;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// Time limit for reading and discarding the rest of a refused body.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum size of the discarded part of a body.
const MAX_DISCARDED_BYTES: usize = 256 * 1024 * 1024;
/// Maximum number of bytes that are decoded at once.
const STEP_BYTES: usize = 256 * 1024;
/// The largest window of any decoder (Brotli's).
const WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// The limits for reading a body.
#[derive(Debug)]
pub(super) struct BodyLimits {
    /// Largest decoded body.
    pub(super) limit_bytes: u64,
    /// Longest pause between two bytes; see [`Pace`].
    pub(super) max_pause: Duration,
    pub(super) memory: Arc<ByteBudget>,
}

/// Reads a whole JSON body. Discards the rest of one that it refuses.
pub(super) async fn read(headers: &HeaderMap, body: Body, limits: &BodyLimits) -> Result<BufferedBody, ProxyError> {
    let BufferedBody { bytes, memory } = read_unchanged(headers, body, limits).await?;
    Ok(BufferedBody { bytes: off_thread(bytes.len(), || normalized(bytes)), memory })
}

/// Reads a whole body of any type. Discards the rest of one that it refuses.
pub(super) async fn read_unchanged(
    headers: &HeaderMap,
    mut body: Body,
    limits: &BodyLimits,
) -> Result<BufferedBody, ProxyError> {
    let whole = match content_encoding(headers).as_str() {
        "" | "identity" => read_plain(headers, &mut body, limits).await,
        encoding => read_encoded(encoding, &mut body, limits).await,
    };
    match whole {
        Ok(whole) => Ok(whole),
        // A client that is too slow sends nothing to discard.
        Err(error @ ProxyError::BodyTooSlow { .. }) => Err(error),
        Err(error) => {
            discard(headers, body).await;
            Err(error)
        }
    }
}

/// Removes a byte order mark, and replaces escaped lone surrogates.
fn normalized(mut body: Bytes) -> Bytes {
    if body.starts_with(BYTE_ORDER_MARK) {
        // Some editors and shells write one; RFC 8259 allows parsers to ignore it.
        body.advance(BYTE_ORDER_MARK.len());
    }
    surrogates::replaced_in_place(body)
}

/// Reads and discards the rest of a body. Most clients read the response after they have sent everything; closing the
/// connection earlier resets it, and the response is lost.
pub(super) async fn discard(headers: &HeaderMap, mut body: Body) {
    if headers.contains_key(EXPECT) {
        // The client waits for `100 Continue`, and gets the response instead.
        return;
    }
    let drained = async {
        let mut left = MAX_DISCARDED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(remaining) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = remaining;
        }
    };
    // A slower client loses the response.
    let _ = timeout(DISCARD_TIMEOUT, drained).await;
}

async fn read_plain(headers: &HeaderMap, body: &mut Body, limits: &BodyLimits) -> Result<BufferedBody, ProxyError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > limits.limit_bytes) {
        return Err(limits.too_large());
    }
    let mut buffer = GrowingBuffer::new(limits.memory.reserve(), announced.unwrap_or(limits.limit_bytes));
    let mut pace = Pace::new(limits.max_pause);
    while let Some(data) = next_data(body, &mut pace).await? {
        if buffer.bytes.is_empty() && announced == Some(data.len() as u64) {
            // The whole body arrived at once, and isn't copied.
            buffer.memory.set_buffered(data.len()).await?;
            return Ok(BufferedBody { bytes: data, memory: buffer.memory });
        }
        if (buffer.bytes.len() + data.len()) as u64 > limits.limit_bytes {
            return Err(limits.too_large());
        }
        if buffer.grow(data.len()).await? {
            pace.restart();
        }
        buffer.bytes.extend_from_slice(&data);
    }
    Ok(buffer.finish())
}

async fn read_encoded(encoding: &str, body: &mut Body, limits: &BodyLimits) -> Result<BufferedBody, ProxyError> {
    let mut reader = StreamReader::new(Box::pin(stream(body, limits.max_pause)));
    match encoding {
        "gzip" | "x-gzip" => read_decoded(gzip_decoder(reader), limits).await,
        "deflate" if is_zlib(&mut reader).await? => read_decoded(ZlibDecoder::new(reader), limits).await,
        "deflate" => read_decoded(DeflateDecoder::new(reader), limits).await,
        "br" => read_decoded(BrotliDecoder::new(reader), limits).await,
        "zstd" => read_decoded(zstd_decoder(reader), limits).await,
        other => Err(ProxyError::UnsupportedEncoding { encoding: other.to_owned() }),
    }
}

/// The body as a stream that fails if the client is too slow.
pub(super) fn stream(body: &mut Body, max_pause: Duration) -> impl Stream<Item = io::Result<Bytes>> {
    futures_util::stream::try_unfold((body, Pace::new(max_pause)), |(body, mut pace)| async {
        let data = next_data(body, &mut pace).await.map_err(io::Error::other)?;
        Ok(data.map(|data| (data, (body, pace))))
    })
}

/// The next data frame; `None` at the end of the body.
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

/// `deflate` means zlib, but some clients send raw deflate. The first byte distinguishes them.
async fn is_zlib(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<bool, ProxyError> {
    let start = reader.fill_buf().await.map_err(read_error)?;
    Ok(start.first().is_some_and(|first| first & 0x0f == 8))
}

async fn read_decoded(mut decoder: impl AsyncRead + Unpin, limits: &BodyLimits) -> Result<BufferedBody, ProxyError> {
    // The extra byte distinguishes a body that is too large from one of exactly the limit.
    let mut buffer = GrowingBuffer::new(limits.memory.reserve(), limits.limit_bytes.saturating_add(1));
    buffer.window_bytes = WINDOW_BYTES;
    loop {
        buffer.grow(1).await?;
        let bytes = &mut buffer.bytes;
        let room = (bytes.capacity() - bytes.len()).min(STEP_BYTES);
        let read = poll_fn(|cx| {
            let mut step = (&mut *bytes).limit(room);
            off_thread(room, || poll_read_buf(Pin::new(&mut decoder), cx, &mut step))
        });
        let is_over = read.await.map_err(read_error)? == 0;
        if buffer.bytes.len() as u64 > limits.limit_bytes {
            return Err(limits.too_large());
        }
        if is_over {
            buffer.window_bytes = 0;
            return Ok(buffer.finish());
        }
    }
}

impl<D: Dialect> Handler<D> {
    /// The limits for bodies of this handler's requests.
    pub(super) fn body_limits(&self) -> BodyLimits {
        BodyLimits::new(self.limits, &self.state.memory)
    }
}

impl BodyLimits {
    /// The limits for bodies of requests, with the memory that all of them share.
    pub(super) fn new(limits: Limits, memory: &Arc<ByteBudget>) -> Self {
        let Limits { body_bytes, body_read, .. } = limits;
        Self { limit_bytes: body_bytes, max_pause: body_read, memory: Arc::clone(memory) }
    }

    fn too_large(&self) -> ProxyError {
        ProxyError::BodyTooLarge { limit_bytes: self.limit_bytes }
    }
}

/// The cause of a read error. A decoder passes on errors from the stream below it as I/O errors.
pub(super) fn read_error(error: io::Error) -> ProxyError {
    match error.downcast::<ProxyError>() {
        Ok(error) => error,
        Err(error) => unreadable(&error),
    }
}

fn unreadable(error: &dyn std::error::Error) -> ProxyError {
    ProxyError::BodyUnreadable { reason: error.to_string() }
}
