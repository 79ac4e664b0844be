//! Invalid requests: an error object with the right status, never a 5xx, never a hang.

use async_compression::Level;
use async_compression::tokio::write::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder};
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::wire::{Answer, Ask};
use crate::{Bench, chat, with};

const FAST: Level = Level::Fastest;
const PATH: &str = "/v1/chat/completions";
const LIMIT_BYTES: usize = 64 * 1024;

async fn refused(bench: &Bench, ask: Ask) -> (u16, Value) {
    let answer = ask.send(&bench.proxy).await;
    (answer.status, answer.error())
}

async fn assert_invalid(bench: &Bench, body: impl Into<Vec<u8>>, param: Option<&str>) {
    let body = body.into();
    let shown = String::from_utf8_lossy(&body).chars().take(100).collect::<String>();
    let (status, error) = refused(bench, Ask::raw(PATH, body)).await;
    assert_eq!((status, error["param"].as_str()), (400, param), "{shown}: {error}");
    assert_eq!(error["type"], "invalid_request_error", "{shown}");
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_rejected() {
    let bench = Bench::new().await;
    let bodies = [
        "",
        " ",
        "{",
        "nonsense",
        "[]",
        "7",
        "null",
        "\"text\"",
        "{}{}",
        "{\"model\":\"m\",}",
        "{'model':1}",
        "{\"model\":\"m\"\0}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\0b\"}]}",
        "{\"model\":NaN}",
        "{\"model\":1e}",
        "{\"\\ud800\":}",
    ];
    for body in bodies {
        assert_invalid(&bench, body, None).await;
    }
    assert_invalid(&bench, b"{\"model\":\"\xff\xfe\"}".to_vec(), None).await;
    assert_invalid(&bench, b"\xff\xfe{\0}\0".to_vec(), None).await;
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn an_invalid_member_is_named() {
    let bench = Bench::new().await;
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    let rows = [
        (json!({"model": "gpt-5.5"}), "messages"),
        (json!({"messages": user(json!("hi"))}), "model"),
        (with(chat(), "model", json!(5)), "model"),
        (with(chat(), "messages", json!("hi")), "messages"),
        (with(chat(), "messages", json!([])), "messages"),
        (with(chat(), "messages", json!([5])), "messages[0]"),
        (with(chat(), "messages", json!([{"content": "hi"}])), "messages[0].role"),
        (with(chat(), "messages", json!([{"role": "robot", "content": "hi"}])), "messages[0].role"),
        (with(chat(), "messages", user(json!(5))), "messages[0].content"),
        (with(chat(), "messages", user(json!([{"type": "smell"}]))), "messages[0].content[0].type"),
        (with(chat(), "stream", json!("yes")), "stream"),
        (with(chat(), "tools", json!({})), "tools"),
        (with(chat(), "tools", json!([{"type": "function"}])), "tools[0].name"),
        (with(chat(), "stop", json!([1])), "stop[0]"),
        (with(chat(), "n", json!(2)), "n"),
        (with(chat(), "logprobs", json!(true)), "logprobs"),
        (with(chat(), "stream_options", json!(7)), "stream_options"),
    ];
    for (request, param) in rows {
        assert_invalid(&bench, request.to_string(), Some(param)).await;
    }
    assert_eq!(bench.request_count(), 0);
}

#[tokio::test]
async fn extreme_values_are_handled() {
    let bench = Bench::answering(|launch| launch).await;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let lists = deep("[", "]");
    let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    for nested in [&lists, &objects] {
        for body in [
            format!(r#"{{"model":"gpt-5.5","messages":{nested}}}"#),
            format!(r#"{{"model":"gpt-5.5","messages":[{{"role":"user","content":{nested}}}]}}"#),
            format!(r#"{{"model":"gpt-5.5","messages":[{{"role":"user","content":"hi"}}],"unknown":{nested}}}"#),
            format!(
                r#"{{"model":"gpt-5.5","messages":[{{"role":"user","content":"hi"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{nested}}}}}]}}"#
            ),
            format!(
                r#"{{"model":"gpt-5.5","messages":[{{"role":"user","content":"hi"}}],"response_format":{{"type":"json_schema","json_schema":{{"name":"s","schema":{nested}}}}}}}"#
            ),
            nested.clone(),
        ] {
            assert_invalid(&bench, body, None).await;
        }
    }
    let levels = format!("{}1{}", r#"{"items":"#.repeat(100), "}".repeat(100));
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": serde_json::from_str::<Value>(&levels).unwrap()}});
    let answer = Ask::chat(&with(chat(), "tools", json!([tool]))).send(&bench.proxy).await;
    assert_eq!(answer.status, 200, "a deep schema is not an absurd one: {}", answer.text());
    assert_invalid(&bench, "[".repeat(100_000), None).await;
    assert_invalid(&bench, "{\"a\":".repeat(100_000), None).await;
    for number in ["1e999", "-1e999", &"9".repeat(5000), &format!("0.{}", "1".repeat(5000)), "1e-999999"] {
        for member in ["n", "temperature", "max_tokens", "seed", "unknown"] {
            let body =
                format!(r#"{{"model":"gpt-5.5","messages":[{{"role":"user","content":"hi"}}],"{member}":{number}}}"#);
            let answer = Ask::raw(PATH, body).send(&bench.proxy).await;
            assert!(matches!(answer.status, 200 | 400), "{member} {}: {}", answer.status, answer.text());
        }
    }
    assert_eq!(Ask::get("/health").send(&bench.proxy).await.status, 200, "the daemon is running");
}

#[tokio::test]
async fn the_last_of_two_members_of_one_name_counts() {
    let bench = Bench::answering(|launch| launch).await;
    let body = r#"{"model":"other","messages":5,"messages":[{"role":"user","content":"hi"}],"model":"gpt-5.5"}"#;
    let answer = Ask::raw(PATH, body).send(&bench.proxy).await;
    assert!(matches!(answer.status, 200 | 400), "{}", answer.text());
    let body = r#"{"model":"other","model":"gpt-5.5","messages":[{"role":"user","content":"a\u0000b"}]}"#;
    assert_eq!(Ask::raw(PATH, body).send(&bench.proxy).await.status, 200);
    let sent = bench.upstream.requests("/responses").pop().unwrap().json();
    assert_eq!(sent["model"], "gpt-5.5");
    assert_eq!(sent["input"][0]["content"][0]["text"], "a\0b");
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_have_different_errors() {
    let bench = Bench::new().await;
    for path in ["/v1", "/v1/nothing", "/v2/chat/completions", "/v1/chat/completions/x/y", "/%00", "/v1/%ff", "/..;/x"]
    {
        let (status, error) = refused(&bench, Ask::get(path)).await;
        assert_eq!((status, error["code"].as_str()), (404, Some("unknown_url")), "{path}");
    }
    let post = |path: &str| Ask::post(path, &json!({}));
    for (ask, allowed) in [
        (Ask::get(PATH), "POST"),
        (Ask::new("DELETE", PATH), "POST"),
        (Ask::new("BREW", PATH), "POST"),
        (post("/v1/models"), "GET, HEAD"),
        (post("/v1/models/gpt-5.5"), "GET, HEAD"),
        (post("/health"), "GET, HEAD"),
    ] {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (405, Some("method_not_supported")));
        assert_eq!(answer.header("allow"), allowed);
    }
}

#[tokio::test]
async fn an_unknown_model_is_a_404_with_the_nearest_name() {
    let bench = Bench::new().await;
    for path in ["/v1/models/gpt-5.55", "/models/gpt-5.55"] {
        let (status, error) = refused(&bench, Ask::get(path)).await;
        assert_eq!(
            (status, error["code"].as_str(), error["param"].as_str()),
            (404, Some("model_not_found"), Some("model"))
        );
        assert!(error["message"].as_str().unwrap().contains("did you mean 'gpt-5.5'?"), "{error}");
    }
    for path in ["/v1/models/%ff", "/v1/models/%ff/x"] {
        assert_eq!(refused(&bench, Ask::get(path)).await.0, 404, "{path}");
    }
    let found = Ask::get("/v1/models/gpt-5.5").send(&bench.proxy).await;
    assert_eq!((found.status, &found.json()["id"]), (200, &json!("gpt-5.5")));
}

#[tokio::test]
async fn every_response_has_a_request_id() {
    let bench = Bench::answering(|launch| launch).await;
    let mut ids = std::collections::BTreeSet::new();
    for ask in [
        Ask::chat(&chat()),
        Ask::chat(&crate::streaming()),
        Ask::raw(PATH, "{"),
        Ask::get("/health"),
        Ask::get("/ready"),
        Ask::get("/v1/models"),
        Ask::get("/nothing"),
        Ask::get("/health").header("host", "evil.invalid"),
        Ask::new("OPTIONS", "*"),
    ] {
        let answer = ask.send(&bench.proxy).await;
        let id = answer.header("x-request-id").to_owned();
        assert!(id.starts_with("req_") && ids.insert(id), "{:?}", answer.headers);
    }
}

pub(crate) async fn encode(encoding: &str, body: &[u8]) -> Vec<u8> {
    async fn through<W: AsyncWrite + Unpin>(mut encoder: W, body: &[u8]) -> W {
        encoder.write_all(body).await.unwrap();
        encoder.shutdown().await.unwrap();
        encoder
    }
    let to = Vec::new();
    match encoding {
        "gzip" => through(GzipEncoder::with_quality(to, FAST), body).await.into_inner(),
        "deflate" => through(ZlibEncoder::with_quality(to, FAST), body).await.into_inner(),
        "deflate, bare" => through(DeflateEncoder::with_quality(to, FAST), body).await.into_inner(),
        "br" => through(BrotliEncoder::with_quality(to, FAST), body).await.into_inner(),
        "zstd" => through(ZstdEncoder::with_quality(to, FAST), body).await.into_inner(),
        other => panic!("{other}"),
    }
}

const ENCODINGS: [&str; 5] = ["gzip", "deflate", "deflate, bare", "br", "zstd"];

fn encoded(encoding: &str, body: Vec<u8>) -> Ask {
    Ask::raw(PATH, body).header("content-encoding", encoding.split(',').next().unwrap())
}

#[tokio::test]
async fn encoded_bodies_are_read() {
    let bench = Bench::answering(|launch| launch).await;
    for encoding in ENCODINGS {
        let prompt = format!("Hallo aus {encoding} 👋");
        let request = with(chat(), "messages", json!([{"role": "user", "content": prompt}])).to_string();
        let body = encode(encoding, request.as_bytes()).await;
        for ask in [encoded(encoding, body.clone()), encoded(encoding, body.clone()).chunked()] {
            let answer = ask.send(&bench.proxy).await;
            assert_eq!(answer.status, 200, "{encoding}: {}", answer.text());
            let sent = bench.upstream.requests("/responses").pop().unwrap();
            assert_eq!(sent.json()["input"][0]["content"][0]["text"], prompt, "{encoding}");
            assert_eq!(sent.header("content-encoding"), "");
        }
    }
    let whole = chat().to_string().into_bytes();
    for encoding in ["gzip", "zstd"] {
        let (first, second) = whole.split_at(10);
        let frames = [encode(encoding, first).await, encode(encoding, second).await].concat();
        let answer = encoded(encoding, frames).send(&bench.proxy).await;
        assert_eq!(answer.status, 200, "{encoding}: {}", answer.text());
    }
    assert_eq!(encoded("identity", whole).send(&bench.proxy).await.status, 200);
}

#[tokio::test]
async fn invalid_encodings_are_rejected() {
    let bench = Bench::new().await;
    for encoding in ENCODINGS {
        let body = encode(encoding, chat().to_string().as_bytes()).await;
        let half = body[..body.len() / 2].to_vec();
        for broken in [half, vec![0xff; 100], Vec::new()] {
            let (status, error) = refused(&bench, encoded(encoding, broken)).await;
            assert_eq!((status, error["type"].as_str()), (400, Some("invalid_request_error")), "{encoding}: {error}");
        }
    }
    for unknown in ["compress", "gzip, br", "GZIP2", ""] {
        let (status, error) = refused(&bench, Ask::raw(PATH, "{").header("content-encoding", unknown)).await;
        let expected = if unknown.is_empty() { (400, None) } else { (415, Some("unsupported_content_encoding")) };
        assert_eq!((status, error["code"].as_str()), expected, "{unknown}");
    }
    assert_eq!(bench.request_count(), 0);
}

fn assert_too_large(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 413, "{what}: {}", answer.text());
    assert_eq!(answer.error()["code"], "request_too_large", "{what}");
}

#[tokio::test]
async fn the_limit_applies_to_the_decoded_body() {
    let bench = Bench::answering(|launch| launch.setting("limits.body", "64KiB")).await;
    let request = |size: usize| {
        let empty = with(chat(), "user", json!("")).to_string();
        with(chat(), "user", json!("x".repeat(size - empty.len()))).to_string().into_bytes()
    };
    for ask in [Ask::raw(PATH, request(LIMIT_BYTES)), Ask::raw(PATH, request(LIMIT_BYTES)).chunked()] {
        assert_eq!(ask.send(&bench.proxy).await.status, 200, "the limit itself is allowed");
    }
    for size in [LIMIT_BYTES + 1, 5_000_000] {
        assert_too_large(&Ask::raw(PATH, request(size)).send(&bench.proxy).await, "counted");
        assert_too_large(&Ask::raw(PATH, request(size)).chunked().send(&bench.proxy).await, "chunked");
    }
    for encoding in ENCODINGS {
        let bomb = encode(encoding, &request(5_000_000)).await;
        assert!(bomb.len() < LIMIT_BYTES, "{encoding}");
        assert_too_large(&encoded(encoding, bomb).send(&bench.proxy).await, encoding);
        let body = encode(encoding, &request(LIMIT_BYTES)).await;
        assert_eq!(encoded(encoding, body).send(&bench.proxy).await.status, 200, "{encoding}");
    }
    assert_eq!(bench.request_count(), 2 + ENCODINGS.len());
}

#[tokio::test]
async fn a_client_rejected_while_sending_gets_the_response() {
    let bench = Bench::answering(|launch| launch.setting("api_keys", "sk-1").setting("limits.body", "1MiB")).await;
    let long = with(chat(), "user", json!("x".repeat(8_000_000)));
    let (stranger, other) = (Ask::chat(&long), Ask::chat(&long).header("api-key", "sk-1"));
    for (ask, status) in [
        (stranger.clone(), 401),
        (stranger.chunked(), 401),
        (other.clone(), 413),
        (other.clone().chunked(), 413),
        (other.header("content-encoding", "compress"), 415),
    ] {
        // Like most programs, it reads the response only after it has sent everything.
        let answer = ask.fire(&bench.proxy).await.open().await.rest().await;
        assert_eq!(answer.status, status);
        answer.error();
    }
}
