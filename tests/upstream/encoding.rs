//! Compressed responses: which encodings requests accept, and how streams and documents are decoded.

use std::io::Read as _;

use codex_proxy::error::{Fault, ProxyError};
use codex_proxy::upstream::AcceptEncoding;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::compression::compressed;
use crate::fake::{Gate, Recorded, Script};
use crate::{Bench, COMPLETED, CREATED, DELTA, ROUTING, SECOND, WHOLE, drain, fault};

const ENCODINGS: [&str; 2] = ["gzip", "zstd"];
const USAGE: &str = "/backend-api/wham/usage";

/// The events as frames, compressed; each piece ends with a flush, and the last one is the end of the body.
fn pieces(encoding: &str, events: &[&str]) -> Vec<Vec<u8>> {
    let frames: Vec<_> = events.iter().map(|data| format!("data: {data}\n\n")).collect();
    compressed(encoding, &frames)
}

fn head(encoding: &str) -> Script {
    Script::stream(&[("content-encoding", encoding)])
}

fn document(status: u16, encoding: &str, json: impl AsRef<[u8]>) -> Script {
    encoded(status, encoding, &compressed(encoding, &[json]).concat())
}

fn encoded(status: u16, encoding: &str, body: &[u8]) -> Script {
    Script::answer_bytes(status, &[("content-type", "application/json"), ("content-encoding", encoding)], body)
}

/// A bench without retries.
async fn bench() -> Bench {
    Bench::with(|settings| settings.max_retries = 0).await
}

#[tokio::test]
async fn every_request_accepts_the_encodings_of_the_official_client() {
    for (setting, expected) in [(AcceptEncoding::Auto, Some("zstd,gzip")), (AcceptEncoding::None, None)] {
        let bench = Bench::with(|settings| settings.accept_encoding = setting).await;
        bench.fake.on("/responses", Script::events(&WHOLE));
        bench.open().await.unwrap();
        let _ = bench.upstream.refresh_catalogue().await;
        let _ = bench.upstream.fetch_quota().await;
        let _ = bench.upstream.account_status().await;
        for path in ["/responses", "/models", "/usage", "/accounts/check"] {
            let sent = bench.fake.requests(path).pop().unwrap();
            let accepted = sent.headers.get("accept-encoding").map(|value| value.to_str().unwrap());
            assert_eq!(accepted, expected, "{path}");
            if expected.is_some() {
                assert_eq!(before_host(&sent), "accept-encoding", "{path}: in the order of the official client");
            }
        }
    }
}

/// The name of the header before `host`.
fn before_host(sent: &Recorded) -> &str {
    let names: Vec<_> = sent.headers.keys().map(http::HeaderName::as_str).collect();
    names.windows(2).find(|pair| pair[1] == "host").unwrap()[0]
}

#[tokio::test]
async fn a_flushed_event_is_passed_on_before_the_next_arrives() {
    for encoding in ENCODINGS {
        let bench = bench().await;
        let [created, delta, completed, _] = &pieces(encoding, &[CREATED, DELTA, COMPLETED])[..] else { panic!() };
        let gate = Gate::default();
        let script = head(encoding).chunk(created).chunk(&delta[..1]).chunk(&delta[1..]).gate(&gate);
        // The terminal event ends the response, not the end of the frame.
        bench.fake.on("/responses", script.chunk(completed).hang());
        let mut events = bench.open().await.unwrap().events;
        for expected in [CREATED, DELTA, COMPLETED] {
            let event = timeout(5 * SECOND, events.next()).await.expect("it isn't held back").unwrap().unwrap();
            assert_eq!(event, expected, "{encoding}");
            if expected == DELTA {
                gate.open();
            }
        }
        assert!(events.next().await.is_none());
    }
}

#[tokio::test]
async fn a_compressed_stream_that_is_cut_is_truncated() {
    for encoding in ENCODINGS {
        let whole = pieces(encoding, &[CREATED, DELTA]).concat();
        // Up to the whole body, which lacks a terminal event.
        for (length, end) in (1..=whole.len())
            .rev()
            .step_by(7)
            .flat_map(|length| [Script::end as fn(Script) -> Script, Script::cut].map(|end| (length, end)))
        {
            let bench = bench().await;
            bench.fake.on("/responses", end(head(encoding).chunk(&whole[..length])));
            let error = match bench.open().await {
                Ok(answer) => drain(answer).await.1.expect("it is not complete"),
                Err(error) => error,
            };
            assert!(matches!(error, ProxyError::Truncated { .. }), "{encoding}, {length}: {error:?}");
        }
    }
}

