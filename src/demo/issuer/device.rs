//! Sign-in with a device code: issues a code, serves the page to enter it on, and answers the client's polls.
//!
//! Like the real service, the server and not the client generates the PKCE pair, and returns it with the authorization
//! code. Polls get status 403 until the code is entered, and after one success. Any pending code that is entered is
//! approved.

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
use crate::demo::json_response;

/// The page to enter a code on.
const FORM: &str = "<!doctype html><html lang=\"en\"><title>Demo sign-in</title><h1>Demo sign-in</h1>\
    <p>This sign-in is simulated and needs no account: enter a pending code.</p><form method=\"post\">\
    <label>Code <input name=\"user_code\" autofocus></label> <button>Sign in</button></form></html>";

/// The routes for device codes.
pub(super) fn router() -> Router<Arc<Sessions>> {
    Router::new()
        .route("/api/accounts/deviceauth/usercode", post(user_code))
        .route("/api/accounts/deviceauth/token", post(poll))
        .route("/codex/device", get(|| async { Html(FORM) }).post(approve))
}

async fn user_code(State(sessions): State<Arc<Sessions>>, headers: HeaderMap, body: Bytes) -> Response {
    let parameters = members(&headers, &body);
    let Some(client_id) = parameters.get("client_id").filter(|id| !id.is_empty()) else {
        return denied(Denial::Incomplete("client_id"));
    };
    let (id, user_code) = sessions.issue_device_code(client_id);
    json_response::json_response(
        StatusCode::OK,
        &json!({"device_auth_id": id, "user_code": user_code, "interval": "1"}),
    )
}

async fn approve(State(sessions): State<Arc<Sessions>>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
    let parameters = members(&headers, &body);
    if sessions.approve(parameters.get("user_code").map_or("", |code| code.trim())) {
        (StatusCode::OK, "You are signed in. Return to the terminal.\n")
    } else {
        (StatusCode::NOT_FOUND, "This code is unknown or expired.\n")
    }
}

async fn poll(State(sessions): State<Arc<Sessions>>, headers: HeaderMap, body: Bytes) -> Response {
    let parameters = members(&headers, &body);
    let member = |name: &str| parameters.get(name).map_or("", String::as_str);
    match sessions.device_state(member("device_auth_id"), member("user_code")) {
        DeviceState::Approved { client_id } => approved_response(&sessions, client_id),
        // The real service's error for a code that has not been entered yet.
        DeviceState::Pending => forbidden("deviceauth_authorization_unknown", "Device authorization is unknown."),
        DeviceState::Gone => forbidden("deviceauth_expired", "Device authorization has expired."),
    }
}

/// Issues an authorization code, and returns it with its PKCE pair.
fn approved_response(sessions: &Sessions, client_id: String) -> Response {
    let verifier = format!("{0}{0}", uuid::Uuid::new_v4().simple());
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
    let redirect_uri = format!("{}/deviceauth/callback", sessions.issuer());
    let code = sessions.issue_code(Grant { client_id, redirect_uri, challenge: challenge.clone() });
    let body: HashMap<_, _> =
        [("authorization_code", code), ("code_challenge", challenge), ("code_verifier", verifier)].into();
    json_response::json_response(StatusCode::OK, &json!(body))
}

fn forbidden(code: &str, message: &str) -> Response {
    let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": code});
    json_response::json_response(StatusCode::FORBIDDEN, &json!({"error": error}))
}
