//! Reads a form as it arrives, for uploads that don't fit into memory.
//!
//! Only the content of the current part is in memory, in pieces. A form whose headers and boundaries are longer than
//! [`MAX_OVERHEAD_BYTES`] is refused, since the parser collects them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use multer::{Field, Multipart};

use super::{body, multipart};
use crate::content_encoding::content_encoding;
use crate::error::{ProxyError, Refusal};

/// How much of a form may be headers and boundaries, and how much the parser holds of the content.
const MAX_OVERHEAD_BYTES: u64 = 512 * 1024;
/// Maximum length of a text part.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// A form that is being received.
pub(super) struct FormStream<'b> {
    form: Multipart<'b>,
    /// The bytes of parts that were passed on.
    passed_on: Arc<AtomicU64>,
}

/// The body, one chunk per poll: the parser would collect all chunks that are ready.
struct PacedBody<S> {
    body: Pin<Box<S>>,
    received_bytes: u64,
    passed_on: Arc<AtomicU64>,
    is_paused: bool,
}

impl<'b> FormStream<'b> {
    /// Starts to read a form.
    ///
    /// # Errors
    /// If the headers don't announce a form, or it is compressed.
    pub(super) fn new(headers: &HeaderMap, body: &'b mut Body, max_pause: Duration) -> Result<Self, ProxyError> {
        let encoding = content_encoding(headers);
        if !matches!(encoding.as_str(), "" | "identity") {
            return Err(ProxyError::UnsupportedEncoding { encoding });
        }
        let boundary = multipart::boundary(headers)?;
        let passed_on = Arc::new(AtomicU64::new(0));
        let body = Box::pin(body::stream(body, max_pause));
        let paced = PacedBody { body, received_bytes: 0, passed_on: Arc::clone(&passed_on), is_paused: false };
        Ok(Self { form: Multipart::new(paced, boundary), passed_on })
    }

    /// The next part; `None` at the end of the form. The previous part must have been read and dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Field<'b>>, ProxyError> {
        self.form.next_field().await.map_err(failure)
    }

    /// The next piece of a part; `None` at its end.
    pub(super) async fn chunk(&self, part: &mut Field<'b>) -> Result<Option<Bytes>, ProxyError> {
        let chunk = part.chunk().await.map_err(failure)?;
        let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        self.passed_on.fetch_add(length, Ordering::Relaxed);
        Ok(chunk)
    }

    /// The whole text of a part.
    pub(super) async fn text(&self, part: &mut Field<'b>) -> Result<String, ProxyError> {
        let mut text = Vec::new();
        while let Some(chunk) = self.chunk(part).await? {
            text.extend_from_slice(&chunk);
            if text.len() > MAX_TEXT_BYTES {
                return Err(Refusal::body(format!("a text of the form is longer than {MAX_TEXT_BYTES} bytes")));
            }
        }
        String::from_utf8(text).map_err(|_| Refusal::body("a text of the form is not UTF-8"))
    }
}

impl<S: Stream<Item = io::Result<Bytes>>> Stream for PacedBody<S> {
    type Item = Result<Bytes, ProxyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.is_paused = !self.is_paused;
        if !self.is_paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = self.body.as_mut().poll_next(cx);
        let Poll::Ready(chunk) = polled else {
            self.is_paused = false;
            return Poll::Pending;
        };
        let chunk = chunk.map(|chunk| chunk.map_err(body::read_error));
        self.received_bytes += chunk.as_ref().map_or(0, |chunk| chunk.as_ref().map_or(0, Bytes::len)) as u64;
        if self.received_bytes.saturating_sub(self.passed_on.load(Ordering::Relaxed)) > MAX_OVERHEAD_BYTES {
            return Poll::Ready(Some(Err(Refusal::body("the headers of the form's parts are too long"))));
        }
        Poll::Ready(chunk)
    }
}

/// The cause of a failure: that of the body, or an invalid form.
fn failure(error: multer::Error) -> ProxyError {
    match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast::<ProxyError>() {
            Ok(error) => *error,
            Err(cause) => ProxyError::BodyUnreadable { reason: cause.to_string() },
        },
        other => multipart::invalid(&other),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::body::Body;
    use bytes::Bytes;
    use futures_util::stream;
    use http::header::CONTENT_TYPE;
    use http::{HeaderMap, HeaderValue};

    use super::{FormStream, MAX_OVERHEAD_BYTES};
    use crate::error::ProxyError;

    const PAUSE: Duration = Duration::from_secs(30);

    /// The names and contents of the parts of a form that arrives in pieces.
    async fn parts(form: &[u8], piece_bytes: usize) -> Result<Vec<(String, Vec<u8>)>, ProxyError> {
        let pieces: Vec<_> =
            form.chunks(piece_bytes).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
        let mut body = Body::from_stream(stream::iter(pieces));
        let kind = HeaderValue::from_static("multipart/form-data; boundary=X");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        let mut form = FormStream::new(&headers, &mut body, PAUSE)?;
        let mut parts = Vec::new();
        while let Some(mut part) = form.next().await? {
            let mut content = Vec::new();
            while let Some(chunk) = form.chunk(&mut part).await? {
                content.extend_from_slice(&chunk);
            }
            parts.push((part.name().unwrap_or_default().to_owned(), content));
        }
        Ok(parts)
    }

    fn form(content: &[u8]) -> Vec<u8> {
        let head = "--X\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--X\r\n\
                    Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
        [head.as_bytes(), content, b"\r\n--X--\r\n"].concat()
    }

    #[tokio::test]
    async fn pieces_of_any_size_give_the_same_parts() {
        let content: Vec<u8> = b"\r\n--Y \r\n-\n".iter().copied().cycle().take(40_000).collect();
        let expected = vec![("purpose".to_owned(), b"batch".to_vec()), ("file".to_owned(), content.clone())];
        for piece_bytes in [1, 7, 1000, 1_000_000] {
            assert_eq!(parts(&form(&content), piece_bytes).await.unwrap(), expected, "{piece_bytes}");
        }
    }

    #[tokio::test]
    async fn a_part_may_be_long_and_its_headers_may_not() {
        let limit = usize::try_from(MAX_OVERHEAD_BYTES).unwrap();
        let long = vec![b'x'; 4 * limit];
        assert_eq!(parts(&form(&long), 10_000).await.unwrap()[1].1, long);
        let endless = [b"--X\r\nContent-Disposition: ".as_slice(), &long].concat();
        assert!(matches!(parts(&endless, 10_000).await, Err(ProxyError::Refused(_))));
    }

    #[tokio::test]
    async fn a_form_that_is_cut_is_invalid() {
        let whole = form(b"content");
        for length in 0..whole.len() - 4 {
            assert!(parts(&whole[..length], 10).await.is_err(), "{length}");
        }
    }
}
