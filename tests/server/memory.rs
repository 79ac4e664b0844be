//! Memory of requests: bodies that expand when decoded, and frames that never end.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::fake::{Gate, Script};
use crate::input::encode;
use crate::limits::{becomes, metric, peak_bytes};
use crate::proxy::TestProxy;
use crate::websocket::Socket;
use crate::wire::Ask;
use crate::{BEGUN, Bench, COMPLETED, WHOLE, begun, chat, signed_in, with};

const MIB: usize = 1 << 20;
/// Memory of the program, its other buffers and the allocator, in addition to the bodies.
const SLACK_BYTES: u64 = 96 << 20;

/// The header of a text frame, masked with zeros.
fn frame_header(bytes: usize) -> Vec<u8> {
    [&[0x81, 0xff][..], &(bytes as u64).to_be_bytes(), &[0; 4]].concat()
}

/// A chat request with this much text.
fn long_chat(bytes: usize) -> Vec<u8> {
    with(chat(), "messages", json!([{"role": "user", "content": "x".repeat(bytes)}])).to_string().into_bytes()
}

/// A chat request of many small messages.
fn many_messages(bytes: usize) -> Vec<u8> {
    const MESSAGE: &str = r#"{"role":"user","content":"a"}"#;
    let messages = vec![MESSAGE; bytes / (MESSAGE.len() + 1)].join(",");
    format!(r#"{{"model":"gpt-5.5","messages":[{messages}]}}"#).into_bytes()
}

/// The increase of the daemon's peak memory.
async fn growth(proxy: &TestProxy, attack: impl Future<Output = ()>) -> Option<u64> {
    let idle = peak_bytes(proxy)?;
    attack.await;
    Some(peak_bytes(proxy)? - idle)
}

#[tokio::test]
async fn small_bodies_that_decode_to_large_ones_stay_within_the_memory() {
    let settings = [("limits.memory", "48MiB"), ("limits.body", "16MiB")];
    for (body, allowed) in [
        (long_chat(15 * MIB), &[200, 503][..]),
        // One of these uses most of the memory.
        (many_messages(MIB), &[200, 503]),
        // And one of these exceeds the limit.
        (many_messages(15 * MIB), &[413, 503]),
    ] {
        let bench =
            Bench::answering(|launch| settings.iter().fold(launch, |launch, (key, value)| launch.setting(key, value)))
                .await;
        for encoding in ["zstd", "br"] {
            let ask =
                Ask::raw("/v1/chat/completions", encode(encoding, &body).await).header("content-encoding", encoding);
            let attack = async {
                let asks = (0..6).map(|_| ask.send(&bench.proxy));
                for answer in futures_util::future::join_all(asks).await {
                    assert!(allowed.contains(&answer.status), "{encoding}: {}: {}", answer.status, answer.text());
                    if answer.status == 503 {
                        assert_eq!(answer.error()["code"], "memory_limit_reached");
                        assert_eq!(answer.header("retry-after"), "5");
                    }
                }
            };
            if let Some(growth) = growth(&bench.proxy, attack).await {
                println!("{} bytes as {encoding}: peak has grown by {} MiB", body.len(), growth >> 20);
                assert!(growth < (48 << 20) + SLACK_BYTES, "{encoding}: memory has grown by {growth} bytes");
            }
        }
        becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
        assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 200);
    }
}

#[tokio::test]
async fn unfinished_frames_acquire_memory_as_they_grow_within_the_limit() {
    let settings = [("limits.memory", "32MiB"), ("limits.body", "16MiB")];
    let bench =
        Bench::answering(|launch| settings.iter().fold(launch, |launch, (key, value)| launch.setting(key, value)))
            .await;
    let mut sockets = Vec::new();
    let attack = async {
        for _ in 0..12 {
            let mut socket = Socket::open(&bench.proxy).await;
            socket.raw(&frame_header(15 * MIB)).await;
            sockets.push(socket);
        }
        assert_eq!(metric(&bench.proxy, "codex_proxy_memory_reserved_bytes").await, 0, "nothing has arrived");
        let part = vec![b'x'; 12 * MIB];
        futures_util::future::join_all(sockets.iter_mut().map(|socket| socket.raw(&part))).await;
    };
    if let Some(growth) = growth(&bench.proxy, attack).await {
        assert!(growth < (32 << 20) + SLACK_BYTES, "memory has grown by {growth} bytes");
    }
    let mut refused = 0;
    for socket in &mut sockets {
        if let Ok(Ok(reported)) = timeout(Duration::from_secs(2), socket.hear()).await {
            assert_eq!(
                (&reported["status"], &reported["error"]["code"]),
                (&json!(503), &json!("memory_limit_reached"))
            );
            assert_eq!(reported["headers"]["retry-after"], "5");
            assert_eq!(socket.closed().await, Some(1013));
            refused += 1;
        }
    }
    assert!(refused >= 10, "{refused}");
    drop(sockets);
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
}

