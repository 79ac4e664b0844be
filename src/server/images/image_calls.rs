//! Calls the backend for the images of a request, concurrently.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use tracing::{Instrument as _, Span};

use crate::blocking::off_thread;
use crate::budget::BufferedBody;
use crate::budget::{ByteBudget, Reservation};
use crate::error::ProxyError;
use crate::protocol::images::ImageReply;
use crate::upstream::{RequestToken, SideCall, Upstream};

/// Maximum size of a reply: a large image has 20 MB of base64.
const MAX_REPLY_BYTES: u64 = 64 * 1024 * 1024;

/// The calls under way, at most [`MAX_IMAGES`](crate::protocol::images::request::MAX_IMAGES). Dropping them cancels
/// them.
pub(super) type ImageCalls = FuturesUnordered<BoxFuture<'static, Result<CompletedImage, ProxyError>>>;

/// A complete reply of the backend.
pub(super) struct CompletedImage {
    pub(super) reply: ImageReply,
    /// Headers for the client.
    pub(super) headers: HeaderMap,
    pub(super) request_id: Option<String>,
    /// The memory of the reply.
    pub(super) memory: Reservation,
}

/// A call, and the memory of its body. Both are released when all calls have a response, since none is repeated then.
pub(super) struct ReservedCall {
    call: SideCall,
    _memory: Reservation,
}

impl ReservedCall {
    pub(super) fn new(call: SideCall, memory: Reservation) -> Self {
        Self { call, _memory: memory }
    }
}

/// The parts that the calls of a request share.
#[derive(Clone)]
pub(super) struct RepeatedCall {
    pub(super) upstream: Arc<Upstream>,
    pub(super) call: Arc<ReservedCall>,
    pub(super) budget: Arc<ByteBudget>,
}

impl RepeatedCall {
    /// Starts the calls for this many images, all with the account of `token`.
    pub(super) fn start(self, count: u64, token: &RequestToken, span: &Span) -> ImageCalls {
        (0..count).map(|_| self.clone().generate(token.clone()).instrument(span.clone()).boxed()).collect()
    }

    async fn generate(self, mut token: RequestToken) -> Result<CompletedImage, ProxyError> {
        let called = self.upstream.call_unchecked(&self.call.call, &mut token).await;
        let mut response = called.map_err(without_retry)?;
        drop(self.call);
        let (mut headers, request_id) = (std::mem::take(&mut response.headers), response.request_id.take());
        headers.remove(CONTENT_TYPE);
        let BufferedBody { bytes, memory } = response.read(MAX_REPLY_BYTES, &self.budget).await?;
        let reply = off_thread(bytes.len(), || ImageReply::parse(&bytes))?;
        Ok(CompletedImage { reply, headers, request_id, memory })
    }
}

/// Removes the time after which the client should retry, unless the backend refused the request before it began to work
/// on it: a retry may be billed again.
fn without_retry(mut error: ProxyError) -> ProxyError {
    if let ProxyError::Upstream(failure) = &mut error
        && !failure.is_unaccepted()
    {
        failure.retry_after = None;
    }
    error
}
