//! Reads and decodes the bodies of the backend's responses.
//!
//! A compressed body is decoded as it is read: data that the backend has flushed is returned at once. Chunks of decoded
//! data are small, so that the reader's size limit applies before a small body becomes a large one. A body that ends
//! inside a frame is truncated.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::stream::poll_fn;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::HeaderValue;
use tokio::io::AsyncRead;
use tokio::task::{coop, yield_now};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::content_encoding::{content_encoding, gzip_decoder, zstd_decoder};
use crate::error::ProxyError;
use crate::excerpt::{NAME_CHARACTERS, excerpt};
use crate::net::{InUse, error_chain};

/// Size limit of a decoded chunk.
const STEP_BYTES: usize = 16 * 1024;
/// How many times [`ResponseBody::poll_tail`] yields to the task of the connection: once for the end of the frame and
/// once for that of the body, each possibly in two pieces.
const TAIL_POLLS: u8 = 4;

/// The encodings that requests accept for their responses (`upstream.accept_encoding`). A compressed response is
/// decoded with either value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AcceptEncoding {
    /// Those of the official client: zstd and gzip.
    Auto,
    /// None: the header isn't sent.
    None,
}

/// The decoded body of a response, read on demand. Counts as in use until it is dropped.
pub(super) struct ResponseBody {
    chunks: Chunks,
    /// Polls left to read what follows the terminal event. Zero if the body isn't compressed: nothing follows then.
    tail_polls: u8,
    _in_use: Option<InUse>,
}

type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

impl AcceptEncoding {
    /// The value of `accept-encoding`, written as by the official client.
    pub(super) fn header_value(self) -> Option<HeaderValue> {
        match self {
            Self::Auto => Some(HeaderValue::from_static("zstd,gzip")),
            Self::None => None,
        }
    }
}

impl ResponseBody {
    /// Returns the body of a response.
    ///
    /// # Errors
    /// [`ProxyError::Damaged`] if its encoding isn't supported.
    pub(super) fn new(mut response: reqwest::Response) -> Result<Self, ProxyError> {
        let in_use = InUse::take(&mut response);
        let encoding = content_encoding(response.headers());
        let chunks = response.bytes_stream().map_err(io::Error::other);
        let (chunks, tail_polls): (Chunks, _) = match encoding.as_str() {
            "" | "identity" => (Box::pin(chunks), 0),
            "gzip" | "x-gzip" => (in_steps(gzip_decoder(StreamReader::new(with_late_errors(chunks)))), TAIL_POLLS),
            "zstd" => (in_steps(zstd_decoder(StreamReader::new(with_late_errors(chunks)))), TAIL_POLLS),
            other => {
                let name = excerpt(other, NAME_CHARACTERS);
                return Err(ProxyError::Damaged { reason: format!("its content encoding '{name}' was not requested") });
            }
        };
        Ok(Self { chunks, tail_polls, _in_use: in_use })
    }

    /// Returns the body of a recorded response.
    pub(super) fn recorded(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self { chunks: Box::pin(chunks), tail_polls: 0, _in_use: None }
    }

    /// Returns the next bytes; `None` at the end of the body.
    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ProxyError>>> {
        self.chunks.as_mut().poll_next(cx).map_err(body_error)
    }

