//! Slow connections, many connections, and invalid requests.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy::{Launch, TestProxy};
use crate::websocket::Socket;
use crate::wire::Ask;
use crate::{BEGUN, Bench, SECOND, WHOLE, begun, streaming};

/// A connection on which these bytes were sent.
pub(crate) async fn sending(proxy: &TestProxy, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.authority()).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    stream
}

/// Reads until the other side closes.
pub(crate) async fn rest(mut stream: TcpStream) -> String {
    let mut received = Vec::new();
    let read = timeout(10 * SECOND, stream.read_to_end(&mut received)).await.expect("it is closed in time");
    // A reset counts as the end, too.
    let _ = read;
    String::from_utf8_lossy(&received).into_owned()
}

/// Reads until this text has arrived.
async fn until(stream: &mut TcpStream, text: &str) {
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains(text) {
        assert_ne!(timeout(10 * SECOND, stream.read_buf(&mut received)).await.unwrap().unwrap(), 0);
    }
}

async fn is_well(proxy: &TestProxy) {
    assert_eq!(Ask::get("/health").send(proxy).await.status, 200);
}

/// A streaming request that keeps the connection open.
fn request() -> String {
    let body = streaming().to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_client_that_sends_headers_slowly_is_disconnected() {
    let bench = Bench::with(|launch| launch.setting("timing.header", "200ms")).await;
    let mut slow = Vec::new();
    for bytes in ["", "G", "GET /health HTTP/1.1\r\nhost: local"] {
        slow.push(sending(&bench.proxy, bytes).await);
    }
    for stream in slow {
        assert!(!rest(stream).await.contains(" 200 "));
    }
    is_well(&bench.proxy).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let bench = Bench::with(|launch| launch.setting("timing.header", "200ms")).await;
    let gate = crate::fake::Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(crate::COMPLETED).end());
    let idle = sending(&bench.proxy, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let busy = sending(&bench.proxy, request()).await;
    assert!(rest(idle).await.starts_with("HTTP/1.1 200 "));
    gate.open();
    assert!(rest(busy).await.contains("[DONE]"));
}

#[tokio::test]
async fn oversized_and_invalid_request_heads_are_rejected_without_side_effects() {
    let bench = Bench::new().await;
    let long = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx-long: {}\r\n\r\n", "x".repeat(300_000));
    let many = format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x-many: y\r\n".repeat(200));
    for (bytes, status) in [
        (long.as_bytes(), "431"),
        (many.as_bytes(), "431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
        (b"no request at all\r\n\r\n", "400"),
        (b"GET /health HTTP/1.1\r\nhost: localhost\r\n bad: x\r\n\r\n", "400"),
    ] {
        let stream = TcpStream::connect(bench.proxy.authority()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        // The response may arrive before the request is completely sent.
        let _ = writer.write_all(bytes).await;
        let mut received = [0; 12];
        timeout(10 * SECOND, reader.read_exact(&mut received)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&received), format!("HTTP/1.1 {status}"));
    }
    is_well(&bench.proxy).await;
}

/// Connections on which the start of a request head was sent.
async fn half_open(proxy: &TestProxy, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(sending(proxy, "POST /v1/chat/completions HTTP/1.1\r\nhost: local").await);
    }
    streams
}

/// A connection that is kept open after the response to its first request.
async fn kept(proxy: &TestProxy) -> TcpStream {
    let mut stream = sending(proxy, "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    until(&mut stream, "}").await;
    stream
}

#[tokio::test]
async fn incomplete_request_heads_do_not_delay_other_clients() {
    // If no slot were freed, the client would wait for the header timeout.
    let settings = [("limits.connections", "4"), ("timing.header", "10m"), ("api_keys", "sk-1")];
    let set = |launch| settings.iter().fold(launch, |launch: Launch, (key, value)| launch.setting(key, value));
    let bench = Bench::answering(set).await;
    let _crowd = half_open(&bench.proxy, 12).await;
    let ask = Ask::chat(&crate::chat()).header("x-api-key", "sk-1");
    for _ in 0..3 {
        let answer = timeout(10 * SECOND, ask.send(&bench.proxy)).await.expect("the client is served");
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn the_longest_waiting_connection_is_closed_for_a_new_one() {
    let settings = [("limits.connections", "3"), ("timing.header", "10m")];
    let set = |launch| settings.iter().fold(launch, |launch: Launch, (key, value)| launch.setting(key, value));
    let bench = Bench::with(set).await;
    let (first, second) = (kept(&bench.proxy).await, kept(&bench.proxy).await);
    let third = sending(&bench.proxy, "GET /hea").await;
    let mut fourth = kept(&bench.proxy).await;
    assert_eq!(rest(first).await, "");
    let _fifth = kept(&bench.proxy).await;
    assert_eq!(rest(second).await, "");
    let _sixth = kept(&bench.proxy).await;
    assert_eq!(rest(third).await, "", "an incomplete head counts from the start of its connection");
    fourth.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(rest(fourth).await.contains("200 OK"));
}

#[tokio::test]
async fn a_connection_with_a_request_in_flight_is_not_closed_for_a_new_one() {
    let bench = Bench::with(|launch| launch.setting("limits.connections", "2")).await;
    let gate = crate::fake::Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(crate::COMPLETED).end());
    let mut busy = sending(&bench.proxy, request()).await;
    bench.upstream.received("/responses", 1).await;
    let _crowd = half_open(&bench.proxy, 6).await;
    is_well(&bench.proxy).await;
    gate.open();
    until(&mut busy, "[DONE]").await;
}

#[tokio::test]
async fn a_web_socket_is_not_closed_for_a_new_connection() {
    let bench = Bench::with(|launch| launch.setting("limits.connections", "2")).await;
    bench.upstream.on("/responses", crate::Script::events(&crate::websockets::RESPONSE));
    let mut socket = Socket::open(&bench.proxy).await;
    let _crowd = half_open(&bench.proxy, 6).await;
    is_well(&bench.proxy).await;
    socket.create(&serde_json::json!({"model": "gpt-5.5", "input": "hi", "store": false})).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
}

#[tokio::test]
async fn a_new_connection_waits_if_all_others_have_requests_in_flight() {
    let bench = Bench::with(|launch| launch.setting("limits.connections", "2")).await;
    let gate = crate::fake::Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(crate::COMPLETED).end());
    let (first, _second) = (sending(&bench.proxy, request()).await, sending(&bench.proxy, request()).await);
    bench.upstream.received("/responses", 2).await;
    let mut third = sending(&bench.proxy, "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    let mut start = [0; 12];
    let early = timeout(Duration::from_millis(200), third.read_exact(&mut start)).await;
    assert!(early.is_err(), "it is served beyond the limit");
    drop(first);
    assert!(rest(third).await.contains("200 OK"));
}

#[cfg(unix)]
#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised() {
    let bench = Bench::answering(|launch| launch.soft_open_files(48)).await;
    let mut first = kept(&bench.proxy).await;
    let _crowd = half_open(&bench.proxy, 80).await;
    assert_eq!(Ask::chat(&crate::chat()).send(&bench.proxy).await.status, 200);
    first.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(rest(first).await.contains("200 OK"), "every connection is served");
}

#[cfg(unix)]
#[tokio::test]
async fn connections_leave_file_descriptors_for_requests() {
    let bench = Bench::answering(|launch| launch.open_files(48)).await;
    assert_eq!(bench.proxy.log().matches("limits.connections").count(), 1, "{}", bench.proxy.log());
    let _crowd = half_open(&bench.proxy, 80).await;
    for _ in 0..3 {
        assert_eq!(Ask::chat(&crate::chat()).send(&bench.proxy).await.status, 200);
    }
    let log = bench.proxy.log();
    assert!(!log.contains("can't accept connections") && !log.contains("Too many open files"), "{log}");
}

#[tokio::test]
async fn a_keep_alive_header_has_the_idle_timeout() {
    let bench = Bench::answering(|launch| launch).await;
    for (lines, expected) in [("", true), ("connection: close\r\n", false)] {
        let stream = sending(&bench.proxy, format!("GET /health HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n")).await;
        let mut stream = tokio::io::BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(timeout(10 * SECOND, stream.read_line(&mut head)).await.unwrap().unwrap(), 0);
        }
        assert_eq!(head.contains("keep-alive: timeout=27\r\n"), expected, "{head}");
    }
}

