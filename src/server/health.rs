//! `/health` and `/ready`, for service managers and the `status` command.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::http_response::json;
use super::{Backend, Services};
use crate::clock::rfc3339;
use crate::error::ProxyError;
use crate::protocol::error_response::{self, Retry};
use crate::token_source::SessionState;
use crate::upstream::{RejectedParam, UnknownName};

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
    demo: bool,
    replay: bool,
    /// The id in the run file of this process, which distinguishes it from other programs at the same address.
    instance: String,
    /// Whether requests need a client key.
    requires_key: bool,
    /// Names of events, members and items that the backend sent and this release doesn't know.
    drift: Vec<UnknownName>,
    /// Parameters that the backend rejected, and that requests leave out for a while.
    omitted: Vec<RejectedParam>,
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// `client` if clients sign in themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_in: Option<&'static str>,
    /// Why the access token can't be refreshed, with the command that fixes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    /// When an access token that can't be refreshed expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// `GET /health`. Responds 200 whenever the process runs.
pub(super) async fn health(State(services): State<Arc<Services>>) -> Response {
    let (demo, replay) = (services.backend == Backend::Demo, services.backend == Backend::Replay);
    let (drift, omitted) = (services.upstream.unknown_names(), services.upstream.rejected_params());
    let (instance, version) = (services.instance.clone(), env!("CARGO_PKG_VERSION"));
    let requires_key = !services.live.borrow().access.keys.is_empty();
    json(&Health { status: "ok", version, demo, replay, instance, requires_key, drift, omitted })
}

/// `GET /ready`. Responds 200 if a token is available or clients send their own, with a warning if the session can't be
/// refreshed; otherwise 503 with the reason.
pub(super) async fn ready(State(services): State<Arc<Services>>) -> Response {
    match services.tokens.check().await {
        Ok(state) => {
            let expires_at = match &state {
                SessionState::Ending { expires_at: Some(end), .. } => Some(rfc3339(*end)),
                SessionState::ByClient | SessionState::Working | SessionState::Ending { expires_at: None, .. } => None,
            };
            let sign_in = (state == SessionState::ByClient).then_some("client");
            json(&Ready { status: "ready", reason: None, sign_in, warning: state.warning(), expires_at })
        }
        Err(error) => {
            let reason = Some(error.to_string());
            let ready = Ready { status: "not ready", reason, sign_in: None, warning: None, expires_at: None };
            let mut response = json(&ready);
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().extend(error_response::headers(&ProxyError::Auth(error), Retry::Open));
            response
        }
    }
}
