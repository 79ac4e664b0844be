//! The lifetime of a WebSocket: silence, age, shutdown, slow readers, removed keys.

use serde_json::json;

use super::{CODEX, DONE, RESPONSE, hello, kinds};
use crate::fake::{Gate, Script};
use crate::websocket::Socket;
use crate::wire::Ask;
use crate::{ADDED, BEGUN, Bench, COMPLETED, CREATED, DELTA, SECOND, begun, with};

#[tokio::test]
async fn a_silent_response_gets_keepalives() {
    let bench = Bench::with(|launch| launch.setting("timing.keepalive", "40ms")).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(DONE).event(COMPLETED).end());
    let mut codex = Socket::open_as(&bench.proxy, &CODEX).await;
    codex.create(&hello()).await;
    codex.until("keepalive").await;
    gate.open();
    codex.answer().await;
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&hello()).await;
    socket.until("response.output_text.delta").await;
    let mut open = Ask::post("/v1/responses", &with(hello(), "stream", json!(true))).open(&bench.proxy).await;
    open.until(": keepalive").await;
    gate.open();
    gate.open();
    let events = socket.answer().await;
    assert_eq!(events.last().unwrap()["type"], "response.completed");
    assert!(events.iter().all(|event| event["type"] != "keepalive"));
    assert!(socket.pings > 0, "an ordinary client is pinged");
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_disconnected() {
    let bench = Bench::with(|launch| launch.setting("timing.keepalive", "100ms").setting("log.level", "debug")).await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&hello()).await;
    // A client that doesn't read doesn't respond to pings either.
    assert!(bench.upstream.received("/responses", 1).await.len() == 1 && bench.upstream.hung_up(1, 5 * SECOND).await);
    bench.proxy.says("closing a WebSocket: its client has sent nothing", SECOND).await;
}

#[tokio::test]
async fn a_socket_has_a_maximum_lifetime() {
    let bench = Bench::with(|launch| launch.setting("timing.socket_lifetime", "300ms")).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(DONE).event(COMPLETED).end());
    let mut idle = Socket::open(&bench.proxy).await;
    let mut busy = Socket::open(&bench.proxy).await;
    busy.create(&hello()).await;
    let reported = idle.next().await;
    assert_eq!(
        (&reported["status"], &reported["error"]["code"]),
        (&json!(400), &json!("websocket_connection_limit_reached"))
    );
    assert_eq!(idle.closed().await, Some(1000));
    busy.until("response.output_text.delta").await;
    gate.open();
    assert_eq!(busy.answer().await.last().unwrap()["type"], "response.completed", "started responses may finish");
    assert_eq!(busy.next().await["error"]["code"], "websocket_connection_limit_reached");
    assert_eq!(busy.closed().await, Some(1000));
}

#[tokio::test]
async fn a_shutdown_lets_the_response_finish_and_closes_the_socket() {
    let mut bench = Bench::with(|launch| launch.setting("timing.drain", "10s")).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(DONE).event(COMPLETED).end());
    let mut idle = Socket::open(&bench.proxy).await;
    let mut busy = Socket::open(&bench.proxy).await;
    busy.create(&hello()).await;
    busy.until("response.output_text.delta").await;
    busy.create(&hello()).await;
    busy.ping().await;
    busy.until("pong").await;
    bench.proxy.signal("TERM");
    assert_eq!(idle.closed().await, Some(1001));
    gate.open();
    assert_eq!(busy.answer().await.last().unwrap()["type"], "response.completed");
    assert_eq!(busy.next().await["error"]["code"], "shutting_down", "queued requests don't start");
    assert_eq!(busy.closed().await, Some(1001));
    drop((idle, busy));
    assert_eq!(bench.proxy.ended().await, Some(0));
}

#[tokio::test]
async fn a_response_that_outlasts_the_drain_is_cut_with_an_error() {
    let mut bench = Bench::with(|launch| launch.setting("timing.drain", "100ms")).await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&hello()).await;
    socket.until("response.output_text.delta").await;
    bench.proxy.signal("TERM");
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.failed");
    assert_eq!(socket.closed().await, Some(1001));
    assert!(bench.upstream.hung_up(1, 5 * SECOND).await);
    drop(socket);
    assert_eq!(bench.proxy.ended().await, Some(0));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_slow_reader_slows_down_the_backend() {
    const PIECE_BYTES: usize = 256 * 1024;
    const PIECES: usize = 512;
    let bench = Bench::new().await;
    let delta = DELTA.replace("Grüße 👋", &"x".repeat(PIECE_BYTES));
    let pieces = (0..PIECES).fold(begun(&[CREATED, ADDED]), |script, _| script.event(&delta));
    bench.upstream.on("/responses", pieces.event(DONE).event(COMPLETED).end());
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&hello()).await;
    for _ in 0..100 {
        assert_eq!(Ask::get("/health").send(&bench.proxy).await.status, 200);
    }
    let events = socket.answer().await;
    assert_eq!(kinds(&events).iter().filter(|kind| **kind == "response.output_text.delta").count(), PIECES);
    let status = std::fs::read_to_string(format!("/proc/{}/status", bench.proxy.process_id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
    let peak_bytes = peak.trim().parse::<usize>().unwrap() * 1024;
    assert!(peak_bytes < PIECES * PIECE_BYTES / 2, "{peak_bytes} bytes at the peak");
}

#[tokio::test]
async fn the_demo_responds_over_a_websocket() {
    let proxy = crate::proxy::Launch::demo().start();
    let mut socket = Socket::open(&proxy).await;
    assert_eq!(socket.upgrade.headers()["x-proxy-demo"], "true");
    socket.create(&hello()).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
}

#[tokio::test]
async fn a_socket_counts_as_a_connection() {
    let bench = Bench::with(|launch| launch.setting("limits.connections", "1")).await;
    let mut socket = Socket::open(&bench.proxy).await;
    let waiting = Ask::get("/health").fire(&bench.proxy).await;
    for _ in 0..20 {
        socket.ping().await;
        socket.until("pong").await;
    }
    let mut open = std::pin::pin!(waiting.open());
    assert!(futures_util::poll!(&mut open).is_pending(), "the only slot is in use");
    socket.close().await;
    socket.closed().await;
    assert_eq!(open.await.status, 200);
}

#[cfg(unix)]
#[tokio::test]
async fn a_removed_key_is_rejected_at_the_next_request() {
    let keys = |key: &str| format!("[[keys]]\nname = 'laptop'\nkey = '{key}'\n");
    let upstream = crate::fake::FakeUpstream::start().await;
    upstream.on("/responses", Script::events(&RESPONSE));
    let launch = crate::signed_in(&upstream).file("config.toml", &keys("one"));
    let proxy = launch.start();
    let mut socket = Socket::open_as(&proxy, &[("x-api-key", "one")]).await;
    socket.create(&hello()).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
    crate::reloads::reload(&launch, &proxy, &keys("two")).await;
    socket.create(&hello()).await;
    let reported = socket.next().await;
    assert_eq!((&reported["status"], &reported["error"]["code"]), (&json!(401), &json!("invalid_api_key")));
}
