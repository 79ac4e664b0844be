//! The daemon: the real binary between a scripted backend and a scripted issuer.

#![expect(clippy::unwrap_used, reason = "test helpers panic on failure")]

mod access;
mod accounts;
mod agents;
mod audio;
mod background;
mod batch_faults;
mod batches;
#[path = "../support/bodies.rs"]
mod bodies;
#[path = "../replies/cases.rs"]
#[expect(dead_code, reason = "only the number of bytes matters here")]
mod cases;
mod cassettes;
mod chat;
mod claude;
#[path = "../support/clock.rs"]
#[expect(dead_code, reason = "the binary uses the real time, and so does the issuer here")]
mod clock;
mod compression;
mod connect;
mod connections;
mod conversations;
mod cors;
mod demo;
mod doctor;
mod documents;
#[path = "../support/upstream.rs"]
#[expect(dead_code, reason = "the binary always uses HTTP/1.1 on loopback")]
mod fake;
#[path = "../support/issuer.rs"]
#[expect(dead_code, reason = "this crate does not call the issuer itself")]
mod fake_issuer;
mod files;
mod gateway;
mod gemini;
mod images;
mod input;
mod key_shares;
mod keys;
mod lifecycle;
mod limits;
mod lite;
#[cfg(unix)]
mod logs;
mod memory;
mod messages;
mod models;
mod ollama;
mod page;
mod pass_through;
#[path = "../support/proxy.rs"]
mod proxy;
mod relay;
mod relay_failures;
#[cfg(unix)]
mod reloads;
mod report;
mod secrets;
#[cfg(unix)]
mod service_manager;
mod side_cassettes;
mod sign_in;
mod sign_in_state;
mod slow_bodies;
mod status;
mod stored_responses;
mod surface;
mod telemetry;
mod tolerance;
mod transports;
#[cfg(unix)]
mod unix_sockets;
mod unknown_events;
mod uploads;
mod usage;
#[cfg(target_os = "linux")]
mod users;
mod web_search;
mod websocket;
mod websockets;
mod wire;

use std::time::Duration;

use codex_proxy::auth::{Credential, Document};
use codex_proxy::clock::{Clock as _, SystemClock};
use codex_proxy::secret::Secret;
use fake::{FakeUpstream, Script};
use proxy::{Launch, TestProxy};
use serde_json::{Value, json};
use wire::Answer;

const SECOND: Duration = Duration::from_secs(1);

const CREATED: &str =
    r#"{"type":"response.created","response":{"id":"resp_1","created_at":1700000000,"model":"gpt-5.5"}}"#;
const ADDED: &str = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","id":"msg_1","role":"assistant","content":[]}}"#;
const DELTA: &str =
    r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"item_id":"msg_1","delta":"Grüße 👋"}"#;
const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"resp_1","created_at":1700000000,"model":"gpt-5.5","status":"completed","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}}"#;
/// A complete response.
const WHOLE: [&str; 4] = [CREATED, ADDED, DELTA, COMPLETED];
/// Up to the first delta of the response.
const BEGUN: [&str; 3] = [CREATED, ADDED, DELTA];

/// A signed-in daemon and its backend.
struct Bench {
    upstream: FakeUpstream,
    proxy: TestProxy,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|launch| launch).await
    }

    async fn with(change: impl FnOnce(Launch) -> Launch) -> Self {
        let upstream = FakeUpstream::start().await;
        let proxy = change(signed_in(&upstream)).start();
        Self { upstream, proxy }
    }

    /// The same, where every request gets a complete response.
    async fn answering(change: impl FnOnce(Launch) -> Launch) -> Self {
        let bench = Self::with(change).await;
        bench.upstream.on("/responses", Script::events(&WHOLE));
        bench
    }

    /// The number of model requests.
    fn request_count(&self) -> usize {
        self.upstream.requests("/responses").len()
    }
}

/// A daemon for this backend, with a login that is valid for days.
fn signed_in(upstream: &FakeUpstream) -> Launch {
    let (access, refresh) = (Secret::new("at_secret"), Secret::new("rt_secret"));
    let now = SystemClock.now();
    let credential =
        Credential::from_tokens(Some("acct-1".to_owned()), None, access, Some(refresh), Some(now)).unwrap();
    signed_out(upstream).file("credentials.json", &store(&credential))
}

/// A daemon for this backend, without a login or an issuer.
fn signed_out(upstream: &FakeUpstream) -> Launch {
    Launch::new().setting("upstream.url", &upstream.url()).setting("auth.url", "http://127.0.0.1:9")
}

/// The text of a store with this account active.
fn store(credential: &Credential) -> String {
    let mut document = Document::empty();
    document.put(credential);
    document.set_active(&credential.account_id);
    document.to_text()
}

#[test]
fn both_transports_pass_the_same_tests() {
    proxy::transport::repeat_over_websocket(&[
        "transports::",
        // These tests are independent of the transport.
        "connect::",
        "doctor::",
        "access::",
        "page::",
        "keys::",
        "logs::",
        "service_manager::",
        "models::",
        "cors::",
        "report::",
        "unix_sockets::",
        "status::",
        "surface::",
        "users::",
        "images::",
        "audio::",
        "uploads::",
        "files::",
        "batch_faults::",
        "batches::",
        "relay_failures::",
        "gateway::",
        "input::",
        "lifecycle::",
        "memory::small_bodies_that_decode_to_large_ones",
        "slow_bodies::",
        "tolerance::",
        // Its frames are sent unchanged.
        "compression::",
        // These tests set the transport.
        "websockets::control::",
        // A WebSocket is kept for the next request.
        "limits::a_stream_closes_with_its_terminal_event",
        // Some HTTP headers are frame metadata or events here.
        "agents::bodies_of_the_codex_cli",
        "agents::headers_of_the_codex_cli",
        // The part of a conversation that the backend has stored is not sent again.
        "messages::thinking_round_trips_in_its_signature",
    ]);
}

/// Checks the warnings of an answer against those that a case names.
fn assert_warned(name: &str, meta: &Value, answer: &Answer) {
    let sorted = |tokens: Vec<String>| {
        let mut tokens = tokens;
        tokens.sort();
        tokens
    };
    let reported = answer.header("x-proxy-warnings").split(", ").filter(|token| !token.is_empty()).map(str::to_owned);
    let wanted = meta["warnings"].as_array().unwrap().iter().map(|token| token.as_str().unwrap().to_owned());
    assert_eq!(sorted(reported.collect()), sorted(wanted.collect()), "{name}");
}

/// A chat request for a document.
fn chat() -> Value {
    json!({"model": "gpt-5.5", "messages": [{"role": "user", "content": "hi"}]})
}

/// A chat request for a stream.
fn streaming() -> Value {
    with(chat(), "stream", json!(true))
}

fn with(mut request: Value, member: &str, value: Value) -> Value {
    request[member] = value;
    request
}

/// The events of a stream that continues.
fn begun(events: &[&str]) -> Script {
    events.iter().fold(Script::stream(&[]), |script, event| script.event(event))
}
