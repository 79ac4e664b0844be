//! The simulated backend: account, quota, models, and responses as event streams over HTTP or WebSocket.
//!
//! Like the real backend, it requires a valid access token and its account id, or returns 401. What a response contains
//! depends on the prompt: [`output`] generates text and tool calls, [`script`] makes the calls that a prompt lists, and
//! [`fault`] makes requests fail.

mod catalogue;
mod client_tools;
mod compression;
mod control;
mod events;
mod fault;
mod hints;
mod output;
mod png;
mod prompt;
mod quota;
mod responses;
mod schema_value;
mod script;
mod side;
mod socket;
mod validate;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::header::{AUTHORIZATION, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::issuer::{ACCOUNT_ID, PLAN, Sessions, TokenState};
use super::json_response::{Refusal, json_response};
use crate::protocol::codex::{WireFormat, lite};
pub use fault::FAULT_WORDS;
use responses::Responses;
use socket::serve_socket;

/// Size limit of requests: larger than the proxy's, so that tests reach the limit of the proxy.
const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;

/// The routes of the backend; `cancel` closes all WebSocket connections.
pub(super) fn router(sessions: Arc<Sessions>, cancel: CancellationToken) -> Router {
    let accounts = Router::new()
        .route("/backend-api/wham/accounts/check", get(accounts))
        .route("/backend-api/wham/usage", get(usage))
        .route("/backend-api/codex/models", get(models))
        .with_state(Arc::clone(&sessions));
    let side = side::router(&sessions);
    let responses = Router::new()
        .route("/backend-api/codex/responses", get(upgrade).post(respond))
        .with_state(Arc::new(Responses::new(sessions, cancel)));
    let routes = accounts.merge(side).merge(responses);
    routes.layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).layer(from_fn(compression::compress)).fallback(unknown_path)
}

async fn unknown_path() -> Refusal {
    Refusal::detail(StatusCode::NOT_FOUND, "Not Found")
}

async fn accounts(State(sessions): State<Arc<Sessions>>, headers: HeaderMap) -> Result<Response, Refusal> {
    authenticate(&sessions, &headers)?;
    let account = json!({
        "id": ACCOUNT_ID, "plan_type": PLAN, "structure": "personal", "name": null,
        "workspace_backend_origin": "NO_CONSTRAINT", "account_routing_override": "NO_CONSTRAINT",
        "is_deactivated": false, "is_fedramp_compliant_workspace": false, "can_access_with_session": true,
        "sso_connection_name": null, "profile_picture_url": null,
    });
    let body = json!({ "accounts": [account], "default_account_id": ACCOUNT_ID, "account_ordering": [ACCOUNT_ID] });
    Ok(json_response(StatusCode::OK, &body))
}

async fn usage(State(sessions): State<Arc<Sessions>>, headers: HeaderMap) -> Result<Response, Refusal> {
    authenticate(&sessions, &headers)?;
    Ok(json_response(StatusCode::OK, &quota::document(sessions.now())))
}

async fn models(
    State(sessions): State<Arc<Sessions>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    authenticate(&sessions, &headers)?;
    if query.get("client_version").is_none_or(String::is_empty) {
        let missing = json!([{ "type": "missing", "loc": ["query", "client_version"], "msg": "Field required" }]);
        return Ok(json_response(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "detail": missing })));
    }
    let mut response = json_response(StatusCode::OK, &catalogue::document());
    response.headers_mut().insert(ETAG, HeaderValue::from_static(catalogue::ETAG));
    Ok(response)
}

async fn respond(
    State(responses): State<Arc<Responses>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    authenticate(responses.sessions(), &headers)?;
    let body: Value =
        serde_json::from_slice(&body).map_err(|_| Refusal::bad_request("Request body is not valid JSON"))?;
    Ok(responses.answer(&body, form_of(&headers, &body))?.into_response())
}

async fn upgrade(
    State(responses): State<Arc<Responses>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    authenticate(responses.sessions(), &headers)?;
    let upgrade = upgrade.map_err(|_| Refusal::detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"))?;
    Ok(upgrade
        .max_message_size(MAX_BODY_BYTES)
        .max_frame_size(MAX_BODY_BYTES)
        .on_upgrade(|socket| serve_socket(socket, responses)))
}

/// Returns the body form that a request declares, in a header or in its metadata.
pub(super) fn form_of(headers: &HeaderMap, body: &Value) -> WireFormat {
    let metadata = body.get("client_metadata").and_then(|metadata| to_raw_value(metadata).ok());
    if lite::is_marked(headers, metadata.as_deref()) { WireFormat::Lite } else { WireFormat::Classic }
}

/// Checks the access token and the account id.
fn authenticate(sessions: &Sessions, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(token) = text(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer ")) else {
        return Err(Refusal::detail(StatusCode::UNAUTHORIZED, "Unauthorized"));
    };
    match sessions.token_state(token) {
        TokenState::Expired => {
            return Err(Refusal::invalid_token(
                "token_expired",
                "Provided authentication token is expired. Please try signing in again.",
            ));
        }
        TokenState::Unknown => {
            return Err(Refusal::invalid_token(
                "token_invalidated",
                "Your authentication token has been invalidated. Please try signing in again.",
            ));
        }
        TokenState::Current => {}
    }
    if text("chatgpt-account-id") == Some(ACCOUNT_ID) {
        return Ok(());
    }
    Err(Refusal::detail(StatusCode::UNAUTHORIZED, "Unauthorized"))
}
