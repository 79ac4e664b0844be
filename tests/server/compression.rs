//! Requests compressed with zstd: when they are compressed, that their content is unchanged, and what happens
//! after a rejection.

use serde_json::{Value, json};

use crate::fake::{Recorded, Script};
use crate::wire::Ask;
use crate::{Bench, WHOLE};

async fn set_to(compression: &str) -> Bench {
    Bench::with(|launch| launch.setting("upstream.compression", compression)).await
}

fn said(letters: usize) -> Value {
    let text = "All work and no \"play\".\n".repeat(letters / 24);
    json!({"model": "gpt-5.5", "messages": [{"role": "user", "content": text}]})
}

fn is_packed(sent: &Recorded) -> bool {
    sent.header("content-encoding") == "zstd"
}

#[tokio::test]
async fn long_requests_are_compressed_without_changing_their_content() {
    let (packing, plain) = (set_to("zstd").await, set_to("none").await);
    for (letters, packs) in [(1_000, false), (30_000, true), (600_000, true)] {
        let mut sent = Vec::new();
        for bench in [&packing, &plain] {
            bench.upstream.on("/responses", Script::events(&WHOLE));
            assert_eq!(Ask::chat(&said(letters)).send(&bench.proxy).await.status, 200);
            sent.extend(bench.upstream.requests("/responses").pop());
        }
        assert_eq!((is_packed(&sent[0]), is_packed(&sent[1])), (packs, false), "{letters}");
        assert_eq!(packs, sent[0].body.len() < sent[1].body.len() / 2);
        assert_eq!(sent[0].json(), sent[1].json());
    }
}

#[tokio::test]
async fn requests_to_loopback_are_not_compressed_unless_configured() {
    let bench = set_to("auto").await;
    bench.upstream.on("/responses", Script::events(&WHOLE));
    assert_eq!(Ask::chat(&said(30_000)).send(&bench.proxy).await.status, 200);
    assert!(!is_packed(&bench.upstream.requests("/responses")[0]));
}

#[tokio::test]
async fn a_backend_that_rejects_compression_gets_uncompressed_requests() {
    let refusals = [
        (415, r#"{"detail":"Unsupported Media Type"}"#),
        (400, r#"{"error":{"message":"Could not decompress the request body."}}"#),
    ];
    for (status, body) in refusals {
        let bench =
            Bench::with(|launch| launch.setting("upstream.compression", "zstd").setting("upstream.max_retries", "0"))
                .await;
        for script in [Script::json(status, body), Script::events(&WHOLE), Script::events(&WHOLE)] {
            bench.upstream.on("/responses", script);
        }
        for _ in 0..2 {
            assert_eq!(Ask::chat(&said(30_000)).send(&bench.proxy).await.status, 200);
        }
        let packed: Vec<bool> = bench.upstream.requests("/responses").iter().map(is_packed).collect();
        assert_eq!(packed, [true, false, false], "the refusal is remembered");
    }
}

#[tokio::test]
async fn another_rejection_of_a_compressed_request_is_returned_without_retry() {
    let bench = set_to("zstd").await;
    bench.upstream.on("/responses", Script::json(400, r#"{"error":{"message":"no such thing"}}"#));
    assert_eq!(Ask::chat(&said(30_000)).send(&bench.proxy).await.status, 400);
    assert_eq!(bench.upstream.requests("/responses").len(), 1);
}
