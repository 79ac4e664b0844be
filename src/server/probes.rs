//! `/health` and `/ready`, for service managers and for `status`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;

use super::exchange::json_response;
use super::{Backend, Services};
use crate::upstream::Strange;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
    demo: bool,
    replay: bool,
    /// What the backend has said and this release does not know.
    drift: Vec<Strange>,
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Alive: always 200 while the process answers at all.
pub(super) async fn health(State(services): State<Arc<Services>>) -> Response {
    let (demo, replay) = (services.backend == Backend::Demo, services.backend == Backend::Replay);
    let drift = services.upstream.drift();
    json(StatusCode::OK, &Health { status: "ok", version: env!("CARGO_PKG_VERSION"), demo, replay, drift })
}

/// Able to serve: 503 with the reason where no token can be had.
pub(super) async fn ready(State(services): State<Arc<Services>>) -> Response {
    match services.tokens.check().await {
        Ok(()) => json(StatusCode::OK, &Ready { status: "ready", reason: None }),
        Err(error) => {
            json(StatusCode::SERVICE_UNAVAILABLE, &Ready { status: "not ready", reason: Some(error.to_string()) })
        }
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    json_response(status, Bytes::from(serde_json::to_vec(body).expect("a struct of texts always serialises")))
}
