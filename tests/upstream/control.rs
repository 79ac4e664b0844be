//! Control frames that are sent while a response arrives.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use codex_proxy::endpoint::{Endpoint, Trust};
use codex_proxy::protocol::codex::control::ControlKind;
use codex_proxy::upstream::{ControlError, ForwardedHeaders, ReplyEvents, Transport};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::fake::Script;
use crate::websocket::accept_websocket;
use crate::{ADDED, Bench, COMPLETED, CREATED, DELTA, SECOND, drain, request};

const STEER: &[u8] = br#"{"type":"response.steer","previous_response_id":"resp_1","input":"shorter"}"#;

async fn send(events: &mut ReplyEvents, frame: Bytes) -> Result<(), ControlError> {
    let mut frame = Some(frame);
    poll_fn(|cx| events.poll_send(cx, ControlKind::Steer, &mut frame)).await
}

#[tokio::test]
async fn a_frame_is_sent_between_events() {
    let bench = Bench::with(|settings| settings.transport = Transport::WebSocket).await;
    let failed = r#"{"type":"response.steer.failed","steer":{"previous_response_id":"resp_1","input":"shorter"}}"#;
    let script = Script::stream(&[]).event(CREATED).event(ADDED).event(DELTA).frame().event(failed).event(COMPLETED);
    bench.fake.on("/responses", script.end());
    let mut response = bench.open().await.unwrap();
    send(&mut response.events, Bytes::from_static(STEER)).await.unwrap();
    assert_eq!(drain(response).await.0, [CREATED, ADDED, DELTA, failed, COMPLETED]);
    assert_eq!(bench.fake.frames(), [String::from_utf8_lossy(STEER)]);
    drain(bench.open().await.unwrap()).await;
    assert_eq!(bench.fake.handshakes().len(), 1, "the backend has answered it");
}

#[tokio::test]
async fn a_backend_that_never_answers_a_frame_delays_the_end_by_a_limited_time() {
    let bench = Bench::with(|settings| {
        settings.transport = Transport::WebSocket;
        settings.idle_timeout = SECOND / 5;
    })
    .await;
    let events = [CREATED, ADDED, DELTA];
    let script = events.iter().fold(Script::stream(&[]), |script, event| script.event(event));
    bench.fake.on("/responses", script.frame().event(COMPLETED).hang());
    let mut response = bench.open().await.unwrap();
    send(&mut response.events, Bytes::from_static(STEER)).await.unwrap();
    let (received, error) = drain(response).await;
    assert_eq!((received.last().map(String::as_str), error.is_none()), (Some(COMPLETED), true), "{error:?}");
    assert!(bench.fake.hung_up(1, 5 * SECOND).await, "the connection is closed");
}

#[tokio::test]
async fn control_frames_require_a_websocket() {
    let bench = Bench::with(|settings| settings.transport = Transport::Sse).await;
    bench.fake.on("/responses", Script::events(&[CREATED, ADDED, DELTA, COMPLETED]));
    let mut response = bench.open().await.unwrap();
    assert_eq!(send(&mut response.events, Bytes::from_static(STEER)).await, Err(ControlError::NoWebSocket));
    assert_eq!(drain(response).await.0, [CREATED, ADDED, DELTA, COMPLETED]);
}

/// Serves one WebSocket without reading any frame. Waits for `finish` before it sends the last event.
async fn serve_unread(listener: TcpListener, finish: oneshot::Receiver<()>) {
    let mut stream = accept_websocket(&listener).await;
    let frame = |event: &str| [&[0x81, u8::try_from(event.len()).unwrap()], event.as_bytes()].concat();
    for event in [CREATED, ADDED, DELTA] {
        stream.write_all(&frame(event)).await.unwrap();
    }
    finish.await.unwrap();
    stream.write_all(&frame(COMPLETED)).await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn events_do_not_wait_for_a_backend_that_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/backend-api/codex", listener.local_addr().unwrap());
    let bench = Bench::with(|settings| {
        settings.transport = Transport::WebSocket;
        settings.idle_timeout = SECOND;
        settings.url = Endpoint::parse(&url, Trust::KnownHosts).unwrap();
    })
    .await;
    let (finish, finished) = oneshot::channel();
    let client = async {
        let mut response = crate::open(&bench.upstream, request(), &ForwardedHeaders::default()).await.unwrap();
        // More than the buffers of a connection hold.
        let mut frame = Some(Bytes::from(vec![b' '; 32 << 20]));
        let polled = poll_fn(|cx| Poll::Ready(response.events.poll_send(cx, ControlKind::Steer, &mut frame))).await;
        assert!(polled.is_pending() && frame.is_none());
        finish.send(()).unwrap();
        let mut received = Vec::new();
        while let Some(event) = response.events.next().await {
            received.push(event.unwrap());
        }
        assert_eq!(received, [CREATED, ADDED, DELTA, COMPLETED]);
    };
    tokio::select! {
        () = client => {}
        () = serve_unread(listener, finished) => unreachable!("it never ends"),
    }
}
