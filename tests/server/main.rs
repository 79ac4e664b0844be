//! The daemon at its user's door: the real binary, between a scripted backend and a scripted issuer.

#![expect(clippy::unwrap_used, reason = "what a test is built from fails loudly")]

mod access;
mod accounts;
mod agents;
#[path = "../support/bodies.rs"]
mod bodies;
#[path = "../replies/cases.rs"]
#[expect(dead_code, reason = "only the bytes that pass matter here")]
mod cases;
mod cassettes;
mod chat;
mod claude;
#[path = "../support/clock.rs"]
#[expect(dead_code, reason = "the binary goes by the real time, and so does the issuer here")]
mod clock;
mod compression;
mod connect;
mod connections;
mod cors;
mod demo;
mod doctor;
mod documents;
#[path = "../support/upstream.rs"]
#[expect(dead_code, reason = "loopback is always HTTP/1.1 for the binary")]
mod fake;
#[path = "../support/issuer.rs"]
#[expect(dead_code, reason = "this crate does not call the issuer itself")]
mod fake_issuer;
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
#[cfg(unix)]
mod reloads;
mod report;
mod secrets;
#[cfg(unix)]
mod service_manager;
mod sign_in;
mod sign_in_state;
mod slow_bodies;
mod status;
mod stored_responses;
mod telemetry;
mod tolerance;
mod transports;
#[cfg(unix)]
mod unix_sockets;
mod unknown_events;
mod usage;
#[cfg(target_os = "linux")]
mod users;
mod websocket;
mod websockets;
#[expect(dead_code, reason = "answers are not taken sip by sip here")]
mod wire;

use std::time::Duration;

use codex_proxy::auth::{Credential, Document};
use codex_proxy::clock::{Clock as _, SystemClock};
use codex_proxy::secret::Secret;
use fake::{FakeUpstream, Script};
use proxy::{Launch, TestProxy};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

const CREATED: &str =
    r#"{"type":"response.created","response":{"id":"resp_1","created_at":1700000000,"model":"gpt-5.5"}}"#;
const ADDED: &str = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","id":"msg_1","role":"assistant","content":[]}}"#;
const DELTA: &str =
    r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"item_id":"msg_1","delta":"Grüße 👋"}"#;
const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"resp_1","created_at":1700000000,"model":"gpt-5.5","status":"completed","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}}"#;
/// A whole answer.
const WHOLE: [&str; 4] = [CREATED, ADDED, DELTA, COMPLETED];
/// Up to the first piece of the answer.
const BEGUN: [&str; 3] = [CREATED, ADDED, DELTA];

/// A daemon that is signed in, and the backend that it calls.
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

    /// The same, where every request gets a whole answer.
    async fn answering(change: impl FnOnce(Launch) -> Launch) -> Self {
        let bench = Self::with(change).await;
        bench.upstream.on("/responses", Script::events(&WHOLE));
        bench
    }

    /// How many requests have gone to a model.
    fn asked(&self) -> usize {
        self.upstream.requests("/responses").len()
    }
}

/// A daemon for this backend, with a login that is good for days.
fn signed_in(upstream: &FakeUpstream) -> Launch {
    let (access, refresh) = (Secret::new("at_secret"), Secret::new("rt_secret"));
    let now = SystemClock.now();
    let credential =
        Credential::from_tokens(Some("acct-1".to_owned()), None, access, Some(refresh), Some(now)).unwrap();
    signed_out(upstream).file("credentials.json", &store(&credential))
}

/// A daemon for this backend, with nobody signed in and no issuer.
fn signed_out(upstream: &FakeUpstream) -> Launch {
    Launch::new().setting("upstream.url", &upstream.url()).setting("auth.url", "http://127.0.0.1:9")
}

/// The text of a store with this account in use.
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
        // These hold before anything is asked, or of what is not asked.
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
        "users::",
        // Its frames go as they are.
        "compression::",
        // A WebSocket is kept for the next request.
        "limits::a_stream_closes_with_its_terminal_event",
        // What is a header elsewhere stands in a frame's metadata or in an event here.
        "agents::bodies_of_the_codex_cli",
        "agents::headers_of_the_codex_cli",
        // What the backend remembers of a conversation is not sent again.
        "messages::thinking_round_trips_in_its_signature",
    ]);
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

/// The events of a stream that goes on.
fn begun(events: &[&str]) -> Script {
    events.iter().fold(Script::stream(&[]), |script, event| script.event(event))
}
