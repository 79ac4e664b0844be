//! The opening of a socket: from an HTTP request to its upgrade.
//!
//! Whoever comes here has passed the gate already. What is no proper request for a WebSocket gets its
//! answer at once, so that a client which tries one first loses no time.

use axum::extract::Request;
use axum::response::Response;
use http::header::{ALLOW, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::error::ProxyError;
use crate::server::api_flavor::refuse;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const VERSION: HeaderValue = HeaderValue::from_static("13");

/// What a request for a WebSocket gives.
pub(super) struct UpgradeRequest {
    /// Becomes the connection when the answer has been sent.
    upgrade: OnUpgrade,
    accept_key: HeaderValue,
}

impl UpgradeRequest {
    /// Reads the request; `None`: it doesn't ask for a WebSocket, or not for one of ours.
    pub(super) fn of(request: &mut Request) -> Option<Self> {
        let headers = request.headers();
        let is_asked = has_token(headers, &CONNECTION, "upgrade")
            && has_token(headers, &UPGRADE, "websocket")
            && headers.get(SEC_WEBSOCKET_VERSION) == Some(&VERSION);
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_asked)?;
        let accept_key = HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()?;
        let upgrade = request.extensions_mut().remove::<OnUpgrade>()?;
        Some(Self { upgrade, accept_key })
    }

    /// The coming connection, and the answer that brings it about. No extension is agreed to.
    pub(super) fn granted(self) -> (OnUpgrade, Response) {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, WEBSOCKET);
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept_key);
        (self.upgrade, response)
    }
}

/// The answer to what asks for no WebSocket, or not properly.
pub(super) fn upgrade_required(request: &Request) -> Response {
    let allowed = "GET (as a WebSocket), POST".to_owned();
    let error = ProxyError::MethodNotAllowed { method: request.method().to_string(), allowed };
    let mut response = refuse(&error, request);
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
    headers.insert(SEC_WEBSOCKET_VERSION, VERSION);
    response
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}
