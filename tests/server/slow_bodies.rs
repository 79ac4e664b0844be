//! Clients that send their request slowly, or never finish it.

use serde_json::{Value, json};

use crate::limits::{becomes, metric};
use crate::websocket::Socket;
use crate::wire::Ask;
use crate::{Bench, SECOND, chat};

/// The header of a text frame of 1 MiB, masked with zeros.
const LONG_FRAME: [u8; 14] = [0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];

/// Parses the message of an error in one API's format.
type MessageOf<'f> = &'f dyn Fn(&Value) -> String;

#[tokio::test]
async fn incomplete_requests_occupy_no_slot() {
    let settings = [("limits.concurrency", "3"), ("limits.queue", "0")];
    let bench =
        Bench::answering(|launch| settings.iter().fold(launch, |launch, (key, value)| launch.setting(key, value)))
            .await;
    let mut held = Vec::new();
    for path in ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat", "/v1/messages/count_tokens"] {
        held.push(Ask::post(path, &chat()).begin(&bench.proxy, 20).await);
    }
    let mut socket = Socket::open(&bench.proxy).await;
    socket.raw(&LONG_FRAME).await;
    assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 200, "while the others still send");
    assert_eq!(metric(&bench.proxy, "codex_proxy_places_taken").await, 0);
}

#[tokio::test]
async fn a_stalled_body_is_rejected_in_each_api_and_its_connection_closed() {
    let bench = Bench::answering(|launch| launch.setting("timing.body_read", "200ms")).await;
    let openai = |error: &Value| {
        assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("request_timeout")));
        error["message"].as_str().unwrap().to_owned()
    };
    let anthropic = |error: &Value| {
        assert_eq!(error["type"], "timeout_error");
        error["message"].as_str().unwrap().to_owned()
    };
    let google = |error: &Value| {
        assert_eq!((&error["status"], &error["code"]), (&json!("DEADLINE_EXCEEDED"), &json!(408)));
        error["message"].as_str().unwrap().to_owned()
    };
    let ollama = |error: &Value| error.as_str().unwrap().to_owned();
    let paths: [(&str, MessageOf<'_>); 11] = [
        ("/v1/chat/completions", &openai),
        ("/v1/completions", &openai),
        ("/v1/responses", &openai),
        ("/v1/responses/compact", &openai),
        ("/v1/responses/input_tokens", &openai),
        ("/v1/messages", &anthropic),
        ("/v1/messages/count_tokens", &anthropic),
        ("/v1beta/models/gpt-5.5:generateContent", &google),
        ("/v1beta/models/gpt-5.5:countTokens", &google),
        ("/api/chat", &ollama),
        ("/api/show", &ollama),
    ];
    for (path, message) in paths {
        let gzip = Ask::post(path, &chat()).header("content-encoding", "gzip");
        for ask in [Ask::post(path, &chat()), gzip] {
            // The response is read to the end of the connection.
            let answer = ask.begin(&bench.proxy, 0).await.open().await.rest().await;
            assert_eq!((answer.status, answer.header("connection")), (408, "close"), "{path}: {}", answer.text());
            let message = message(&answer.json()["error"]);
            assert!(message.contains("timing.body_read"), "{message}");
        }
    }
    assert_eq!(metric(&bench.proxy, r#"codex_proxy_errors_total{class="body_too_slow"}"#).await, 14);
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn a_stalled_websocket_message_closes_its_socket() {
    let bench = Bench::answering(|launch| launch.setting("timing.body_read", "200ms")).await;
    let mut unfinished_frame = Socket::open(&bench.proxy).await;
    unfinished_frame.raw(&[&LONG_FRAME[..], &vec![b'x'; 100_000]].concat()).await;
    let mut unfinished_message = Socket::open(&bench.proxy).await;
    // A fragment without a continuation.
    unfinished_message.raw(&[0x01, 0x81, 0, 0, 0, 0, b'{']).await;
    for mut socket in [unfinished_frame, unfinished_message] {
        let refused = socket.next().await;
        assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!(408), &json!("request_timeout")));
        assert_eq!(socket.closed().await, Some(1008));
    }
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
    let mut quiet = Socket::open(&bench.proxy).await;
    tokio::time::timeout(SECOND, quiet.hear()).await.expect_err("silence between messages is no fault");
}
