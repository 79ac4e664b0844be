//! Content encodings of HTTP bodies: their name in the headers, and decoders with bounded memory.
//!
//! The decoders accept several gzip members or zstd frames in a row. A body that ends inside one is an error of kind
//! [`std::io::ErrorKind::UnexpectedEof`].

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use tokio::io::AsyncBufRead;

/// The largest window of a zstd body: RFC 9659 allows none above 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Returns the content encoding in lower case: empty if there is none, a list with commas if there are several.
#[must_use]
pub fn content_encoding(headers: &HeaderMap) -> String {
    let texts = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    texts.collect::<Vec<_>>().join(",").trim().to_ascii_lowercase()
}

/// Decodes gzip.
#[must_use]
pub fn gzip_decoder<R: AsyncBufRead>(body: R) -> GzipDecoder<R> {
    let mut decoder = GzipDecoder::new(body);
    decoder.multiple_members(true);
    decoder
}

/// Decodes zstd. A frame whose window is larger than 8 MiB is an error.
#[must_use]
pub fn zstd_decoder<R: AsyncBufRead>(body: R) -> ZstdDecoder<R> {
    let mut decoder = ZstdDecoder::with_params(body, &[DParameter::window_log_max(ZSTD_WINDOW_LOG)]);
    decoder.multiple_members(true);
    decoder
}
