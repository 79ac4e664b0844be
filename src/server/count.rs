//! How many tokens a request is, by our own estimate: nothing goes upstream.
//!
//! Messages clients ask in bursts and with fragments of requests, so that any body that arrives
//! whole gets a number, and the counting is done beside the threads that serve.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;

use super::body::{self, BufferedBody};
use super::depth_limit;
use super::handler::{Handler, PlannedRequest, key_name, refuse};
use super::http_response::json_response;
use super::paths::PathModel;
use super::request_log::RequestId;
use super::response_store::ResponseStore;
use crate::blocking::{LONG_BYTES, off_thread};
use crate::error::ProxyError;
use crate::protocol::messages::{self, Messages};
use crate::protocol::responses::Responses;
use crate::protocol::{Context, Warnings, tokens};

#[derive(Serialize)]
struct InputTokens {
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'static str>,
    input_tokens: u64,
}

impl Handler<Responses> {
    /// `POST /v1/responses/input_tokens`.
    pub(super) async fn count(self, request: Request) -> Response {
        let (parts, body, id) = opened(request);
        self.counted(&parts, body).await.unwrap_or_else(|error| refuse::<Responses>(&error, &id, None))
    }

    async fn counted(&self, parts: &Parts, body: Body) -> Result<Response, ProxyError> {
        let BufferedBody { bytes: body, mut memory } = body::read(&parts.headers, body, &self.intake()).await?;
        let _place = self.state.concurrency.enter().await?;
        let keeper = ResponseStore::new(&self.services.history, &parts.extensions);
        let PlannedRequest { plan, .. } =
            self.plan(parts, &body, &self.services.models(), &keeper, &mut memory).await?;
        // Even for a short body, the first count loads the vocabulary, which takes some 70 ms.
        let input_tokens = off_thread(body.len().max(LONG_BYTES), || tokens::of_request(&plan.upstream));
        Ok(answer(&InputTokens { object: Some("response.input_tokens"), input_tokens }))
    }
}

impl Handler<Messages> {
    /// `POST /v1/messages/count_tokens`.
    pub(super) async fn count(self, request: Request) -> Response {
        let (parts, body, id) = opened(request);
        self.counted(parts, body).await.unwrap_or_else(|error| refuse::<Messages>(&error, &id, None))
    }

    async fn counted(self, parts: Parts, body: Body) -> Result<Response, ProxyError> {
        let BufferedBody { bytes: body, mut memory } = body::read(&parts.headers, body, &self.intake()).await?;
        let place = self.state.concurrency.enter().await?;
        memory.begin_work(&body).await?;
        // Both are held until the work is done, even if the client leaves.
        let counted = tokio::task::spawn_blocking(move || {
            let _held = (place, memory);
            self.estimate(&parts, &body)
        });
        let input_tokens = counted.await.map_err(|_| ProxyError::Internal)?;
        Ok(answer(&InputTokens { object: None, input_tokens }))
    }

    fn estimate(&self, parts: &Parts, body: &[u8]) -> u64 {
        if depth_limit::check(body).is_err() {
            return tokens::of_json(&String::from_utf8_lossy(body));
        }
        let models = self.services.models();
        let mut context = Context {
            headers: &parts.headers,
            key: key_name(parts),
            path_model: parts.extensions.get::<PathModel>().map(|model| model.0.as_str()),
            models: &models,
            warnings: Warnings::default(),
        };
        messages::count_tokens(body, &mut context, &self.options)
    }
}

/// The model doesn't change an estimate, and may be left out.
fn opened(request: Request) -> (Parts, Body, RequestId) {
    let (mut parts, body) = request.into_parts();
    if parts.extensions.get::<PathModel>().is_none() {
        parts.extensions.insert(PathModel("default".to_owned()));
    }
    let id = parts.extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::fresh);
    (parts, body, id)
}

fn answer(counted: &InputTokens) -> Response {
    let bytes = serde_json::to_vec(counted).expect("a number always serialises");
    json_response(StatusCode::OK, Bytes::from(bytes))
}
