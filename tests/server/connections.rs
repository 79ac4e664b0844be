//! Connections that take their time, come in crowds, or send what is no request.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy::TestProxy;
use crate::wire::Ask;
use crate::{BEGUN, Bench, SECOND, WHOLE, begun, streaming};

/// A connection that has sent these bytes.
pub(crate) async fn sending(proxy: &TestProxy, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.authority()).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    stream
}

/// Everything that comes until the other side closes.
pub(crate) async fn rest(mut stream: TcpStream) -> String {
    let mut received = Vec::new();
    let read = timeout(10 * SECOND, stream.read_to_end(&mut received)).await.expect("it is closed in time");
    // A reset is an end, too.
    let _ = read;
    String::from_utf8_lossy(&received).into_owned()
}

async fn is_well(proxy: &TestProxy) {
    assert_eq!(Ask::get("/health").send(proxy).await.status, 200);
}

/// A streaming request that leaves the connection open.
fn request() -> String {
    let body = streaming().to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_client_that_takes_its_time_over_the_headers_is_let_go() {
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
async fn an_idle_connection_is_closed_after_a_while_and_a_busy_one_is_not() {
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
async fn heads_that_are_too_long_or_make_no_sense_are_refused_and_harm_nobody() {
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
        // The answer may come before everything has been sent.
        let _ = writer.write_all(bytes).await;
        let mut received = [0; 12];
        timeout(10 * SECOND, reader.read_exact(&mut received)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&received), format!("HTTP/1.1 {status}"));
    }
    is_well(&bench.proxy).await;
}

#[tokio::test]
async fn whoever_comes_when_all_places_are_taken_waits() {
    let bench = Bench::with(|launch| launch.setting("limits.connections", "2")).await;
    let (first, _second) = (sending(&bench.proxy, "").await, sending(&bench.proxy, "").await);
    let mut third = sending(&bench.proxy, "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    let mut start = [0; 12];
    let early = timeout(Duration::from_millis(200), third.read_exact(&mut start)).await;
    assert!(early.is_err(), "it is served beyond the limit");
    drop(first);
    assert!(rest(third).await.contains("200 OK"));
}

#[cfg(unix)]
#[tokio::test]
async fn running_out_of_file_descriptors_is_survived() {
    let bench = Bench::answering(|launch| launch.descriptors(48)).await;
    let mut crowd = Vec::new();
    for _ in 0..80 {
        crowd.push(sending(&bench.proxy, "").await);
    }
    bench.proxy.says("connections can't be accepted for now", 10 * SECOND).await;
    drop(crowd);
    is_well(&bench.proxy).await;
    assert_eq!(Ask::chat(&crate::chat()).send(&bench.proxy).await.status, 200);
    let told = bench.proxy.log().matches("can't be accepted").count();
    assert!(told < 10, "a spell is told of once, not at every try: {told}");
}

#[tokio::test]
async fn a_second_request_behind_a_stream_is_answered_after_it() {
    let bench = Bench::answering(|launch| launch).await;
    let both = format!("{}GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", request());
    let received = rest(sending(&bench.proxy, both).await).await;
    let (stream, health) = received.split_once("[DONE]").unwrap();
    assert!(stream.starts_with("HTTP/1.1 200 ") && health.contains("HTTP/1.1 200 ") && health.contains("version"));
}

#[tokio::test]
async fn a_client_that_leaves_with_bytes_behind_its_request_is_noticed_by_the_next_sign_of_life() {
    let bench = Bench::with(|launch| launch.setting("timing.keepalive", "100ms")).await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let mut stream = sending(&bench.proxy, format!("{}GET /health HTTP/1.1\r\n", request())).await;
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains("Grüße") {
        assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
    }
    drop(stream);
    assert!(bench.upstream.hung_up(1, 5 * SECOND).await);
}

#[tokio::test]
async fn a_client_that_closes_its_side_has_gone() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let mut stream = sending(&bench.proxy, request()).await;
    bench.upstream.received("/responses", 1).await;
    stream.shutdown().await.unwrap();
    assert!(bench.upstream.hung_up(1, 5 * SECOND).await);
    bench.upstream.replace("/responses", crate::Script::events(&WHOLE));
    is_well(&bench.proxy).await;
}
