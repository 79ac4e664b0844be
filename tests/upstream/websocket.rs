//! WebSockets: connections that outlive a response, and incremental requests. Responses are the same as over the other
//! transport.

use codex_proxy::endpoint::{Endpoint, Trust};
use codex_proxy::error::ProxyError;
use codex_proxy::protocol::codex::request::{Item, Output, Part, Request, Role};
use codex_proxy::token_source::TokenSource as _;
use codex_proxy::upstream::{BackendResponse, ForwardedHeaders, Transport};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::cases::answered_cases_of;
use crate::connections::idle;
use crate::fake::{Gate, Script};
use crate::{ADDED, Bench, COMPLETED, CREATED, DELTA, SECOND, WHOLE, drain, request};

const SAID: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"hi","annotations":[]}]}}"#;
/// A complete response with the stored state.
const SPOKEN: [&str; 5] = [CREATED, ADDED, DELTA, SAID, COMPLETED];

pub(crate) async fn bench(transport: Transport) -> Bench {
    Bench::with(|settings| settings.transport = transport).await
}

fn message(role: Role, text: &str) -> Item<'static> {
    let text = text.to_owned().into();
    let part = if role == Role::Assistant { Part::OutputText(text) } else { Part::InputText(text) };
    Item::Message { role, content: vec![part] }
}

/// The conversation after the first response.
fn second() -> Request<'static> {
    let mut request = request();
    request.input.extend([message(Role::Assistant, "hi"), message(Role::User, "go on")]);
    request
}

pub(crate) async fn ask(bench: &Bench, request: Request<'_>) -> (Vec<String>, Option<ProxyError>) {
    drain(opened(bench, request, &ForwardedHeaders::default()).await).await
}

async fn opened(bench: &Bench, request: Request<'_>, forwarded: &ForwardedHeaders) -> BackendResponse {
    timeout(10 * SECOND, crate::open(&bench.upstream, request, forwarded)).await.expect("it ends").unwrap()
}

/// The connections made, and the number of bytes of each request.
fn made(bench: &Bench) -> (usize, Vec<usize>) {
    let sent = bench.fake.requests("/responses");
    (bench.fake.handshakes().len(), sent.iter().map(|request| request.wire_bytes).collect())
}

#[tokio::test]
async fn the_handshake_has_the_client_and_conversation_headers() {
    let bench = bench(Transport::WebSocket).await;
    bench.fake.on("/responses", Script::events(&WHOLE));
    assert_eq!(ask(&bench, request()).await.0, WHOLE);
    let handshake = &bench.fake.handshakes()[0];
    assert_eq!((handshake.method.as_str(), handshake.target.as_str()), ("GET", "/backend-api/codex/responses"));
    let want = [
        ("authorization", "Bearer at_0"),
        ("chatgpt-account-id", "acct-1"),
        ("connection", "Upgrade"),
        ("openai-beta", "responses_websockets=2026-02-06"),
        ("originator", "codex_proxy"),
        ("sec-websocket-version", "13"),
        ("session-id", "key-1"),
        ("upgrade", "websocket"),
        ("user-agent", "codex-proxy/0 (test)"),
        ("version", "0.171.0"),
        ("x-codex-routing-hint", "model=gpt-5.5"),
        ("x-openai-fedramp", "true"),
    ];
    for (name, value) in want {
        assert_eq!(handshake.header(name), value, "{name}");
    }
    let mut names: Vec<_> = handshake.headers.keys().map(http::HeaderName::as_str).collect();
    names.retain(|name| !want.iter().any(|(known, _)| known == name));
    names.sort_unstable();
    assert_eq!(names, ["accept", "host", "sec-websocket-key"], "no compression is offered");
}