#[tokio::test]
async fn a_pipelined_request_is_answered_after_the_stream() {
    let bench = Bench::answering(|launch| launch).await;
    let both = format!("{}GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", request());
    let received = rest(sending(&bench.proxy, both).await).await;
    let (stream, health) = received.split_once("[DONE]").unwrap();
    assert!(stream.starts_with("HTTP/1.1 200 ") && health.contains("HTTP/1.1 200 ") && health.contains("version"));
}

#[tokio::test]
async fn a_disconnect_behind_pipelined_bytes_is_detected_at_the_next_keepalive() {
    let bench = Bench::with(|launch| launch.setting("timing.keepalive", "100ms")).await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let mut stream = sending(&bench.proxy, format!("{}GET /health HTTP/1.1\r\n", request())).await;
    until(&mut stream, "Grüße").await;
    drop(stream);
    assert!(bench.upstream.hung_up(1, 5 * SECOND).await);
}

#[tokio::test]
async fn a_half_closed_connection_counts_as_disconnected() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let mut stream = sending(&bench.proxy, request()).await;
    bench.upstream.received("/responses", 1).await;
    stream.shutdown().await.unwrap();
    assert!(bench.upstream.hung_up(1, 5 * SECOND).await);
    bench.upstream.replace("/responses", crate::Script::events(&WHOLE));
    is_well(&bench.proxy).await;
}
