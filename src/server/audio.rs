//! `POST /v1/audio/transcriptions`.

use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::http_response::{json_response, with_warnings};
use super::paths::PathModel;
use super::request_log::RequestRecord;
use super::side_request::{SideApi, SideRequest};
use super::{Settings, multipart};
use crate::blocking::off_thread;
use crate::budget::BufferedBody;
use crate::budget::Reservation;
use crate::error::{ProxyError, Refusal};
use crate::protocol::Warnings;
use crate::protocol::audio::{self, TranscriptionFormat, UploadForm};
use crate::upstream::{CallQuota, ForwardedHeaders, SideCall, SideTarget};

/// Maximum size of a reply. The text of three hours of speech has about 200 KB.
const MAX_REPLY_BYTES: u64 = 4 * 1024 * 1024;

/// Handles the requests of the endpoint.
#[derive(Clone, Debug)]
pub(super) struct Transcriptions {
    /// Maximum size of an audio file (`audio.max_bytes`).
    limit_bytes: u64,
    /// Time limit for the head of the response (`audio.timeout`).
    head_timeout: Duration,
}

/// A translated request.
struct Plan {
    upload: UploadForm,
    format: TranscriptionFormat,
    warnings: Warnings,
    /// The memory of `upload`.
    memory: Reservation,
}

impl Transcriptions {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { limit_bytes: settings.audio_limit_bytes, head_timeout: settings.audio_timeout }
    }

    /// Decodes and translates a request. `memory` is reserved for its body.
    async fn plan(&self, parts: &Parts, body: Bytes, mut memory: Reservation) -> Result<Plan, ProxyError> {
        if !multipart::is_multipart(&parts.headers) {
            let message = "send the audio file as multipart/form-data, in the field 'file' (curl: -F file=@speech.mp3)";
            return Err(Refusal::body(message));
        }
        // The parts share one copy of the body, and the upload is another one.
        memory.set_buffered(body.len().saturating_mul(2)).await?;
        let path_model = PathModel::of(parts);
        let length = body.len();
        let form = multipart::read(&parts.headers, body).await?;
        let (upload, format, warnings) = off_thread(length, || {
            let members = audio::request::form_members(&form)?;
            let request = audio::request::decode(&form, &members, path_model, self.limit_bytes)?;
            Ok::<_, ProxyError>((audio::encode(&request), request.format, request.warnings))
        })?;
        memory.set_buffered(upload.body.len()).await?;
        Ok(Plan { upload, format, warnings, memory })
    }

    fn call(&self, upload: UploadForm) -> Result<SideCall, ProxyError> {
        let kind = HeaderValue::try_from(upload.content_type).map_err(|_| ProxyError::Internal)?;
        let request = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        Ok(SideCall {
            method: Method::POST,
            target: SideTarget::ChatGpt("/transcribe".to_owned()),
            quota: CallQuota::Free,
            forwarded: ForwardedHeaders { request, ..ForwardedHeaders::default() },
            body: upload.body,
            head_timeout: self.head_timeout,
        })
    }
}

impl SideApi for Transcriptions {
    fn name(&self) -> &'static str {
        "transcriptions"
    }

    async fn respond(&self, request: SideRequest, record: &mut Option<RequestRecord>) -> Result<Response, ProxyError> {
        let SideRequest { parts, body, body_memory, mut token, services, budget, .. } = request;
        let record = record.as_mut().ok_or(ProxyError::Internal)?;
        let Plan { upload, format, warnings, memory } = self.plan(&parts, body, body_memory).await?;
        let call = self.call(upload)?;
        let mut reply = services.upstream.call(&call, &mut token).await?;
        // The call isn't repeated once it has a response.
        drop((call, memory));
        let mut headers = std::mem::take(&mut reply.headers);
        headers.remove(CONTENT_TYPE);
        record.set_upstream_id(reply.request_id.as_deref());
        let BufferedBody { bytes, memory: _memory } = reply.read(MAX_REPLY_BYTES, &budget).await?;
        let mut response = json_response(StatusCode::OK, audio::document::respond(&bytes, format)?);
        response.headers_mut().extend(headers);
        if format == TranscriptionFormat::Text {
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        Ok(with_warnings(response, &warnings))
    }
}