#[tokio::test]
async fn a_request_releases_its_memory_when_it_ends() {
    let bench = Bench::new().await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(COMPLETED).end());
    bench.upstream.on("/responses", Script::events(&WHOLE));
    let body = long_chat(200_000);
    let ask = Ask::raw(
        "/v1/chat/completions",
        with(serde_json::from_slice(&body).unwrap(), "stream", json!(true)).to_string(),
    );
    let mut open = ask.open(&bench.proxy).await;
    open.until("Grüße").await;
    let held = metric(&bench.proxy, "codex_proxy_memory_reserved_bytes").await;
    assert!((200_000..210_000).contains(&held), "the body, without derived data: {held}");
    gate.open();
    open.rest().await;
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
}

#[tokio::test]
async fn a_document_holds_the_memory_to_send_its_request_again() {
    let bench = Bench::new().await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).cut());
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(COMPLETED).end());
    let ask = Ask::raw("/v1/chat/completions", long_chat(200_000));
    let (answer, held) = tokio::join!(ask.send(&bench.proxy), async {
        bench.upstream.received("/responses", 2).await;
        let held = metric(&bench.proxy, "codex_proxy_memory_reserved_bytes").await;
        gate.open();
        held
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!((800_000..850_000).contains(&held), "the body, with derived data for each attempt: {held}");
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
}

#[tokio::test]
async fn requests_for_token_counts_and_models_are_bounded_too() {
    let settings = [("limits.memory", "1MiB"), ("limits.body", "1MiB")];
    let bench =
        Bench::answering(|launch| settings.iter().fold(launch, |launch, (key, value)| launch.setting(key, value)))
            .await;
    let body = long_chat(MIB - 200);
    let held = Ask::raw("/v1/chat/completions", body.clone()).begin(&bench.proxy, MIB - 300).await;
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", body.len() as u64).await;
    for path in ["/v1/messages/count_tokens", "/v1/responses/input_tokens", "/api/show"] {
        let answer = Ask::post(path, &chat()).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{path}: {}", answer.text());
    }
    drop(held);
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
}

/// Prints the figures of the two attacks at full size, with the default settings. To measure another build, set
/// `CODEX_PROXY_TEST_BINARY`.
#[tokio::test]
#[ignore = "it takes gigabytes with a build that doesn't bound its memory"]
#[expect(clippy::disallowed_methods, reason = "the binary to measure is an argument of this test")]
async fn peak_memory_of_the_attacks() {
    let upstream = crate::fake::FakeUpstream::start().await;
    upstream.on("/responses", Script::events(&WHOLE));
    let launch = || signed_in(&upstream).binary(std::env::var("CODEX_PROXY_TEST_BINARY").ok());
    let proxy = launch().start();
    let bomb = encode("zstd", &long_chat(62 * MIB)).await;
    let ask = Ask::raw("/v1/chat/completions", bomb.clone()).header("content-encoding", "zstd");
    let bodies = async {
        let asks = (0..32).map(|_| ask.send(&proxy));
        // A build that decodes all of them takes minutes to respond; its memory peaks before that.
        match timeout(Duration::from_secs(50), futures_util::future::join_all(asks)).await {
            Ok(answers) => {
                let served = answers.iter().filter(|answer| answer.status == 200).count();
                println!("32 zstd bodies of {} bytes: {served} served, {} refused", bomb.len(), 32 - served);
            }
            Err(_) => println!("32 zstd bodies of {} bytes: not all answered", bomb.len()),
        }
    };
    println!("peak has grown by {:?} MiB", growth(&proxy, bodies).await.map(|bytes| bytes >> 20));
    drop(proxy);
    let proxy = launch().start();
    let part = vec![b'x'; 60 * MIB];
    let mut sockets = Vec::new();
    let frames = async {
        for _ in 0..12 {
            let mut socket = Socket::open(&proxy).await;
            socket.raw(&frame_header(60 * MIB)).await;
            sockets.push(socket);
        }
        let parts = sockets.iter_mut().map(|socket| socket.raw(&part[..part.len() - 1]));
        futures_util::future::join_all(parts).await;
    };
    let growth = growth(&proxy, frames).await.map(|bytes| bytes >> 20);
    println!("12 WebSockets with an unfinished frame of 60 MiB: peak has grown by {growth:?} MiB");
}
