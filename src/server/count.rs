//! Estimates the tokens of a request. Nothing is sent to the backend.
//!
//! Clients of the Messages API send such requests in bursts and with partial bodies, so there any body gets an
//! estimate, even an invalid one, and counting runs off the serving threads. The other APIs refuse invalid bodies.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::request::Parts;
use serde::Serialize;

use super::body;
use super::handler::{Handler, PlannedRequest, context, refuse};
use super::http_response::json;
use super::paths::PathModel;
use super::request_log::RequestId;
use super::response_store::ResponseStore;
use crate::blocking::{LONG_BYTES, off_thread};
use crate::budget::BufferedBody;
use crate::depth_limit;
use crate::error::ProxyError;
use crate::protocol::gemini;
use crate::protocol::messages::{self, Messages};
use crate::protocol::responses::Responses;
use crate::protocol::tokens;

#[derive(Serialize)]
struct InputTokens {
    /// Only in the Responses API.
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'static str>,
    input_tokens: u64,
}

impl Handler<Responses> {
    /// `POST /v1/responses/input_tokens`.
    pub(super) async fn count(self, request: Request) -> Response {
        let (parts, body, id) = split_request(request);
        self.try_count(&parts, body).await.unwrap_or_else(|error| refuse::<Responses>(&error, &id, None))
    }

    async fn try_count(&self, parts: &Parts, body: Body) -> Result<Response, ProxyError> {
        let BufferedBody { bytes: body, mut memory } = body::read(&parts.headers, body, &self.body_limits()).await?;
        let _permit = self.state.concurrency.acquire().await?;
        let body = self.with_files(parts, body, &mut memory).await?;
        let mut store = ResponseStore::new(&self.services.history, &parts.extensions).for_reading();
        let PlannedRequest { plan, .. } =
            self.plan(parts, &body, &self.services.models(&parts.headers), &mut store, &mut memory).await?;
        // Even for a short body, the first count loads the vocabulary, which takes about 70 ms.
        let input_tokens = off_thread(body.len().max(LONG_BYTES), || tokens::of_request(&plan.upstream));
        Ok(respond(&InputTokens { object: Some("response.input_tokens"), input_tokens }))
    }
}

impl Handler<Messages> {
    /// `POST /v1/messages/count_tokens`.
    pub(super) async fn count(self, request: Request) -> Response {
        let (parts, body, id) = split_request(request);
        self.try_count(parts, body).await.unwrap_or_else(|error| refuse::<Messages>(&error, &id, None))
    }

    async fn try_count(self, parts: Parts, body: Body) -> Result<Response, ProxyError> {
        let BufferedBody { bytes: body, mut memory } = body::read(&parts.headers, body, &self.body_limits()).await?;
        let permit = self.state.concurrency.acquire().await?;
        memory.begin_work(&body).await?;
        // Held until the work is done, even if the client disconnects.
        let counting = tokio::task::spawn_blocking(move || {
            let _held = (permit, memory);
            self.estimate(&parts, &body)
        });
        let input_tokens = counting.await.map_err(|_| ProxyError::Internal)?;
        Ok(respond(&InputTokens { object: None, input_tokens }))
    }

    fn estimate(&self, parts: &Parts, body: &[u8]) -> u64 {
        if depth_limit::check(body).is_err() {
            return tokens::of_json(&String::from_utf8_lossy(body));
        }
        let models = self.services.models(&parts.headers);
        messages::count_tokens(body, &mut context(parts, &models), &self.options)
    }
}

/// The response to `countTokens`.
#[derive(Serialize)]
struct TotalTokens {
    #[serde(rename = "totalTokens")]
    total_tokens: u64,
}

impl Handler<gemini::Generate> {
    /// `POST /v1beta/models/{model}:countTokens`.
    pub(super) async fn count(self, request: Request) -> Response {
        let (parts, body, id) = split_request(request);
        self.try_count(&parts, body).await.unwrap_or_else(|error| refuse::<gemini::Generate>(&error, &id, None))
    }

    async fn try_count(&self, parts: &Parts, body: Body) -> Result<Response, ProxyError> {
        let BufferedBody { bytes: body, mut memory } = body::read(&parts.headers, body, &self.body_limits()).await?;
        let _permit = self.state.concurrency.acquire().await?;
        memory.begin_work(&body).await?;
        let models = self.services.models(&parts.headers);
        let mut context = context(parts, &models);
        let total_tokens = off_thread(body.len().max(LONG_BYTES), || {
            depth_limit::check(&body)?;
            gemini::count_tokens(&body, &mut context, &self.options)
        })?;
        Ok(json(&TotalTokens { total_tokens }))
    }
}

/// Splits a request. Sets a model, which doesn't change the estimate, so that the body may omit it.
fn split_request(request: Request) -> (Parts, Body, RequestId) {
    let (mut parts, body) = request.into_parts();
    if parts.extensions.get::<PathModel>().is_none() {
        parts.extensions.insert(PathModel("default".to_owned()));
    }
    let id = RequestId::of(&parts);
    (parts, body, id)
}

fn respond(count: &InputTokens) -> Response {
    json(count)
}
