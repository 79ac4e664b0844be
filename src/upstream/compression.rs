//! Compresses request bodies with zstd, as the official client does.
//!
//! Each turn sends the whole conversation, and home uplinks are slow: compressed, it takes a third of the time. By
//! default, bodies that fit into the initial TCP window and requests to this machine are not compressed. If the backend
//! rejects a compressed request, no request is compressed until the process ends. WebSocket frames are never
//! compressed.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::blocking::LONG_BYTES;
use crate::endpoint::Endpoint;
use crate::error::{ProxyError, UpstreamFailure};

/// Smaller bodies are not compressed: they fit into the initial TCP window.
const MIN_BYTES: usize = 12 * 1024;
/// Compression level of the official client.
const LEVEL: i32 = 3;

/// Compression of request bodies (`upstream.compression`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Large bodies to other machines.
    Auto,
    /// Large bodies to any host.
    Zstd,
    /// None.
    None,
}

/// Compresses bodies until the backend rejects one.
#[derive(Debug)]
pub(super) struct Compressor {
    compression: Compression,
    is_rejected: AtomicBool,
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> Self {
        Self { compression, is_rejected: AtomicBool::new(false) }
    }

    /// Returns the body as one zstd frame. `None` if it is to be sent uncompressed.
    pub(super) async fn compress(&self, endpoint: &Endpoint, body: &Bytes) -> Option<Bytes> {
        let is_enabled = match self.compression {
            Compression::Auto => !endpoint.is_loopback(),
            Compression::Zstd => true,
            Compression::None => false,
        };
        if !is_enabled || body.len() < MIN_BYTES || self.is_rejected.load(Ordering::Relaxed) {
            return None;
        }
        let compressed = if body.len() < LONG_BYTES {
            zstd::bulk::compress(body, LEVEL)
        } else {
            let body = body.clone();
            spawn_blocking(move || zstd::bulk::compress(&body, LEVEL)).await.ok()?
        };
        compressed.ok().map(Bytes::from)
    }

    /// Whether a request was rejected because of its compression. If so, no further request is compressed.
    pub(super) fn was_rejected(&self, error: &ProxyError) -> bool {
        let ProxyError::Upstream(failure) = error else { return false };
        let is_rejection = is_about_encoding(failure);
        if is_rejection && !self.is_rejected.swap(true, Ordering::Relaxed) {
            tracing::info!("the backend rejects compressed requests: sending them uncompressed from now on");
        }
        is_rejection
    }
}

fn is_about_encoding(failure: &UpstreamFailure) -> bool {
    let is_in_message = || {
        let message = failure.message.to_ascii_lowercase();
        ["content-encoding", "zstd", "decompress"].iter().any(|word| message.contains(word))
    };
    match failure.status {
        Some(415) => true,
        Some(400) => is_in_message(),
        _ => false,
    }
}
