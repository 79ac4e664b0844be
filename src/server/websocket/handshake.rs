//! The WebSocket handshake: from an HTTP request to its upgrade.
//!
//! The request has passed the access policy already. A request that isn't a valid upgrade is refused immediately, so
//! that a client that tries WebSocket first loses no time.

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

/// A valid upgrade request.
pub(super) struct UpgradeRequest {
    /// Resolves to the connection when the response has been sent.
    upgrade: OnUpgrade,
    accept_key: HeaderValue,
}

impl UpgradeRequest {
    /// Parses the headers; `None` if this isn't a valid WebSocket request.
    pub(super) fn parse(request: &mut Request) -> Option<Self> {
        let headers = request.headers();
        let is_upgrade = has_token(headers, &CONNECTION, "upgrade")
            && has_token(headers, &UPGRADE, "websocket")
            && headers.get(SEC_WEBSOCKET_VERSION) == Some(&VERSION);
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_upgrade)?;
        let accept_key = HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()?;
        let upgrade = request.extensions_mut().remove::<OnUpgrade>()?;
        Some(Self { upgrade, accept_key })
    }

    /// The future connection, and the response that starts it. No extensions are negotiated.
    pub(super) fn accept(self) -> (OnUpgrade, Response) {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, WEBSOCKET);
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept_key);
        (self.upgrade, response)
    }
}

/// The response to a request that isn't a valid WebSocket upgrade.
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
