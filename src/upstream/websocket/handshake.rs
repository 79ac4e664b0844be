//! From an HTTP/1.1 request to an open WebSocket, over the client that everything else goes over.
//!
//! So the rules for proxies, certificates and addresses hold here too. What an HTTP request says in
//! headers for one turn goes into the metadata of its frame instead. No compression is offered.

use std::fmt::Write as _;

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

use super::super::cassette::Tape;
use super::super::client::{refusal, unusable};
use super::pool::Socket;
use crate::endpoint::Endpoint;
use crate::error::{Fault, Phase, ProxyError};
use crate::net::{HttpClient, error_chain};

const BETA: (HeaderName, HeaderValue) =
    (HeaderName::from_static("openai-beta"), HeaderValue::from_static("responses_websockets=2026-02-06"));
const TURN_STATE: HeaderName = HeaderName::from_static("x-codex-turn-state");
/// Headers of one request, and the names that its frame's metadata has for them.
const MOVED: [(HeaderName, &str); 2] = [
    (TURN_STATE, "x-codex-turn-state"),
    (
        HeaderName::from_static("x-openai-internal-codex-responses-lite"),
        "ws_request_header_x_openai_internal_codex_responses_lite",
    ),
];
/// Headers that tell one turn from the next: a connection outlives them.
const PASSING: [HeaderName; 2] =
    [HeaderName::from_static("x-codex-turn-metadata"), HeaderName::from_static("x-codex-window-id")];
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// What a connection is opened with, and what belongs to the single request instead.
#[derive(Debug)]
pub(super) struct Greeting {
    headers: HeaderMap,
    metadata: Vec<(&'static str, String)>,
    key: String,
}

impl Greeting {
    /// Divides the headers of a request that would be posted.
    pub(super) fn of(endpoint: &Endpoint, posted: &HeaderMap) -> Self {
        let mut headers = posted.clone();
        headers.remove(ACCEPT);
        headers.remove(CONTENT_TYPE);
        let mut metadata = Vec::new();
        for (header, name) in MOVED {
            if let Some(value) = headers.remove(header).and_then(|value| value.to_str().ok().map(str::to_owned)) {
                metadata.push((name, value));
            }
        }
        headers.extend([BETA]);
        let key = key(endpoint, &headers);
        Self { headers, metadata, key }
    }

    /// What all requests of one conversation of one login have in common.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn metadata(&self) -> Vec<(&str, &str)> {
        self.metadata.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}

/// A fingerprint, since the token is in it.
fn key(endpoint: &Endpoint, headers: &HeaderMap) -> String {
    let lasting = headers.iter().filter(|(name, _)| !PASSING.contains(name));
    let mut lines: Vec<_> = lasting.map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    lines.sort_unstable();
    let mut hash = Sha256::new().chain_update(endpoint.as_str());
    for (name, value) in lines {
        hash.update(name);
        hash.update(value.len().to_be_bytes());
        hash.update(value);
    }
    hash.finalize().iter().fold(String::new(), |mut key, byte| {
        let _ = write!(key, "{byte:02x}");
        key
    })
}

/// Opens a connection within the limit for connecting.
pub(super) async fn connect(
    http: &HttpClient,
    endpoint: &Endpoint,
    greeting: &Greeting,
    event_limit_bytes: usize,
    tape: Option<&Tape>,
) -> Result<Socket, ProxyError> {
    let limit = http.connect_timeout();
    let silent = || ProxyError::Silent { phase: Phase::Connecting, limit };
    let connected = timeout(limit, upgraded(http, endpoint, greeting, tape)).await.map_err(|_| silent())?;
    let (stream, mut headers) = connected?;
    // This one is not for being sent back.
    headers.remove(TURN_STATE);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(event_limit_bytes))
        .max_frame_size(Some(event_limit_bytes));
    let stream = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
    Ok(Socket::new(stream, greeting.key().to_owned(), headers))
}

async fn upgraded(
    http: &HttpClient,
    endpoint: &Endpoint,
    greeting: &Greeting,
    tape: Option<&Tape>,
) -> Result<(reqwest::Upgraded, HeaderMap), ProxyError> {
    let client = http.upgrading_client_for(endpoint).await.map_err(|error| unusable(&error))?;
    let unreachable = |error: reqwest::Error| ProxyError::Unreachable { cause: error_chain(&error) };
    let key = generate_key();
    let request = client
        .get(endpoint.join("/responses"))
        .version(Version::HTTP_11)
        .headers(greeting.headers.clone())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key);
    let response = request.send().await.map_err(unreachable)?;
    http.observe_date(response.headers());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(unaccepted(refusal(response, tape).await));
    }
    let headers = response.headers().clone();
    let accepted = headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        let reason = "the WebSocket was accepted with the wrong key".to_owned();
        return Err(ProxyError::Damaged { reason });
    }
    Ok((response.upgrade().await.map_err(unreachable)?, headers))
}

/// Where the refusal is about the WebSocket itself, the message says what to do about it.
fn unaccepted(mut error: ProxyError) -> ProxyError {
    if let ProxyError::Upstream(failure) = &mut error
        && failure.status == Some(StatusCode::UPGRADE_REQUIRED.as_u16())
    {
        failure.fault = Fault::WrongPlace;
        "the ChatGPT backend takes no WebSocket (HTTP 426); set upstream.transport to auto or sse"
            .clone_into(&mut failure.message);
    }
    error
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::Greeting;
    use crate::endpoint::{Endpoint, Trust};

    fn greeting(changes: &[(&str, &str)]) -> Greeting {
        let mut posted = HeaderMap::new();
        let usual = [("accept", "text/event-stream"), ("authorization", "Bearer at_1"), ("session-id", "s")];
        for (name, value) in usual.iter().chain(changes) {
            posted.insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let endpoint = Endpoint::parse("http://127.0.0.1:1/codex", Trust::KnownHosts).unwrap();
        Greeting::of(&endpoint, &posted)
    }

    #[test]
    fn what_belongs_to_one_request_is_not_on_the_handshake() {
        let greeting = greeting(&[("x-codex-turn-state", "t"), ("x-openai-internal-codex-responses-lite", "true")]);
        let mut names: Vec<_> = greeting.headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "openai-beta", "session-id"]);
        let lite = "ws_request_header_x_openai_internal_codex_responses_lite";
        assert_eq!(greeting.metadata(), [("x-codex-turn-state", "t"), (lite, "true")]);
    }

    #[test]
    fn a_connection_belongs_to_one_login_and_conversation() {
        let usual = greeting(&[]);
        for same in [("x-codex-turn-state", "2"), ("x-codex-turn-metadata", "{}"), ("x-codex-window-id", "w:1")] {
            assert_eq!(greeting(&[same]).key(), usual.key(), "{same:?}");
        }
        for other in [("authorization", "Bearer at_2"), ("session-id", "t"), ("x-codex-routing-hint", "model=m")] {
            assert_ne!(greeting(&[other]).key(), usual.key(), "{other:?}");
        }
    }
}
