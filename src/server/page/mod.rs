//! `GET /`: a page that shows the state of the proxy. It works without its script.
//!
//! Shows the data of `/usage`, the sign-in state, the models, and the settings for clients; never prompts or responses.
//! The document is a pure function of a [`View`]. Style and script are part of it, and the content security policy
//! forbids any others. The script fetches the document every few seconds and updates what has changed.

mod clients;
mod format;
mod history;
mod html;
mod models;
mod quota;
mod requests;
mod sign_in;
mod view;

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use sha2::{Digest, Sha256};

use self::view::{Access, View};
use super::access::{AccessPolicy, PAGE, authority};
use super::state::ServerState;
use super::usage::Snapshot;
use super::{Backend, Services};
use crate::clock::{Clock as _, SystemClock};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The content security policy: allows the style and script in the document, and fetching from this server.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT),
    );
    HeaderValue::try_from(policy).expect("the policy is ASCII")
});

/// Whether a browser requests the page.
pub(super) fn is_page_request(request: &Parts) -> bool {
    let mut accepted = request.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let is_read = matches!(request.method, Method::GET | Method::HEAD) && request.uri.path() == PAGE;
    is_read && accepted.any(|kinds| kinds.to_ascii_lowercase().contains("text/html"))
}

/// `GET /`. Responds with the page. Programs that check whether the server runs get a line of text.
pub(super) async fn show(services: Arc<Services>, state: Arc<ServerState>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if !is_page_request(&parts) {
        let text = match services.backend {
            Backend::ChatGpt => "codex-proxy is running\n",
            Backend::Demo => "codex-proxy is running (demo: responses are simulated)\n",
            Backend::Replay => "codex-proxy is running (replay: responses are recorded)\n",
        };
        return protected(StatusCode::OK, "text/plain; charset=utf-8", text.to_owned());
    }
    let requires_key = parts.extensions.get::<Arc<AccessPolicy>>().is_some_and(|policy| policy.requires_key());
    let snapshot = Snapshot::take(&services, &state, None, &parts).await;
    // After the snapshot, whose quota request may have changed the state.
    let sign_in = services.tokens.check().await;
    let view = View {
        snapshot: &snapshot,
        sign_in: &sign_in,
        models: &services.models(&parts.headers),
        address: authority(&parts),
        access: if requires_key { Access::Keyed } else { Access::Open },
        now: SystemClock.now(),
    };
    protected(StatusCode::OK, "text/html; charset=utf-8", view.document())
}

/// Responds with a page that makes the browser prompt for a client key.
pub(super) fn key_required() -> Response {
    let mut response = protected(StatusCode::UNAUTHORIZED, "text/html; charset=utf-8", view::key_required());
    let challenge = HeaderValue::from_static("Basic realm=\"codex-proxy: enter a client key as the password\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

/// A response that can't be framed or cached.
fn protected(status: StatusCode, kind: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (X_FRAME_OPTIONS, "DENY"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (VARY, "accept"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
