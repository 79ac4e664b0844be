//! The simulated sign-in service (OAuth issuer): authorize, token, revoke, and sign-in with a device code.
//!
//! The authorize endpoint asks nothing: it redirects to the client at once, and only to loopback addresses.
//! Authorization codes are bound to a PKCE challenge. Refresh tokens can be used once; reuse gives the error of the
//! real service.

mod claims;
mod device;
mod sessions;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::json_response;
pub(super) use claims::{ACCOUNT_ID, EMAIL, PLAN, USER_ID};
use sessions::{Denial, Grant};
pub(super) use sessions::{Sessions, TOKEN_LIFETIME, TokenState, Tokens, unix};

/// The routes of the service.
pub(super) fn router(sessions: Arc<Sessions>) -> Router {
    Router::new()
        .route("/oauth/authorize", get(authorize))
        .route("/oauth/token", post(token))
        .route("/oauth/revoke", post(revoke))
        .merge(device::router())
        .with_state(sessions)
}

async fn authorize(
    State(sessions): State<Arc<Sessions>>,
    Query(parameters): Query<HashMap<String, String>>,
) -> Response {
    match redirect(&sessions, &parameters) {
        Ok(target) => (StatusCode::FOUND, [(LOCATION, String::from(target))]).into_response(),
        Err(fault) => (StatusCode::BAD_REQUEST, format!("demo sign-in: {fault}\n")).into_response(),
    }
}

/// Returns the address to redirect to, with an authorization code. The error is the reason.
fn redirect(sessions: &Sessions, parameters: &HashMap<String, String>) -> Result<Url, String> {
    let member = |name: &str| match parameters.get(name) {
        Some(value) if !value.is_empty() => Ok(value.clone()),
        _ => Err(format!("missing parameter '{name}'")),
    };
    if member("response_type")? != "code" {
        return Err("response_type must be 'code'".to_owned());
    }
    if member("code_challenge_method")? != "S256" {
        return Err("code_challenge_method must be 'S256'".to_owned());
    }
    let state = member("state")?;
    let redirect_uri = member("redirect_uri")?;
    let mut target = loopback(&redirect_uri).ok_or("redirect_uri must be an http address of this machine")?;
    let grant = Grant { client_id: member("client_id")?, redirect_uri, challenge: member("code_challenge")? };
    let code = sessions.issue_code(grant);
    target.query_pairs_mut().append_pair("code", &code).append_pair("state", &state);
    Ok(target)
}

/// Parses an address, and returns it if it is an http address of this machine.
fn loopback(address: &str) -> Option<Url> {
    let url = Url::parse(address).ok()?;
    let here = match url.host()? {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(ip) => ip.is_loopback(),
        url::Host::Ipv6(ip) => ip.is_loopback(),
    };
    (here && url.scheme() == "http").then_some(url)
}

async fn token(State(sessions): State<Arc<Sessions>>, headers: HeaderMap, body: Bytes) -> Response {
    let parameters = members(&headers, &body);
    let member = |name: &str| parameters.get(name).map_or("", String::as_str);
    let issued = match member("grant_type") {
        _ if member("client_id").is_empty() => Err(Denial::Incomplete("client_id")),
        "authorization_code" => {
            sessions.exchange(member("code"), member("client_id"), member("redirect_uri"), member("code_verifier"))
        }
        "refresh_token" => sessions.refresh(member("refresh_token")),
        _ => Err(Denial::UnknownGrant),
    };
    match issued {
        Ok(tokens) => json_response::json_response(StatusCode::OK, &issued_body(&tokens)),
        Err(denial) => denied(denial),
    }
}

async fn revoke(State(sessions): State<Arc<Sessions>>, headers: HeaderMap, body: Bytes) -> Response {
    let parameters = members(&headers, &body);
    match parameters.get("token") {
        Some(token) => {
            sessions.revoke(token);
            json_response::json_response(StatusCode::OK, &json!({}))
        }
        None => denied(Denial::Incomplete("token")),
    }
}

/// Returns the string members of a JSON or form body.
fn members(headers: &HeaderMap, body: &[u8]) -> HashMap<String, String> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/x-www-form-urlencoded") {
        return url::form_urlencoded::parse(body).into_owned().collect();
    }
    let Ok(Value::Object(object)) = serde_json::from_slice(body) else { return HashMap::new() };
    object.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect()
}

fn issued_body(tokens: &Tokens) -> Value {
    json!({
        "id_token": tokens.id_token,
        "access_token": tokens.access_token,
        "refresh_token": tokens.refresh_token,
        "expires_in": TOKEN_LIFETIME.as_secs(),
        "token_type": "Bearer",
        "scope": "openid profile email offline_access",
    })
}

fn denied(denial: Denial) -> Response {
    let (status, code, message) = match denial {
        Denial::Spent => (
            StatusCode::UNAUTHORIZED,
            "refresh_token_reused",
            "Your refresh token has already been used to generate a new access token. Please try signing in again."
                .to_owned(),
        ),
        Denial::Revoked => {
            (StatusCode::UNAUTHORIZED, "refresh_token_invalidated", "This sign-in has been revoked.".to_owned())
        }
        Denial::Unknown => {
            let body = json!({ "error": "invalid_grant", "error_description": "The grant is unknown or has ended." });
            return json_response::json_response(StatusCode::BAD_REQUEST, &body);
        }
        Denial::Incomplete(name) => {
            (StatusCode::BAD_REQUEST, "invalid_request", format!("Missing required parameter: '{name}'."))
        }
        Denial::UnknownGrant => {
            (StatusCode::BAD_REQUEST, "unsupported_grant_type", "This grant type is not supported.".to_owned())
        }
    };
    let error = json!({ "message": message, "type": "invalid_request_error", "param": null, "code": code });
    json_response::json_response(status, &json!({ "error": error }))
}