#[tokio::test]
async fn a_continued_conversation_sends_only_new_items() {
    let bench = bench(Transport::WebSocket).await;
    bench.fake.on("/responses", Script::events(&SPOKEN));
    assert_eq!(ask(&bench, request()).await.0, SPOKEN);
    assert_eq!(ask(&bench, second()).await.0, SPOKEN);
    let (connections, bytes) = made(&bench);
    let sent = bench.fake.requests("/responses");
    assert_eq!((connections, sent.len()), (1, 2));
    assert_eq!(sent[1].json()["input"].as_array().unwrap().len(), 3, "together it is the complete conversation");
    assert!(bytes[1] < sent[1].body.len(), "{bytes:?}");

    let mut other = second();
    other.instructions = "Be long.".into();
    ask(&bench, other).await;
    let sent = bench.fake.requests("/responses").pop().unwrap();
    assert!(sent.wire_bytes > sent.body.len(), "another request is sent completely");
    assert_eq!(bench.fake.handshakes().len(), 1);
}

#[tokio::test]
async fn another_conversation_or_login_gets_another_connection() {
    let bench = bench(Transport::WebSocket).await;
    bench.fake.on("/responses", Script::events(&SPOKEN));
    ask(&bench, request()).await;
    ask(&bench, Request { prompt_cache_key: "key-2".into(), ..second() }).await;
    assert_eq!(bench.fake.handshakes().len(), 2);
    bench.tokens.recover(&bench.tokens.bearer_now()).await.unwrap();
    ask(&bench, second()).await;
    let handshakes = bench.fake.handshakes();
    assert_eq!((handshakes.len(), handshakes[2].header("authorization")), (3, "Bearer at_1"));
}

#[tokio::test]
async fn a_busy_connection_is_not_reused() {
    let bench = bench(Transport::WebSocket).await;
    let gate = Gate::default();
    bench.fake.on("/responses", Script::stream(&[]).event(CREATED).event(DELTA).gate(&gate).event(COMPLETED).end());
    bench.fake.on("/responses", Script::events(&WHOLE));
    let first = bench.open().await.unwrap();
    assert_eq!(ask(&bench, request()).await.0, WHOLE);
    gate.open();
    assert_eq!(drain(first).await.0, [CREATED, DELTA, COMPLETED]);
    ask(&bench, request()).await;
    assert_eq!(bench.fake.handshakes().len(), 2, "both are free again");
}

#[tokio::test]
async fn a_response_that_is_not_read_to_its_end_closes_its_connection() {
    let bench = bench(Transport::WebSocket).await;
    bench.fake.on("/responses", Script::stream(&[]).event(CREATED).event(DELTA).hang());
    bench.fake.on("/responses", Script::events(&WHOLE));
    let mut answer = bench.open().await.unwrap();
    answer.events.next().await.unwrap().unwrap();
    drop(answer);
    assert!(bench.fake.hung_up(1, 5 * SECOND).await);
    ask(&bench, request()).await;
    assert_eq!(bench.fake.handshakes().len(), 2);
}

