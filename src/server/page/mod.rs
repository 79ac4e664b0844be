//! `GET /`: a page for a person, made here, whole, and working without its script.
//!
//! It shows what `/usage` tells, whether somebody is signed in, the models, and what to type into a
//! client; never what was asked or answered. What is shown is a pure function of a [`View`]. The style
//! and the script are part of the document, and by its policy nothing else can be loaded or run. The
//! script asks for the document again every few seconds and takes over what has changed in it.

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
use super::metrics::ServerState;
use super::usage::Snapshot;
use super::{Backend, Services};
use crate::clock::{Clock as _, SystemClock};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Nothing but the style and the script that are in the document, and the document itself.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT),
    );
    HeaderValue::try_from(policy).expect("base64 and words fit into a header")
});

/// Whether a request comes from a browser that wants to show our page.
pub(super) fn is_for_person(request: &Parts) -> bool {
    let mut accepted = request.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let is_read = matches!(request.method, Method::GET | Method::HEAD) && request.uri.path() == PAGE;
    is_read && accepted.any(|kinds| kinds.to_ascii_lowercase().contains("text/html"))
}

/// Answers with the page; a program that looks whether anybody is there gets a line of text.
pub(super) async fn show(services: Arc<Services>, state: Arc<ServerState>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if !is_for_person(&parts) {
        let text = match services.backend {
            Backend::ChatGpt => "codex-proxy is running\n",
            Backend::Demo => "codex-proxy is running (a demo: no model answers)\n",
            Backend::Replay => "codex-proxy is running (a replay: no model answers)\n",
        };
        return guarded(StatusCode::OK, "text/plain; charset=utf-8", text.to_owned());
    }
    let requires_key = parts.extensions.get::<Arc<AccessPolicy>>().is_some_and(|policy| policy.requires_key());
    let snapshot = Snapshot::take(&services, &state, None, parts.extensions.get()).await;
    // What was found out on the way there counts.
    let sign_in = services.tokens.check().await;
    let view = View {
        snapshot: &snapshot,
        sign_in: &sign_in,
        models: &services.models(),
        address: authority(&parts),
        access: if requires_key { Access::Keyed } else { Access::Open },
        now: SystemClock.now(),
    };
    guarded(StatusCode::OK, "text/html; charset=utf-8", view.document())
}

/// Asks a browser for a key.
pub(super) fn locked() -> Response {
    let mut response = guarded(StatusCode::UNAUTHORIZED, "text/html; charset=utf-8", view::locked());
    let challenge = HeaderValue::from_static("Basic realm=\"codex-proxy: a client key as the password\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

/// An answer that no other page can frame, and nobody keeps.
fn guarded(status: StatusCode, kind: &'static str, text: String) -> Response {
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