    /// Reads what follows the terminal event, if it has arrived already: the end of the frame. An HTTP/1.1 connection
    /// whose response has not been read to its end can't be used again.
    pub(super) fn poll_tail(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.tail_polls > 0 {
            self.tail_polls -= 1;
            match self.chunks.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => break,
                Poll::Pending => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }
}

/// Delays errors by one poll. A decoder that reads an error discards what it has decoded since its last poll, which may
/// include the terminal event.
fn with_late_errors(
    chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    chunks.then(|chunk| async {
        if chunk.is_err() {
            yield_now().await;
        }
        chunk
    })
}

/// Returns decoded data in chunks. Yields to other tasks now and then, because a few bytes may decode to many chunks.
fn in_steps(decoder: impl AsyncRead + Send + 'static) -> Chunks {
    let mut steps = Box::pin(ReaderStream::with_capacity(decoder, STEP_BYTES));
    Box::pin(poll_fn(move |cx| {
        let step = ready!(coop::poll_proceed(cx));
        let chunk = ready!(steps.as_mut().poll_next(cx));
        step.made_progress();
        Poll::Ready(chunk)
    }))
}

/// Classifies an error of the connection or of a decoder.
fn body_error(error: io::Error) -> ProxyError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return ProxyError::Truncated { cause: None };
    }
    match error.downcast::<reqwest::Error>() {
        Ok(error) => ProxyError::Truncated { cause: Some(error_chain(&error)) },
        Err(error) => ProxyError::Damaged { reason: format!("it can't be decompressed ({error})") },
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io;
    use std::task::Poll;

    use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
    use async_compression::zstd::CParameter;
    use async_compression::{Level, tokio::write};
    use bytes::Bytes;
    use futures_util::{FutureExt as _, stream};
    use http::header::CONTENT_ENCODING;
    use tokio::io::{AsyncWrite, AsyncWriteExt as _};
    use tokio::sync::mpsc;
    use tokio::task::unconstrained;

    use super::{ResponseBody, STEP_BYTES};
    use crate::error::ProxyError;

    const EVENTS: [&str; 3] = ["data: {\"type\":\"one\"}\n\n", "data: {\"type\":\"two\"}\n\n", "data: three\n\n"];
    const ENCODINGS: [&str; 2] = ["gzip", "zstd"];

    fn body_of(
        encoding: &str,
        chunks: impl futures_core::Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<ResponseBody, ProxyError> {
        let response = http::Response::builder().header(CONTENT_ENCODING, encoding);
        ResponseBody::new(response.body(reqwest::Body::wrap_stream(chunks)).unwrap().into())
    }

    /// The decoded body, and the error at its end.
    async fn decode<'a>(encoding: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Option<ProxyError>) {
        let chunks: Vec<_> = chunks.into_iter().map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let mut body = body_of(encoding, stream::iter(chunks)).unwrap();
        let mut decoded = Vec::new();
        loop {
            match poll_fn(|cx| body.poll_chunk(cx)).await {
                Some(Ok(chunk)) => decoded.extend_from_slice(&chunk),
                Some(Err(error)) => return (decoded, Some(error)),
                None => return (decoded, None),
            }
        }
    }

    async fn pieces(encoding: &str) -> Vec<Vec<u8>> {
        pieces_of(encoding, &EVENTS).await
    }

    /// The pieces of a body that is flushed after each event; the last piece is the end of the frame.
    async fn pieces_of(encoding: &str, events: &[&str]) -> Vec<Vec<u8>> {
        match encoding {
            "gzip" => flushed(GzipEncoder::new(Vec::new()), GzipEncoder::get_mut, events).await,
            _ => flushed(ZstdEncoder::new(Vec::new()), ZstdEncoder::get_mut, events).await,
        }
    }

    async fn flushed<E: AsyncWrite + Unpin>(
        mut encoder: E,
        output: fn(&mut E) -> &mut Vec<u8>,
        events: &[&str],
    ) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        for event in events {
            encoder.write_all(event.as_bytes()).await.unwrap();
            encoder.flush().await.unwrap();
            pieces.push(std::mem::take(output(&mut encoder)));
        }
        encoder.shutdown().await.unwrap();
        pieces.push(std::mem::take(output(&mut encoder)));
        pieces
    }

    #[tokio::test]
    async fn flushed_data_is_returned_at_once_however_it_is_split() {
        let long = "data: longer than a step".repeat(5_000);
        let events = [EVENTS[0], &long, EVENTS[1]];
        for (encoding, size) in ENCODINGS.into_iter().flat_map(|encoding| [1, 2, 7, 1000].map(|size| (encoding, size)))
        {
            let (sender, mut receiver) = mpsc::unbounded_channel();
            let chunks = stream::poll_fn(move |cx| receiver.poll_recv(cx));
            let mut body = body_of(encoding, chunks).unwrap();
            let pieces = pieces_of(encoding, &events).await;
            for (piece, event) in pieces.iter().zip(events) {
                for bytes in piece.chunks(size) {
                    sender.send(Ok(Bytes::copy_from_slice(bytes))).unwrap();
                }
                let mut decoded = Vec::new();
                while decoded.len() < event.len() {
                    // Unconstrained, because both the channel and the body yield now and then.
                    let chunk = unconstrained(poll_fn(|cx| body.poll_chunk(cx))).now_or_never();
                    let chunk = chunk.expect("the event is complete");
                    decoded.extend_from_slice(&chunk.unwrap().unwrap());
                }
                assert_eq!(decoded, event.as_bytes(), "{encoding}, {size}");
            }
            sender.send(Ok(Bytes::copy_from_slice(&pieces[3]))).unwrap();
            drop(sender);
            assert!(poll_fn(|cx| body.poll_chunk(cx)).await.is_none());
        }
    }

    #[tokio::test]
    async fn a_body_can_be_split_anywhere() {
        for encoding in ENCODINGS {
            let whole = pieces(encoding).await.concat();
            for at in 0..=whole.len() {
                let (decoded, error) = decode(encoding, [&whole[..at], &whole[at..]]).await;
                assert_eq!((decoded, error.is_none()), (EVENTS.concat().into_bytes(), true), "{encoding}, {at}");
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_is_cut_anywhere_is_truncated() {
        for encoding in ENCODINGS {
            let whole = pieces(encoding).await.concat();
            for at in 0..whole.len() {
                let (decoded, error) = decode(encoding, [&whole[..at]]).await;
                assert!(EVENTS.concat().as_bytes().starts_with(&decoded), "{encoding}, {at}");
                assert!(matches!(error, Some(ProxyError::Truncated { cause: None })), "{encoding}, {at}: {error:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_broken_connection_is_truncated_after_all_that_arrived() {
        for encoding in ["identity", "gzip", "zstd"] {
            let first = match encoding {
                "identity" => EVENTS[0].as_bytes().to_vec(),
                _ => pieces(encoding).await.swap_remove(0),
            };
            let broken = io::Error::new(io::ErrorKind::UnexpectedEof, "unplugged");
            let mut body = body_of(encoding, stream::iter([Ok(Bytes::from(first)), Err(broken)])).unwrap();
            assert_eq!(poll_fn(|cx| body.poll_chunk(cx)).await.unwrap().unwrap(), EVENTS[0]);
            let error = poll_fn(|cx| body.poll_chunk(cx)).await.unwrap().unwrap_err();
            let ProxyError::Truncated { cause: Some(cause) } = error else { panic!("{encoding}: {error}") };
            assert!(cause.contains("unplugged"), "{cause}");
        }
    }

    #[tokio::test]
    async fn frames_may_follow_each_other() {
        for encoding in ENCODINGS {
            let twice = pieces(encoding).await.concat().repeat(2);
            for size in [1, 5, twice.len()] {
                let (decoded, error) = decode(encoding, twice.chunks(size)).await;
                assert_eq!(decoded, EVENTS.concat().repeat(2).into_bytes(), "{encoding}, {size}");
                assert!(error.is_none(), "{error:?}");
            }
            let (_, error) = decode(encoding, [&twice[..twice.len() - 1]]).await;
            assert!(matches!(error, Some(ProxyError::Truncated { .. })), "{error:?}");
        }
    }

    #[tokio::test]
    async fn invalid_data_is_damaged_after_what_precedes_it() {
        for encoding in ENCODINGS {
            let garbage = b"data: not compressed\n\n".as_slice();
            let (decoded, error) = decode(encoding, [garbage]).await;
            assert!(decoded.is_empty());
            assert!(matches!(error, Some(ProxyError::Damaged { .. })), "{encoding}: {error:?}");
            let pieces = pieces(encoding).await;
            let (decoded, error) = decode(encoding, [&pieces[0], [0xff; 40].as_slice()]).await;
            assert_eq!(decoded, EVENTS[0].as_bytes(), "{encoding}");
            assert!(matches!(error, Some(ProxyError::Damaged { .. })), "{encoding}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_small_body_that_decodes_to_a_large_one_is_read_in_steps_that_yield() {
        let bomb = zstd::bulk::compress(&vec![b'a'; 32 << 20], 1).unwrap();
        assert!(bomb.len() < STEP_BYTES);
        let mut body = body_of("zstd", stream::iter([Ok(Bytes::from(bomb))])).unwrap();
        let (mut bytes, mut pauses) = (0, 0);
        poll_fn(|cx| {
            loop {
                match body.poll_chunk(cx) {
                    Poll::Ready(Some(chunk)) => {
                        let chunk = chunk.unwrap();
                        assert!(chunk.len() <= STEP_BYTES);
                        bytes += chunk.len();
                    }
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => {
                        pauses += 1;
                        return Poll::Pending;
                    }
                }
            }
        })
        .await;
        assert_eq!((bytes, pauses > 10), (32 << 20, true), "{pauses}");
    }

    #[tokio::test]
    async fn a_window_over_the_limit_is_rejected() {
        for (log, is_accepted) in [(23, true), (24, false)] {
            let window = CParameter::window_log(log);
            let encoder = write::ZstdEncoder::with_quality_and_params(Vec::new(), Level::Fastest, &[window]);
            let whole = flushed(encoder, ZstdEncoder::get_mut, &EVENTS).await.concat();
            let (_, error) = decode("zstd", [whole.as_slice()]).await;
            assert_eq!(matches!(error, Some(ProxyError::Damaged { .. })), !is_accepted, "{log}: {error:?}");
        }
    }

    #[tokio::test]
    async fn an_encoding_that_was_not_requested_is_named() {
        for encoding in ["br", "gzip, zstd", "x-unknown"] {
            let Err(error) = body_of(encoding, stream::empty()) else { panic!("{encoding}") };
            assert!(error.to_string().contains(&format!("'{encoding}'")), "{error}");
        }
        for encoding in ["", "identity", "Identity"] {
            assert_eq!(decode(encoding, [EVENTS[0].as_bytes()]).await.0, EVENTS[0].as_bytes());
        }
        let whole = pieces("gzip").await.concat();
        assert_eq!(decode("X-GZip", [whole.as_slice()]).await.0, EVENTS.concat().into_bytes());
    }
}
