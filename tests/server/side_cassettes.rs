//! Cassettes of calls to other endpoints than `/responses`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use codex_proxy::upstream::cassette::read_redacted;
use serde_json::{Value, json};

use crate::Bench;
use crate::cassettes::{cassettes, paths, recording, replaying, stop};
use crate::fake::Script;
use crate::proxy::TestProxy;
use crate::uploads::form;
use crate::wire::Ask;

/// Part of every private text.
const MARK: &str = "canary";

fn search() -> Value {
    json!({"id": "s-1", "model": "gpt-5.5", "commands": {"search_query": [{"q": "canary of Bob"}]}, "settings": {}})
}

/// An image of 60 KB in base64.
fn image() -> String {
    STANDARD.encode(MARK.repeat(10_000))
}

fn edit(image: &str) -> Ask {
    let url = format!("data:image/png;base64,{image}");
    Ask::post("/v1/images/edits", &json!({"prompt": "canary in red", "images": [{"image_url": url}]}))
}

fn transcription(audio: &[u8]) -> Ask {
    let parts = [("file", Some("canary.wav"), "audio/wav", audio), ("model", None, "", b"whisper-1")];
    form("/v1/audio/transcriptions", &parts)
}

/// Whether a response with status 200 is complete; the connection closes after one that isn't.
async fn is_complete(ask: Ask, proxy: &TestProxy) -> bool {
    let mut open = ask.open(proxy).await;
    assert_eq!(open.status, 200);
    while open.sip(1024).await > 0 {}
    open.taken().1
}

