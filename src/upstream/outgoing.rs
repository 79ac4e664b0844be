//! A request for a response, ready to be sent.

use bytes::Bytes;

use crate::blocking::off_thread;
use crate::protocol::codex::request::{Omissions, Request, ServiceTier, WireFormat};

/// An encoded request, and the values that its headers repeat. Owned, so that it can outlive the client's body.
#[derive(Clone, Debug)]
pub(super) struct OutgoingRequest {
    pub(super) model: String,
    /// The prompt cache key, which the backend also expects as the session's id.
    pub(super) session: String,
    pub(super) service_tier: Option<ServiceTier>,
    pub(super) format: WireFormat,
    pub(super) is_compaction: bool,
    pub(super) body: Bytes,
}

impl OutgoingRequest {
    /// Encodes a request without the members in `omitted`.
    pub(super) fn new(request: &Request<'_>, omitted: &Omissions) -> Self {
        Self {
            model: request.model.to_string(),
            session: request.prompt_cache_key.to_string(),
            service_tier: request.service_tier.filter(|_| !omitted.contains("service_tier")),
            format: request.format,
            is_compaction: request.is_compaction(),
            body: off_thread(request.written_bytes(), || request.encode(omitted)),
        }
    }

    /// Whether the body is in the lite form.
    pub(super) fn is_lite(&self) -> bool {
        self.format != WireFormat::Classic
    }
}
