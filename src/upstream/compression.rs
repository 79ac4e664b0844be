//! Requests as zstd on their way to the backend, as its own client sends them.
//!
//! A conversation goes up anew with every turn, and a home's line up is slow: packed, it takes a third
//! of the time. Nothing is packed that fits into the first flight of a connection anyway, nor what
//! stays on this machine. A backend that can't unpack gets everything as it is from then on.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::blocking::LONG_BYTES;
use crate::endpoint::Endpoint;
use crate::error::{ProxyError, UpstreamFailure};

/// A body below this goes as it is.
const SMALLEST_BYTES: usize = 12 * 1024;
/// What the official client packs with.
const LEVEL: i32 = 3;

/// Whether requests are packed (`upstream.compression`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Where it saves time: long ones, to other machines.
    Auto,
    /// Long ones, wherever they go.
    Zstd,
    /// Never.
    None,
}

/// Packs requests for as long as the backend takes them.
#[derive(Debug)]
pub(super) struct Packing {
    compression: Compression,
    is_refused: AtomicBool,
}

impl Packing {
    pub(super) fn new(compression: Compression) -> Self {
        Self { compression, is_refused: AtomicBool::new(false) }
    }

    /// The body as one zstd frame; `None` where it is to go as it is.
    pub(super) async fn pack(&self, endpoint: &Endpoint, body: &Bytes) -> Option<Bytes> {
        let is_wanted = match self.compression {
            Compression::Auto => !endpoint.is_loopback(),
            Compression::Zstd => true,
            Compression::None => false,
        };
        if !is_wanted || body.len() < SMALLEST_BYTES || self.is_refused.load(Ordering::Relaxed) {
            return None;
        }
        let packed = if body.len() < LONG_BYTES {
            zstd::bulk::compress(body, LEVEL)
        } else {
            let body = body.clone();
            spawn_blocking(move || zstd::bulk::compress(&body, LEVEL)).await.ok()?
        };
        packed.ok().map(Bytes::from)
    }

    /// Whether a packed request was refused for being packed; none is packed after that.
    pub(super) fn was_refused(&self, error: &ProxyError) -> bool {
        let ProxyError::Upstream(failure) = error else { return false };
        let is_refusal = is_about_encoding(failure);
        if is_refusal && !self.is_refused.swap(true, Ordering::Relaxed) {
            tracing::info!("the backend takes no compressed requests; they go as they are from now on");
        }
        is_refusal
    }
}

fn is_about_encoding(failure: &UpstreamFailure) -> bool {
    let says_so = || {
        let message = failure.message.to_ascii_lowercase();
        ["content-encoding", "zstd", "decompress"].iter().any(|word| message.contains(word))
    };
    match failure.status {
        Some(415) => true,
        Some(400) => says_so(),
        _ => false,
    }
}
