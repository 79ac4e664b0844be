//! Opens WebSockets with the shared HTTP client, so that the same proxy, certificate and endpoint rules apply.
//!
//! The handshake has the headers of the equivalent HTTP request, except those that describe a single request: they are
//! sent in the metadata of the request's frame. No compression is offered.

use http::header::{
    ACCEPT, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{StatusCode, Version};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::super::cassette::Recording;
use super::super::client::{no_client, read_failure};
use super::pool::Connection;
use crate::endpoint::Endpoint;
use crate::error::{Fault, Phase, ProxyError};
use crate::net::{HttpClient, error_chain};

/// The header that selects the WebSocket protocol.
const BETA: (HeaderName, HeaderValue) =
    (HeaderName::from_static("openai-beta"), HeaderValue::from_static("responses_websockets=2026-02-06"));
const TURN_STATE: HeaderName = HeaderName::from_static("x-codex-turn-state");
/// Headers that describe one request, and their names in the metadata of its frame.
const FRAME_METADATA: [(HeaderName, &str); 2] = [
    (TURN_STATE, "x-codex-turn-state"),
    (
        HeaderName::from_static("x-openai-internal-codex-responses-lite"),
        "ws_request_header_x_openai_internal_codex_responses_lite",
    ),
];
/// Headers that change with each turn of a conversation. They are sent in the handshake, but don't prevent the reuse of
/// a connection.
const PER_TURN: [HeaderName; 2] =
    [HeaderName::from_static("x-codex-turn-metadata"), HeaderName::from_static("x-codex-window-id")];
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// The headers of a handshake, and the metadata of the frame of its first request.
#[derive(Debug)]
pub(super) struct Handshake {
    headers: HeaderMap,
    metadata: Vec<(&'static str, String)>,
    key: String,
}

impl Handshake {
    /// Splits the headers of the equivalent HTTP request.
    pub(super) fn new(endpoint: &Endpoint, http_headers: &HeaderMap) -> Self {
        let mut headers = http_headers.clone();
        headers.remove(ACCEPT);
        headers.remove(CONTENT_TYPE);
        let mut metadata = Vec::new();
        for (header, name) in FRAME_METADATA {
            if let Some(value) = headers.remove(header).and_then(|value| value.to_str().ok().map(str::to_owned)) {
                metadata.push((name, value));
            }
        }
        headers.extend([BETA]);
        let key = key(endpoint, &headers);
        Self { headers, metadata, key }
    }

    /// Identifies the connections that the request can use: equal for all requests with the same endpoint and handshake
    /// headers, which include the token and the session.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Names and values of the metadata.
    pub(super) fn metadata(&self) -> Vec<(&str, &str)> {
        self.metadata.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

/// Hashes endpoint and headers. A hash, because the headers include the token.
fn key(endpoint: &Endpoint, headers: &HeaderMap) -> String {
    let lasting = headers.iter().filter(|(name, _)| !PER_TURN.contains(name));
    let mut lines: Vec<_> = lasting.map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    lines.sort_unstable();
    let mut hash = Sha256::new().chain_update(endpoint.as_str());
    for (name, value) in lines {
        hash.update(name);
        hash.update(value.len().to_be_bytes());
        hash.update(value);
    }
    format!("{:x}", hash.finalize())
}

/// Opens a connection within the connect timeout.
pub(super) async fn connect(
    http: &HttpClient,
    endpoint: &Endpoint,
    handshake: &Handshake,
    event_limit_bytes: usize,
    recording: Option<&Recording>,
) -> Result<Connection, ProxyError> {
    let limit = http.connect_timeout();
    let silent = || ProxyError::Silent { phase: Phase::Connecting, limit };
    let connected = timeout(limit, upgrade(http, endpoint, handshake, recording)).await.map_err(|_| silent())?;
    let (stream, mut headers) = connected?;
    // The turn state belongs to the first request only.
    headers.remove(TURN_STATE);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(event_limit_bytes))
        .max_frame_size(Some(event_limit_bytes));
    let stream = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
    Ok(Connection::new(stream, handshake.key().to_owned(), headers))
}

async fn upgrade(
    http: &HttpClient,
    endpoint: &Endpoint,
    handshake: &Handshake,
    recording: Option<&Recording>,
) -> Result<(reqwest::Upgraded, HeaderMap), ProxyError> {
    let client = http.upgrading_client_for(endpoint).await.map_err(|error| no_client(&error))?;
    let unreachable = |error: reqwest::Error| ProxyError::Unreachable { cause: error_chain(&error) };
    let key = generate_key();
    let request = client
        .get(endpoint.join("/responses"))
        .version(Version::HTTP_11)
        .headers(handshake.headers.clone())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key);
    let response = request.send().await.map_err(unreachable)?;
    http.observe_date(response.headers());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(explained(read_failure(response, recording).await));
    }
    let headers = response.headers().clone();
    let accepted = headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        let reason = "the WebSocket handshake response has the wrong Sec-WebSocket-Accept".to_owned();
        return Err(ProxyError::Damaged { reason });
    }
    Ok((response.upgrade().await.map_err(unreachable)?, headers))
}

/// Adds the setting to change to the error if the backend refuses WebSockets.
fn explained(mut error: ProxyError) -> ProxyError {
    if let ProxyError::Upstream(failure) = &mut error
        && failure.status == Some(StatusCode::UPGRADE_REQUIRED.as_u16())
    {
        failure.fault = Fault::WrongPlace;
        "the ChatGPT backend refuses WebSockets (HTTP 426); set upstream.transport to auto or sse"
            .clone_into(&mut failure.message);
    }
    error
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::Handshake;
    use crate::endpoint::{Endpoint, Trust};

    fn handshake(changes: &[(&str, &str)]) -> Handshake {
        let mut http_headers = HeaderMap::new();
        let base = [("accept", "text/event-stream"), ("authorization", "Bearer at_1"), ("session-id", "s")];
        for (name, value) in base.iter().chain(changes) {
            http_headers.insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let endpoint = Endpoint::parse("http://127.0.0.1:1/codex", Trust::KnownHosts).unwrap();
        Handshake::new(&endpoint, &http_headers)
    }

    #[test]
    fn headers_of_one_request_are_not_in_the_handshake() {
        let handshake = handshake(&[("x-codex-turn-state", "t"), ("x-openai-internal-codex-responses-lite", "true")]);
        let mut names: Vec<_> = handshake.headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "openai-beta", "session-id"]);
        let lite = "ws_request_header_x_openai_internal_codex_responses_lite";
        assert_eq!(handshake.metadata(), [("x-codex-turn-state", "t"), (lite, "true")]);
    }

    #[test]
    fn a_connection_belongs_to_one_login_and_conversation() {
        let base = handshake(&[]);
        for same in [("x-codex-turn-state", "2"), ("x-codex-turn-metadata", "{}"), ("x-codex-window-id", "w:1")] {
            assert_eq!(handshake(&[same]).key(), base.key(), "{same:?}");
        }
        for other in [("authorization", "Bearer at_2"), ("session-id", "t"), ("x-codex-routing-hint", "model=m")] {
            assert_ne!(handshake(&[other]).key(), base.key(), "{other:?}");
        }
    }
}
