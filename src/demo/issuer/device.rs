//! Device codes of the simulated sign-in: a code to show, a page to type it on, a poll.
//!
//! As with the real service, the service itself makes the PKCE pair, and a poll that comes before
//! the code was typed is answered with 403. The page believes whoever types a code.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{Html, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::sessions::{DeviceState, Grant};
use super::{Denial, Sessions, denied, members};
use crate::demo::reply;

const FORM: &str = "<!doctype html><html lang=\"en\"><title>Demo sign-in</title><h1>Demo sign-in</h1>\
    <p>No account is asked for: any code that is waiting will do.</p><form method=\"post\">\
    <label>Code <input name=\"user_code\" autofocus></label> <button>Sign in</button></form></html>";

/// The paths of device codes.
pub(super) fn router() -> Router<Arc<Sessions>> {
    Router::new()
        .route("/api/accounts/deviceauth/usercode", post(user_code))
        .route("/api/accounts/deviceauth/token", post(poll))
        .route("/codex/device", get(|| async { Html(FORM) }).post(approve))
}

async fn user_code(State(sessions): State<Arc<Sessions>>, headers: HeaderMap, body: Bytes) -> Response {
    let asked = members(&headers, &body);
    let Some(client_id) = asked.get("client_id").filter(|id| !id.is_empty()) else {
        return denied(Denial::Incomplete("client_id"));
    };
    let (id, user_code) = sessions.device(client_id);
    reply::answer(StatusCode::OK, &json!({"device_auth_id": id, "user_code": user_code, "interval": "1"}))
}

async fn approve(State(sessions): State<Arc<Sessions>>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
    let asked = members(&headers, &body);
    if sessions.approve(asked.get("user_code").map_or("", |code| code.trim())) {
        (StatusCode::OK, "You are signed in; go back to the terminal.\n")
    } else {
        (StatusCode::NOT_FOUND, "There is no such code, or its time is over.\n")
    }
}

async fn poll(State(sessions): State<Arc<Sessions>>, headers: HeaderMap, body: Bytes) -> Response {
    let asked = members(&headers, &body);
    let member = |name: &str| asked.get(name).map_or("", String::as_str);
    match sessions.device_state(member("device_auth_id"), member("user_code")) {
        DeviceState::Approved { client_id } => granted(&sessions, client_id),
        DeviceState::Pending => unknown("deviceauth_authorization_unknown", "Device authorization is unknown."),
        DeviceState::Gone => unknown("deviceauth_expired", "Device authorization has expired."),
    }
}

fn granted(sessions: &Sessions, client_id: String) -> Response {
    let verifier = format!("{0}{0}", uuid::Uuid::new_v4().simple());
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
    let redirect_uri = format!("{}/deviceauth/callback", sessions.issuer());
    let code = sessions.grant(Grant { client_id, redirect_uri, challenge: challenge.clone() });
    let body: HashMap<_, _> =
        [("authorization_code", code), ("code_challenge", challenge), ("code_verifier", verifier)].into();
    reply::answer(StatusCode::OK, &json!(body))
}

fn unknown(code: &str, message: &str) -> Response {
    let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": code});
    reply::answer(StatusCode::FORBIDDEN, &json!({"error": error}))
}
