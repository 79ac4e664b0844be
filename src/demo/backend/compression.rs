//! Compresses responses with zstd or gzip if the request accepts it, as the real backend may do.
//!
//! The encoder is flushed after each chunk of the body, so that no event is delayed.

use async_compression::Level;
use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::try_unfold;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// The encodings, the preferred one first.
#[derive(Clone, Copy)]
enum Encoding {
    Zstd,
    Gzip,
}

/// Passes a request on, and compresses its response.
pub(super) async fn compress(request: Request, next: Next) -> Response {
    let encoding = Encoding::accepted(request.headers());
    let response = next.run(request).await;
    match encoding {
        // A WebSocket follows the head of this response.
        _ if response.status() == StatusCode::SWITCHING_PROTOCOLS => response,
        Some(encoding) => encoding.encode(response),
        None => response,
    }
}

impl Encoding {
    fn accepted(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get(ACCEPT_ENCODING)?.to_str().ok()?;
        let has = |name: &str| accepted.split(',').any(|accepted| accepted.trim() == name);
        [Self::Zstd, Self::Gzip].into_iter().find(|encoding| has(encoding.name()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    fn encode(self, response: Response) -> Response {
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(self.name()));
        let body = match self {
            Self::Zstd => encoded(body, ZstdEncoder::with_quality(Vec::new(), Level::Fastest), ZstdEncoder::get_mut),
            Self::Gzip => encoded(body, GzipEncoder::with_quality(Vec::new(), Level::Fastest), GzipEncoder::get_mut),
        };
        Response::from_parts(parts, body)
    }
}

/// Encodes each chunk of a body. `output` returns the buffer that the encoder writes to.
fn encoded<E>(body: Body, encoder: E, output: fn(&mut E) -> &mut Vec<u8>) -> Body
where
    E: AsyncWrite + Unpin + Send + 'static,
{
    let state = Some((body.into_data_stream(), encoder));
    Body::from_stream(try_unfold(state, move |state| async move {
        let Some((mut chunks, mut encoder)) = state else { return Ok(None) };
        let Some(chunk) = chunks.next().await else {
            encoder.shutdown().await?;
            return Ok(Some((Bytes::from(std::mem::take(output(&mut encoder))), None)));
        };
        encoder.write_all(&chunk.map_err(std::io::Error::other)?).await?;
        encoder.flush().await?;
        let piece = Bytes::from(std::mem::take(output(&mut encoder)));
        std::io::Result::Ok(Some((piece, Some((chunks, encoder)))))
    }))
}