#[tokio::test]
async fn a_complete_stream_may_have_several_frames() {
    for encoding in ENCODINGS {
        let bench = bench().await;
        let script =
            WHOLE.iter().fold(head(encoding), |script, event| script.chunk(pieces(encoding, &[event]).concat()));
        bench.fake.on("/responses", script.end());
        let (events, error) = drain(bench.open().await.unwrap()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(events, WHOLE);
    }
}

#[tokio::test]
async fn decoded_events_count_against_the_event_limit() {
    for encoding in ENCODINGS {
        let bench = bench().await;
        let mut giant = Vec::new();
        std::io::repeat(b'x').take(4 << 20).read_to_end(&mut giant).unwrap();
        let frames = compressed(encoding, &[format!("data: {CREATED}\n\ndata: ").as_bytes(), &giant]);
        bench.fake.on("/responses", head(encoding).chunk(frames.concat()).hang());
        let error = bench.open().await.unwrap_err();
        assert!(matches!(error, ProxyError::EventTooLarge { .. }), "{encoding}: {error:?}");
    }
}

#[tokio::test]
async fn damaged_and_unknown_encodings_are_reported_and_not_retried() {
    let cases = [("zstd", "'zstd' garbage"), ("gzip", "garbage"), ("br", "garbage"), ("gzip, zstd", "garbage")];
    for (encoding, body) in cases {
        let bench = Bench::new().await;
        bench.fake.on("/responses", head(encoding).chunk(body).end());
        let error = bench.open().await.unwrap_err();
        let ProxyError::Damaged { reason } = error else { panic!("{encoding}: {error:?}") };
        assert!(ENCODINGS.contains(&encoding) || reason.contains(&format!("'{encoding}'")), "{reason}");
        assert_eq!(bench.calls(), 1);
    }
}

#[tokio::test]
async fn documents_are_decoded_up_to_their_limit() {
    for encoding in ENCODINGS {
        let bench = bench().await;
        bench.fake.on("/models", document(200, encoding, r#"{"models":[{"slug":"gpt-compressed"}]}"#));
        bench.upstream.refresh_catalogue().await.unwrap();
        assert!(bench.upstream.catalogue().find("gpt-compressed").is_some());

        let padding = " ".repeat(17 << 20);
        bench.fake.replace("/models", document(200, encoding, format!(r#"{{"models":[]{padding}}}"#)));
        let error = bench.upstream.refresh_catalogue().await.unwrap_err();
        assert!(matches!(error, ProxyError::Truncated { .. }), "{encoding}: {error:?}");

        let whole = compressed(encoding, &[r#"{"models":[{"slug":"gpt-cut"}]}"#]).concat();
        bench.fake.replace("/models", encoded(200, encoding, &whole[..whole.len() - 1]));
        let error = bench.upstream.refresh_catalogue().await.unwrap_err();
        assert!(matches!(error, ProxyError::Truncated { .. }), "{encoding}: {error:?}");

        let usage =
            r#"{"plan_type":"plus","rate_limit":{"primary_window":{"used_percent":7,"limit_window_seconds":18000}}}"#;
        bench.fake.on(USAGE, document(200, encoding, usage));
        bench.upstream.fetch_quota().await.unwrap();
    }
}

#[tokio::test]
async fn compressed_errors_are_classified() {
    let limit = r#"{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached"}}"#;
    for encoding in ENCODINGS {
        let bench = bench().await;
        bench.fake.on("/responses", document(429, encoding, limit));
        assert_eq!(fault(bench.open().await), Fault::UsageLimit, "{encoding}");
    }
}

#[tokio::test]
async fn the_status_of_an_error_counts_if_its_encoding_is_unknown() {
    let bench = bench().await;
    let unreadable = Script::answer(401, &[("content-encoding", "br")], "garbage");
    bench.fake.on("/responses", unreadable);
    bench.fake.on("/responses", Script::events(&WHOLE));
    bench.fake.on(ROUTING, Script::answer(404, &[], ""));
    let (events, error) = drain(bench.open().await.expect("the token is replaced")).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!((events.len(), bench.calls()), (WHOLE.len(), 2));
}

#[tokio::test]
async fn the_connection_of_a_compressed_response_can_be_used_again() {
    for encoding in ENCODINGS {
        let bench = bench().await;
        let pieces = pieces(encoding, &WHOLE);
        // The end of the frame is in its own chunk.
        let script = pieces.iter().fold(head(encoding), Script::chunk);
        bench.fake.on("/responses", script.end());
        for _ in 0..3 {
            let (events, error) = drain(bench.open().await.unwrap()).await;
            assert_eq!((events.len(), error.is_none()), (WHOLE.len(), true), "{error:?}");
        }
        assert_eq!(bench.upstream.counters().connections_opened, 1, "{encoding}");
    }
}
