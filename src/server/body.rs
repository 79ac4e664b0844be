//! Reads a request body: undoes its content encoding, and holds the limit on the decoded size,
//! so that a small body can't grow into a large one. What is refused is still taken from the
//! client for a while, so that it gets to read why.

use std::time::Duration;

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use http_body_util::{BodyDataStream, BodyExt};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt};
use tokio::time::timeout;
use tokio_util::io::StreamReader;

use crate::error::ProxyError;

/// How long, and how much, is taken from a client that has been refused.
const DISCARD_LIMIT: Duration = Duration::from_secs(2);
const DISCARD_LIMIT_BYTES: usize = 256 * 1024 * 1024;

/// The whole decoded body.
pub(super) async fn read(headers: &HeaderMap, mut body: Body, limit_bytes: u64) -> Result<Bytes, ProxyError> {
    let whole = match encoding(headers).as_str() {
        "" | "identity" => read_plain(headers, &mut body, limit_bytes).await,
        encoding => read_encoded(encoding, &mut body, limit_bytes).await,
    };
    if whole.is_err() {
        discard(headers, body).await;
    }
    whole
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

async fn read_plain(headers: &HeaderMap, body: &mut Body, limit_bytes: u64) -> Result<Bytes, ProxyError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
    if announced > limit_bytes {
        return Err(ProxyError::BodyTooLarge { limit_bytes });
    }
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| unreadable(&error))?.into_data() else { continue };
        if gathered.is_empty() && data.len() as u64 == announced {
            return Ok(data);
        }
        if (gathered.len() + data.len()) as u64 > limit_bytes {
            return Err(ProxyError::BodyTooLarge { limit_bytes });
        }
        if gathered.is_empty() {
            gathered.reserve(usize::try_from(announced).unwrap_or(0).max(data.len()));
        }
        gathered.extend_from_slice(&data);
    }
    Ok(gathered.freeze())
}

async fn read_encoded(encoding: &str, body: &mut Body, limit_bytes: u64) -> Result<Bytes, ProxyError> {
    let mut reader = StreamReader::new(TryStreamExt::map_err(BodyDataStream::new(body), std::io::Error::other));
    match encoding {
        "gzip" | "x-gzip" => {
            let mut decoder = GzipDecoder::new(reader);
            decoder.multiple_members(true);
            read_limited(decoder, limit_bytes).await
        }
        "deflate" if is_zlib(&mut reader).await? => read_limited(ZlibDecoder::new(reader), limit_bytes).await,
        "deflate" => read_limited(DeflateDecoder::new(reader), limit_bytes).await,
        "br" => read_limited(BrotliDecoder::new(reader), limit_bytes).await,
        "zstd" => read_limited(ZstdDecoder::new(reader), limit_bytes).await,
        other => Err(ProxyError::UnsupportedEncoding { encoding: other.to_owned() }),
    }
}

/// `deflate` means zlib, yet some clients send the bare format: the first byte tells.
async fn is_zlib(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<bool, ProxyError> {
    let start = reader.fill_buf().await.map_err(|error| unreadable(&error))?;
    Ok(start.first().is_some_and(|first| first & 0x0f == 8))
}

async fn read_limited(decoder: impl AsyncRead + Unpin, limit_bytes: u64) -> Result<Bytes, ProxyError> {
    let mut gathered = Vec::new();
    let mut limited = decoder.take(limit_bytes.saturating_add(1));
    limited.read_to_end(&mut gathered).await.map_err(|error| unreadable(&error))?;
    if gathered.len() as u64 > limit_bytes {
        return Err(ProxyError::BodyTooLarge { limit_bytes });
    }
    Ok(Bytes::from(gathered))
}

fn unreadable(error: &dyn std::error::Error) -> ProxyError {
    ProxyError::BodyUnreadable { reason: error.to_string() }
}