/// Records calls of all kinds.
async fn recorded(directory: &Path) {
    let mut bench = Bench::with(|launch| recording(launch, directory)).await;
    let page = "<html>canary</html>";
    let image = json!({"created": 1, "data": [{"b64_json": image()}], "size": "8x8"}).to_string();
    for (path, script) in [
        ("/alpha/search", Script::json(200, r#"{"output":"Canary found","results":["Canary"]}"#)),
        ("/alpha/search", Script::answer(403, &[("content-type", "text/html")], page)),
        ("/alpha/search", Script::stream(&[]).chunk(r#"{"output":"canary"#).cut()),
        ("/images/edits", Script::json(200, &image)),
        ("/alpha/notes/v2/canary_1234567", Script::json(200, r#"{"note":"canary"}"#)),
        ("/backend-api/transcribe", Script::json(200, r#"{"text":"Canary said hi."}"#)),
        ("/backend-api/wham/usage", Script::json(200, r#"{"email":"canary@example.com","plan_type":"plus"}"#)),
    ] {
        bench.upstream.on(path, script);
    }
    for (ask, status) in [
        (Ask::post("/v1/alpha/search", &search()), 200),
        (Ask::post("/v1/alpha/search", &search()), 502),
        (edit(&self::image()), 200),
        (Ask::post("/v1/alpha/notes/v2/canary_1234567?q=canary", &json!({"summary": MARK, "text": "my canary"})), 200),
        (transcription(&MARK.as_bytes().repeat(1000)), 200),
        (Ask::get("/backend-api/wham/usage"), 200),
    ] {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    assert!(!is_complete(Ask::post("/v1/alpha/search", &search()), &bench.proxy).await);
    stop(&mut bench.proxy).await;
}

#[tokio::test]
async fn recorded_calls_contain_nothing_private_and_no_files() {
    let directory = tempfile::tempdir().unwrap();
    recorded(directory.path()).await;
    let files = cassettes(directory.path());
    let request = |file: &[Value]| {
        let request = &file[0]["cassette"]["request"];
        format!("{} {}", request["method"].as_str().unwrap(), request["path"].as_str().unwrap())
    };
    let requests: Vec<_> = files.iter().map(|file| request(file)).collect();
    assert_eq!(
        requests,
        [
            "POST /alpha/search",
            "POST /alpha/search",
            "POST /images/edits",
            "POST /alpha/notes/v2/xxxxxx_1111111",
            "POST /transcribe",
            "GET /wham/usage",
            "POST /alpha/search",
        ]
    );
    let hows: Vec<_> = files.iter().map(|file| file.last().unwrap()["end"]["how"].as_str().unwrap()).collect();
    assert_eq!(hows, ["whole", "refused", "whole", "whole", "whole", "whole", "cut"]);
    for file in &files {
        let text = json!(file).to_string();
        assert!(!text.to_lowercase().contains(MARK) && text.len() < 4096, "{text}");
        assert_eq!(file[0]["cassette"]["schema"], 2);
    }
    for (path, file) in paths(directory.path()).iter().zip(&files) {
        let again: Vec<Value> =
            read_redacted(path).unwrap().iter().map(|line| serde_json::from_str(line.get()).unwrap()).collect();
        assert_eq!(again[0]["cassette"]["request"], file[0]["cassette"]["request"]);
        assert_eq!(again[1..], file[1..], "a second redaction changes nothing");
    }
    assert!(!json!(files).to_string().contains(&STANDARD.encode(MARK)), "a file in base64");
    let body = |file: usize| (&files[file][0]["cassette"]["request"]["body"], &files[file][1]["answer"]["body"]);
    assert_eq!(body(0).0["json"]["commands"]["search_query"][0]["q"], "xxxxxx xx xxx");
    assert_eq!(body(0).1["json"]["output"], "xxxxxx xxxxx");
    assert_eq!(body(1).1["text"], "<xxxx>xxxxxx</xxxx>");
    assert_eq!(body(3).0["json"], json!({"summary": "xxxxxx", "text": "xx xxxxxx"}));
    assert!(body(4).0["size_bytes"].as_u64().unwrap() > 6000, "{:?}", body(4));
    assert_eq!(body(5).1["json"]["plan_type"], "plus");
}

#[tokio::test]
async fn recorded_calls_are_replayed_without_a_backend() {
    let directory = tempfile::tempdir().unwrap();
    recorded(directory.path()).await;
    let proxy = replaying(directory.path()).start();
    // Other texts and images of the same shape are the same request.
    let alike = search().to_string().replace("Bob", "Ada");
    let found = Ask::raw("/v1/alpha/search", alike).send(&proxy).await;
    assert_eq!((found.status, found.json()["output"].as_str()), (200, Some("xxxxxx xxxxx")), "{}", found.text());
    assert_eq!(found.header("x-proxy-replay"), "true");
    let refused = Ask::post("/v1/alpha/search", &search()).send(&proxy).await;
    assert_eq!((refused.status, &refused.error()["code"]), (502, &json!("cloudflare_challenge")), "{}", refused.text());
    assert!(!is_complete(Ask::post("/v1/alpha/search", &search()), &proxy).await, "the recorded response was cut");

    let image = edit("AAAA").send(&proxy).await;
    assert_eq!(image.status, 200, "{}", image.text());
    let png = STANDARD.decode(image.json()["data"][0]["b64_json"].as_str().unwrap()).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let text = transcription(&b"quieter".repeat(6000 / 7 + 1)[..6000]).send(&proxy).await;
    assert_eq!((text.status, text.json()["text"].as_str()), (200, Some("xxxxxx xxxx xx.")), "{}", text.text());
    let usage = Ask::get("/backend-api/wham/usage").send(&proxy).await;
    assert_eq!((usage.status, &usage.json()["plan_type"]), (200, &json!("plus")));
}

#[tokio::test]
async fn a_call_that_was_not_recorded_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    recorded(directory.path()).await;
    let proxy = replaying(directory.path()).start();
    for ask in [
        Ask::post("/v1/alpha/search", &json!({"model": "gpt-5.5"})),
        // The same body, for another endpoint.
        Ask::post("/v1/alpha/notes/v2/thread_hint", &search()),
        Ask::get("/backend-api/wham/profiles/me"),
    ] {
        let answer = ask.send(&proxy).await;
        assert_eq!((answer.status, &answer.error()["code"]), (400, &json!("no_cassette")), "{}", answer.text());
        assert!(answer.error()["message"].as_str().unwrap().contains("none of the 7 cassettes"), "{}", answer.text());
    }
}
