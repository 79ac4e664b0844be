//! `POST /v1/images/generations` and `/v1/images/edits`.
//!
//! A Codex client's request is relayed unread. For others, each image is a call of the backend; the calls of a request
//! run concurrently, and the first failure cancels the others. The images are kept in reserved memory and are not
//! copied.

mod image_calls;
mod image_stream;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::guarded_body::GuardedBody;
use super::handler::key_name;
use super::http_response::{json_response, with_warnings};
use super::paths::PathModel;
use super::relay::Relay;
use super::request_log::{RequestRecord, ServedRequest};
use super::side_request::{SideApi, SideRequest};
use super::{Settings, multipart};
use crate::blocking::off_thread;
use crate::budget::Reservation;
use crate::depth_limit;
use crate::error::ProxyError;
use crate::history::ConversationKey;
use crate::protocol::codex::Usage;
use crate::protocol::images::{self, ImageReply, ImageRequest, Operation};
use crate::protocol::responses::is_codex;
use crate::protocol::{Mode, Summary, Warnings};
use crate::upstream::{CallQuota, ForwardedHeaders, SideCall, SideTarget};
use image_calls::{CompletedImage, ImageCalls, RepeatedCall, ReservedCall};
use image_stream::ImageStream;

/// Handles the requests of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Images {
    operation: Operation,
    /// The backend's model (`images.model`).
    model: Arc<str>,
    /// Time limit for the head of an image's response (`images.timeout`).
    head_timeout: Duration,
    keepalive: Option<Duration>,
}

/// A translated request.
struct Plan {
    /// The body of each call.
    body: Bytes,
    count: u64,
    mode: Mode,
    warnings: Warnings,
    /// The memory of `body`.
    memory: Reservation,
}

impl Images {
    pub(super) fn new(operation: Operation, settings: &Settings) -> Self {
        Self {
            operation,
            model: settings.image_model.as_str().into(),
            head_timeout: settings.image_timeout,
            keepalive: settings.keepalive,
        }
    }

    /// Decodes and translates a request. `memory` is reserved for its body.
    async fn plan(&self, parts: &Parts, body: Bytes, mut memory: Reservation) -> Result<Plan, ProxyError> {
        let path_model = PathModel::of(parts);
        let mut plan = if multipart::is_multipart(&parts.headers) {
            // The parts share one copy of the body; base64 adds a third.
            memory.set_buffered(body.len().saturating_mul(3)).await?;
            let length = body.len();
            let form = multipart::read(&parts.headers, body).await?;
            off_thread(length, || {
                let members = images::request::form_members(&form)?;
                Ok::<_, ProxyError>(self.translate(images::request::decode_form(&form, &members, path_model)?, memory))
            })?
        } else {
            memory.begin_work(&body).await?;
            off_thread(body.len(), || {
                depth_limit::check(&body)?;
                Ok::<_, ProxyError>(self.translate(images::request::decode(self.operation, &body, path_model)?, memory))
            })?
        };
        plan.memory.end_work();
        plan.memory.set_buffered(plan.body.len()).await?;
        Ok(plan)
    }

    fn translate(&self, mut request: ImageRequest<'_>, memory: Reservation) -> Plan {
        let body = images::translate::encode(&mut request, &self.model).into();
        let ImageRequest { count, mode, warnings, .. } = request;
        Plan { body, count, mode, warnings, memory }
    }

    fn call(&self, forwarded: ForwardedHeaders, body: Bytes) -> SideCall {
        let kind = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
        SideCall {
            method: Method::POST,
            target: SideTarget::Codex(self.operation.path().to_owned()),
            quota: CallQuota::Counted(self.model.to_string()),
            forwarded: ForwardedHeaders { request: HeaderMap::from_iter([kind]), ..forwarded },
            body,
            head_timeout: self.head_timeout,
        }
    }
}

impl SideApi for Images {
    fn name(&self) -> &'static str {
        "images"
    }

    async fn respond(&self, request: SideRequest, record: &mut Option<RequestRecord>) -> Result<Response, ProxyError> {
        if is_codex(&request.parts.headers) {
            return Relay::Images(self.head_timeout).respond(request, record).await;
        }
        let forwarded = request.forwarded();
        let SideRequest { parts, body, body_memory, mut token, services, budget, abort } = request;
        let owned_record = record.as_mut().ok_or(ProxyError::Internal)?;
        let Plan { body, count, mode, warnings, memory } = self.plan(&parts, body, body_memory).await?;
        owned_record.set_model(&self.model, mode);
        // A failed call may have been billed.
        token.retry_only_unaccepted();
        // Checked once for all calls, since only one check per probe interval passes if the quota is exhausted.
        services.upstream.check_quota(&token, &self.model)?;
        let served = served_request(&parts, &self.model, &token.bearer().account.id);
        let call = RepeatedCall {
            upstream: Arc::clone(&services.upstream),
            call: Arc::new(ReservedCall::new(self.call(forwarded, body), memory)),
            budget,
        };
        let calls = call.start(count, &token, &owned_record.span());
        let response = match mode {
            Mode::Document => document(calls, served, record).await?,
            Mode::Stream => {
                let opened = ImageStream::open(self.operation, calls, self.keepalive, abort).await?;
                opened.respond(served, record.take().ok_or(ProxyError::Internal)?)
            }
        };
        Ok(with_warnings(response, &warnings))
    }
}

/// Responds with one document, when all images are complete.
async fn document(
    mut calls: ImageCalls,
    served: ServedRequest,
    record: &mut Option<RequestRecord>,
) -> Result<Response, ProxyError> {
    let mut images = Vec::new();
    let failure = loop {
        match calls.next().await {
            Some(Ok(image)) => images.push(image),
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    if let (Some(record), Some(latest)) = (record.as_mut(), images.last()) {
        // Images that are complete were billed, even if another one fails.
        record.set_served(served);
        record.set_upstream_id(latest.request_id.as_deref());
        record.set_summary(completed(images.iter().filter_map(|image| image.reply.usage()).reduce(Usage::plus)));
    }
    match failure {
        Some(error) => Err(error),
        None => joined(images, record.take().ok_or(ProxyError::Internal)?),
    }
}

/// The response with all images. Has the headers of the last reply, which has the latest quota.
fn joined(mut images: Vec<CompletedImage>, mut record: RequestRecord) -> Result<Response, ProxyError> {
    let headers = images.last_mut().map(|latest| std::mem::take(&mut latest.headers)).ok_or(ProxyError::Internal)?;
    let (replies, memory): (Vec<ImageReply>, Vec<Reservation>) =
        images.into_iter().map(|image| (image.reply, image.memory)).unzip();
    let pieces = images::document::join(&replies);
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let mut response = json_response(StatusCode::OK, Bytes::new());
    response.headers_mut().extend(headers);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    let body = Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)));
    *response.body_mut() = Body::new(GuardedBody::new(body, (record.take_permit(), memory)));
    Ok(response)
}

/// The key, account and model that the images are counted for.
fn served_request(parts: &Parts, model: &str, account: &str) -> ServedRequest {
    let (key, account) = (key_name(parts).map(str::to_owned), account.to_owned());
    let conversation = ConversationKey { key, account, cache_key: String::new() };
    ServedRequest { conversation, model: model.to_owned(), fingerprint: None }
}

fn completed(usage: Option<Usage>) -> Summary {
    Summary { usage, outcome: "completed".to_owned() }
}
