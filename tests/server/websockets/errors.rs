//! Errors on a WebSocket if a request can't be served.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::{DONE, answering, hello};
use crate::fake::{Gate, Script};
use crate::websocket::Socket;
use crate::wire::Ask;
use crate::{BEGUN, Bench, COMPLETED, begun, signed_out, with};

#[tokio::test]
async fn an_invalid_frame_closes_the_socket() {
    let bench = Bench::with(|launch| launch.setting("limits.body", "10KiB")).await;
    let large = with(hello(), "input", json!("x".repeat(1_000_000))).to_string();
    let bad: [(Message, Option<&str>, u16); 4] = [
        (Message::binary(hello().to_string()), None, 1003),
        (Message::text("{\"type\":"), None, 1007),
        (Message::text("[]"), None, 1007),
        (Message::text(large), Some("request_too_large"), 1009),
    ];
    for (message, code, close) in bad {
        let mut socket = Socket::open(&bench.proxy).await;
        socket.say(message).await;
        let reported = socket.next().await;
        assert_eq!((&reported["type"], reported["error"]["code"].as_str()), (&json!("error"), code), "{reported}");
        assert_eq!(socket.closed().await, Some(close), "{reported}");
    }
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn an_unreadable_message_does_not_cut_the_running_response() {
    let bench = Bench::with(|launch| launch.setting("limits.body", "10KiB")).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(DONE).event(COMPLETED).end());
    let large = with(hello(), "input", json!("x".repeat(20_000))).to_string();
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&hello()).await;
    socket.until("response.output_text.delta").await;
    socket.say(Message::text(large)).await;
    for _ in 0..20 {
        assert_eq!(Ask::get("/health").send(&bench.proxy).await.status, 200, "time for the message to be rejected");
    }
    gate.open();
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
    assert_eq!(socket.next().await["error"]["code"], "request_too_large");
    assert_eq!(socket.closed().await, Some(1009));
}

#[tokio::test]
async fn a_missing_response_is_rejected_and_the_socket_stays_open() {
    let bench = answering().await;
    let mut socket = Socket::open(&bench.proxy).await;
    let bad = [
        (json!({"type": "response.explain"}), "type", "invalid_value"),
        (json!({"model": "gpt-5.5"}), "type", "invalid_value"),
        (with(hello(), "type", json!("response.create")), "stream_id", "invalid_stream_id"),
        (json!({"type": "response.create", "model": "gpt-5.5"}), "input", "missing_required_parameter"),
        (json!({"type": "response.create", "input": "hi"}), "model", "missing_required_parameter"),
        (
            json!({"type": "response.create", "model": "gpt-5.5", "input": "hi", "background": true}),
            "background",
            "unsupported_value",
        ),
    ];
    for (mut frame, param, code) in bad {
        if param == "stream_id" {
            frame["stream_id"] = json!("no spaces");
        }
        socket.send(&frame).await;
        let reported = socket.next().await;
        assert_eq!(
            (&reported["status"], &reported["error"]["param"], &reported["error"]["code"]),
            (&json!(400), &json!(param), &json!(code))
        );
    }
    socket.create(&hello()).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
}

#[tokio::test]
async fn an_error_of_the_backend_has_its_status_and_headers() {
    let bench = Bench::new().await;
    let limit = json!({"error": {"type": "usage_limit_reached", "message": "The usage limit has been reached", "resets_in_seconds": 60}});
    let headers = [("content-type", "application/json"), ("x-codex-primary-used-percent", "100")];
    bench.upstream.on("/responses", Script::answer(429, &headers, &limit.to_string()));
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&hello()).await;
    let reported = socket.next().await;
    assert_eq!((&reported["status"], &reported["error"]["type"]), (&json!(429), &json!("usage_limit_reached")));
    assert_eq!(reported["headers"]["x-codex-primary-used-percent"], "100");
    assert_eq!(reported["headers"]["retry-after"], "60");
    assert!(reported["headers"]["x-request-id"].as_str().unwrap().starts_with("req_"));
}

#[tokio::test]
async fn without_a_login_the_error_names_the_login_command() {
    let upstream = crate::fake::FakeUpstream::start().await;
    let proxy = signed_out(&upstream).start();
    let mut socket = Socket::open(&proxy).await;
    socket.create(&hello()).await;
    let reported = socket.next().await;
    assert_eq!((&reported["status"], &reported["error"]["code"]), (&json!(401), &json!("not_signed_in")));
}