#[tokio::test]
async fn an_error_on_a_stale_connection_is_hidden() {
    let error =
        |code: &str| json!({"error": {"type": "invalid_request_error", "code": code, "message": "x"}}).to_string();
    let limit = error("websocket_connection_limit_reached");
    let troubles = [
        Script::json(400, &limit),
        Script::json(400, &error("previous_response_not_found")),
        Script::default().cut(),
        Script::default().reset(),
        Script::events(&[&format!(r#"{{"type":"error","status":400,{}"#, limit.trim_start_matches('{'))]),
    ];
    for (index, trouble) in troubles.into_iter().enumerate() {
        let bench = once(Transport::WebSocket).await;
        for script in [Script::events(&SPOKEN), trouble, Script::events(&SPOKEN)] {
            bench.fake.on("/responses", script);
        }
        ask(&bench, request()).await;
        idle().await;
        let (events, error) = ask(&bench, second()).await;
        assert!(error.is_none(), "{index}: {error:?}");
        assert_eq!(events, SPOKEN, "{index}");
        let sent = bench.fake.requests("/responses").pop().unwrap();
        assert!(sent.wire_bytes > sent.body.len(), "{index}: the new connection gets all of it");
        assert_eq!(bench.fake.handshakes().len(), 2, "{index}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_use_is_a_failed_attempt() {
    let begun = Script::stream(&[]).event(CREATED).cut();
    for (is_idle, trouble) in [(false, Script::default().cut()), (false, Script::default().reset()), (true, begun)] {
        let bench = once(Transport::WebSocket).await;
        for script in [Script::events(&SPOKEN), trouble, Script::events(&SPOKEN)] {
            bench.fake.on("/responses", script);
        }
        ask(&bench, request()).await;
        if is_idle {
            idle().await;
        }
        let opened = crate::open(&bench.upstream, second(), &ForwardedHeaders::default()).await;
        assert!(matches!(opened, Err(ProxyError::Truncated { .. })), "{opened:?}");
        assert_eq!(bench.fake.handshakes().len(), 1);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_waited_is_not_used() {
    let bench = bench(Transport::WebSocket).await;
    let gate = Gate::default();
    bench
        .fake
        .on("/responses", SPOKEN.iter().fold(Script::stream(&[]), |script, data| script.event(data)).gate(&gate).cut());
    bench.fake.on("/responses", Script::events(&SPOKEN));
    ask(&bench, request()).await;
    gate.open();
    assert_eq!(ask(&bench, second()).await.0, SPOKEN);
    assert_eq!(bench.fake.handshakes().len(), 2);
}

#[tokio::test]
async fn quota_and_metadata_arrive_as_headers() {
    let bench = bench(Transport::WebSocket).await;
    let quota = r#"{"type":"codex.rate_limits","plan_type":"pro","rate_limits":{"primary":{"used_percent":42,"window_minutes":300}}}"#;
    let script = Script::stream(&[("openai-model", "gpt-5.5"), ("x-request-id", "req_1"), ("x-codex-turn-state", "t")]);
    let events = [quota, CREATED, DELTA, SAID, COMPLETED];
    bench.fake.on("/responses", events.iter().fold(script, |script, data| script.event(data)).end());
    let answer = bench.open().await.unwrap();
    assert_eq!(answer.request_id.as_deref(), Some("req_1"));
    let mut names: Vec<_> = answer.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    let want = ["openai-model", "x-codex-active-limit", "x-codex-plan-type", "x-codex-primary-used-percent"];
    assert_eq!(names, [&want[..], &["x-codex-primary-window-minutes"]].concat());
    drain(answer).await;

    let own = [("x-codex-turn-state", "t"), ("x-codex-turn-metadata", "{}")];
    let forwarded = own.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let answer =
        opened(&bench, second(), &ForwardedHeaders { codex: Some(forwarded), ..ForwardedHeaders::default() }).await;
    assert_eq!(answer.headers["x-codex-turn-state"], "t");
    let sent = bench.fake.requests("/responses").pop().unwrap();
    assert_eq!(sent.json()["client_metadata"], json!({"x-codex-turn-state": "t"}));
    assert_eq!((bench.fake.handshakes().len(), sent.header("x-codex-turn-state")), (1, ""));
}

#[tokio::test]
async fn every_case_gives_the_same_events_over_both_transports() {
    let (posting, framing) = (once(Transport::Sse).await, once(Transport::WebSocket).await);
    for dialect in ["chat", "completions", "messages", "responses"] {
        for case in answered_cases_of(dialect, 1) {
            let events = events(&case.upstream_sse);
            for end in 0..=events.len() {
                let script = events[..end].iter().fold(Script::stream(&[]), |script, data| script.event(data)).end();
                let posted = outcome(&posting, &script).await;
                assert_eq!(outcome(&framing, &script).await, posted, "{dialect}/{} to {end}", case.name);
            }
        }
    }
}

/// A client that makes one attempt per request.
pub(crate) async fn once(transport: Transport) -> Bench {
    Bench::with(|settings| {
        settings.transport = transport;
        settings.max_retries = 0;
        settings.event_limit_bytes = 1 << 20;
    })
    .await
}

fn events(bytes: &[u8]) -> Vec<String> {
    let mut splitter = codex_proxy::protocol::sse::Splitter::new(1 << 20);
    splitter.push(&bytes::Bytes::copy_from_slice(bytes));
    let next = || splitter.next_event().unwrap();
    std::iter::from_fn(next).map(|data| String::from_utf8(data.to_vec()).unwrap()).collect()
}

/// The events, and how they ended.
async fn outcome(bench: &Bench, script: &Script) -> (Vec<String>, String) {
    bench.fake.replace("/responses", script.clone());
    match bench.open().await {
        Ok(answer) => {
            let (events, error) = drain(answer).await;
            (events, error.map(|error| error.to_string()).unwrap_or_default())
        }
        Err(error) => (Vec::new(), error.to_string()),
    }
}

/// Sends fifty turns of a tool loop; returns the bytes of all requests.
async fn tool_loop(transport: Transport) -> usize {
    const TURNS: usize = 50;
    let bench = bench(transport).await;
    let mut request = request();
    request.instructions = "You are a careful engineer. ".repeat(100).into();
    for turn in 0..TURNS {
        let call = json!({"type": "function_call", "id": format!("fc_{turn}"), "status": "completed",
            "call_id": format!("call_{turn}"), "name": "read_file", "arguments": "{\"path\": \"src/lib.rs\"}"});
        let thought = json!({"type": "reasoning", "id": format!("rs_{turn}"), "summary": [], "encrypted_content": "e"});
        let done =
            |item: &Value| json!({"type": "response.output_item.done", "output_index": 0, "item": item}).to_string();
        let completed = json!({"type": "response.completed", "response": {"id": format!("resp_{turn}")}}).to_string();
        bench.fake.replace("/responses", Script::events(&[CREATED, &done(&thought), &done(&call), &completed]));
        let (events, error) = ask(&bench, request.clone()).await;
        assert!(error.is_none() && events.len() == 4, "{turn}: {error:?}");
        let call_id = format!("call_{turn}");
        request.input.extend([
            Item::FunctionCall {
                call_id: call_id.clone().into(),
                name: "read_file".into(),
                arguments: r#"{"path":"src/lib.rs"}"#.into(),
            },
            Item::FunctionCallOutput { call_id: call_id.into(), output: Output::Text("one line\n".repeat(400).into()) },
        ]);
    }
    let sent = bench.fake.requests("/responses");
    let last = sent.last().unwrap().json()["input"].as_array().unwrap().len();
    assert!(last > 2 * (TURNS - 1), "the backend has the whole conversation: {last}");
    sent.iter().map(|request| request.wire_bytes).sum()
}

#[tokio::test]
async fn a_long_tool_loop_sends_a_small_fraction() {
    let (posted, framed) = (tool_loop(Transport::Sse).await, tool_loop(Transport::WebSocket).await);
    println!("fifty turns: {posted} bytes posted, {framed} bytes in frames, 1 in {}", posted / framed);
    assert!(framed * 10 < posted, "{framed} of {posted}");
}

/// Accepts connections until one becomes a WebSocket. Responds to other requests with status 404.
pub(crate) async fn accept_websocket(listener: &TcpListener) -> TcpStream {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        if let Some(key) = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")) {
            let accept = derive_accept_key(key.as_bytes());
            let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
            stream.write_all(format!("{switch}sec-websocket-accept: {accept}\r\n\r\n").as_bytes()).await.unwrap();
            return stream;
        }
        stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
    }
}

/// Rejects every message with close code 1009 and reads none of it.
async fn refuse_messages(listener: TcpListener) {
    let mut held = Vec::new();
    loop {
        let mut stream = accept_websocket(&listener).await;
        stream.write_all(b"\x88\x11\x03\xf1message too big").await.unwrap();
        held.push(stream);
    }
}

#[tokio::test]
async fn the_error_of_a_backend_that_stops_reading_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/backend-api/codex", listener.local_addr().unwrap());
    let bench = Bench::with(|settings| {
        settings.transport = Transport::WebSocket;
        settings.url = Endpoint::parse(&url, Trust::KnownHosts).unwrap();
        settings.first_event_timeout = 30 * SECOND;
    })
    .await;
    // More than the buffers of a connection hold.
    let large = Request { instructions: "x".repeat(32 << 20).into(), ..request() };
    let answered = async { crate::open(&bench.upstream, large, &ForwardedHeaders::default()).await };
    let error = tokio::select! {
        () = refuse_messages(listener) => unreachable!("it never ends"),
        answered = timeout(20 * SECOND, answered) => answered.expect("it doesn't wait for the limit").unwrap_err(),
    };
    let ProxyError::MessageTooLarge { size_bytes, reason } = error else { panic!("{error}") };
    assert!(size_bytes > 32 << 20);
    assert_eq!(reason, "close code 1009: message too big");
}
