//! The Images API: requests in OpenAI's form become those of the official client, one for each image.

mod failures;

use serde_json::{Value, json};

use crate::fake::{Gate, Script};
use crate::limits::becomes;
use crate::uploads::{Part, form, text};
use crate::wire::{Answer, Ask};
use crate::{Bench, SECOND};

const GENERATIONS: &str = "/images/generations";
const EDITS: &str = "/images/edits";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\xff--X\r\n";

fn edit(parts: &[Part<'_>]) -> Ask {
    let own = [("image", Some("fox.png"), "image/png", PNG), text("prompt", "bluer")];
    form("/v1/images/edits", &[&own, parts].concat())
}

fn generation(members: &Value) -> Ask {
    let mut body = json!({"prompt": "a red fox"});
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    Ask::post("/v1/images/generations", &body)
}

/// A reply of the backend, with a member that this release doesn't know.
fn reply(image: &str) -> String {
    format!(
        r#"{{"created":17,"new":[1.0],"data":[{{"b64_json":"{image}"}}],"background":"opaque","output_format":"png","quality":"low","size":"8x8","usage":{{"input_tokens":3,"input_tokens_details":{{"image_tokens":0,"text_tokens":3}},"output_tokens":20,"total_tokens":23}}}}"#
    )
}

fn generated(image: &str) -> Script {
    let (body, kind, limit) = (reply(image), "application/json", "codex");
    let length = body.len().to_string();
    let headers = [("content-type", kind), ("content-length", &*length), ("x-codex-active-limit", limit)];
    Script::answer(200, &headers, &body)
}

fn failed(status: u16, code: &str) -> Script {
    Script::json(status, &json!({"error": {"message": "No.", "type": null, "param": null, "code": code}}).to_string())
}

async fn serving(change: impl FnOnce(crate::Launch) -> crate::Launch) -> Bench {
    let bench = Bench::with(change).await;
    bench.upstream.on(GENERATIONS, generated("AAAA"));
    bench.upstream.on(EDITS, generated("BBBB"));
    bench
}

/// Limits that two images of 800,000 bytes exceed.
fn small_memory(launch: crate::Launch) -> crate::Launch {
    launch.setting("limits.body", "1MiB").setting("limits.memory", "1MiB")
}

impl Bench {
    fn call_count(&self) -> usize {
        self.upstream.requests(GENERATIONS).len() + self.upstream.requests(EDITS).len()
    }
}

/// The events of a stream, each with its name, without keepalives.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    let blocks = answer.text().split_terminator("\n\n").filter(|block| !block.starts_with(':'));
    let event = |block: &str| {
        let (name, data) = block.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        (name.to_owned(), serde_json::from_str(data).unwrap())
    };
    blocks.map(event).collect()
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.error()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_request_equals_that_of_the_official_client() {
    let bench = serving(|launch| launch.setting("upstream.client_version", "0.171.0")).await;
    let ask = generation(&json!({"background": "opaque", "n": 1, "model": "gpt-image-2", "user": "u"}));
    let answer = ask.header("authorization", "Bearer any").header("x-private", "1").send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, ""), "{}", answer.text());
    let sent = bench.upstream.requests(GENERATIONS).remove(0);
    let body = r#"{"prompt":"a red fox","background":"opaque","model":"gpt-image-2","quality":"auto","size":"auto"}"#;
    assert_eq!(String::from_utf8(sent.body.clone()).unwrap(), body);
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/backend-api/codex/images/generations"));
    for (name, value) in [
        ("version", "0.171.0"),
        ("authorization", "Bearer at_secret"),
        ("chatgpt-account-id", "acct-1"),
        ("content-type", "application/json"),
        ("originator", "codex_proxy"),
        ("accept", "*/*"),
        ("x-private", ""),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_document_has_the_values_of_the_backend() {
    let bench = serving(|launch| launch).await;
    let wanted = json!({"size": "1024x1536", "quality": "hd", "response_format": "url", "output_format": "webp", "style": "vivid", "model": "dall-e-3"});
    let answer = generation(&wanted).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.text()), (200, &*reply("AAAA")));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("content-length"), reply("AAAA").len().to_string());
    assert_eq!(answer.header("x-codex-active-limit"), "codex");
    let warnings = "clamped:quality, clamped:response_format, ignored:output_format, ignored:style, clamped:model";
    let mut noted: Vec<_> = answer.header("x-proxy-warnings").split(", ").collect();
    let mut expected: Vec<_> = warnings.split(", ").collect();
    noted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(noted, expected);
    let sent = bench.upstream.requests(GENERATIONS).remove(0).json();
    assert_eq!([&sent["size"], &sent["quality"], &sent["model"]], ["1024x1536", "high", "gpt-image-2"]);
}

#[tokio::test]
async fn every_spelling_of_the_paths_is_served() {
    let bench = serving(|launch| launch.setting("images.model", "gpt-image-9")).await;
    for prefix in ["/v1", "", "/openai/v1", "/openai", "/backend-api/codex", "/openai/deployments/dall-e-3"] {
        let edit = json!({"prompt": "x", "images": [{"image_url": "data:image/png;base64,QUJD"}]});
        for (operation, body) in [(GENERATIONS, json!({"prompt": "x"})), (EDITS, edit)] {
            let path = format!("{prefix}{operation}?api-version=2025-04-01-preview");
            let answer = Ask::post(&path, &body).send(&bench.proxy).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(bench.upstream.requests(operation).pop().unwrap().json()["model"], "gpt-image-9");
        }
    }
    let answer = Ask::post("/v1/images/variations", &json!({})).send(&bench.proxy).await;
    assert_eq!(code(&answer), (501, "unsupported_endpoint".to_owned()));
    let answer = Ask::get("/v1/images/edits").send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn the_deployment_in_the_path_is_the_default_model() {
    let bench = serving(|launch| launch).await;
    for (deployment, body, warnings) in [
        ("gpt-image-2", json!({}), ""),
        ("gpt-image-1", json!({}), "clamped:model"),
        ("my-images", json!({}), "clamped:model"),
        ("my-images", json!({"model": "my-images"}), "clamped:model"),
        ("my-images", json!({"model": "gpt-image-2"}), ""),
        ("dall-e-3", json!({}), "clamped:response_format, clamped:model"),
        ("dall-e-3", json!({"response_format": "b64_json"}), "clamped:model"),
    ] {
        let mut request = body.clone();
        request["prompt"] = json!("x");
        let path = format!("/openai/deployments/{deployment}/images/generations");
        let answer = Ask::post(&path, &request).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, warnings), "{deployment} {body}");
    }
    let answer = generation(&json!({"model": "dall-e-3"})).send(&bench.proxy).await;
    assert_eq!(answer.header("x-proxy-warnings"), "clamped:response_format, clamped:model", "its default is a URL");
    let answer = generation(&json!({"model": "x".repeat(1_000_000)})).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.error()["param"].as_str()), (400, Some("model")));
    assert!(answer.text().len() < 1000, "the error has an excerpt of the name");
}

#[tokio::test]
async fn several_images_are_generated_at_the_same_time_and_joined() {
    let bench = Bench::new().await;
    let gate = Gate::default();
    for image in ["AAAA", "BBBB", "CCCC"] {
        bench.upstream.on(GENERATIONS, Script::default().gate(&gate).chained(generated(image)));
    }
    let sent = generation(&json!({"n": 3})).fire(&bench.proxy).await;
    bench.upstream.received(GENERATIONS, 3).await;
    (0..3).for_each(|_| gate.open());
    let answer = sent.open().await.rest().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut images: Vec<_> =
        answer.json()["data"].as_array().unwrap().iter().map(|data| data["b64_json"].to_string()).collect();
    // They are in the order in which they were completed.
    images.sort();
    assert_eq!(images, [r#""AAAA""#, r#""BBBB""#, r#""CCCC""#]);
    let usage = json!({"input_tokens": 9, "input_tokens_details": {"image_tokens": 0, "text_tokens": 9}, "output_tokens": 60, "total_tokens": 69});
    assert_eq!((&answer.json()["usage"], &answer.json()["new"]), (&usage, &json!([1.0])));
    let totals = Ask::get("/usage?since=today").send(&bench.proxy).await.json()["totals"]["sum"].clone();
    assert_eq!([&totals["requests"], &totals["input_tokens"], &totals["output_tokens"]], [1, 9, 60]);
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
}

#[tokio::test]
async fn invalid_requests_are_refused_by_name_without_a_call() {
    let bench = serving(|launch| launch).await;
    for (ask, param) in [
        (generation(&json!({"n": 5})), "n"),
        (generation(&json!({"prompt": ""})), "prompt"),
        (generation(&json!({"model": "gpt-5.5"})), "model"),
        (generation(&json!({"mask": "x"})), "mask"),
        (generation(&json!({"image": "data:image/png;base64,QUJD"})), "image"),
        (generation(&json!({"images": [{"image_url": "data:image/png;base64,QUJD"}]})), "images"),
        (Ask::post("/v1/images/edits", &json!({"prompt": "x", "image": "data:image/png;base64,QUJD"})), "image"),
        (edit(&[("image[]", Some("b.png"), "image/png", PNG); 16]), "image"),
        (edit(&[("mask", Some("m.png"), "image/png", PNG)]), "mask"),
        (edit(&[("image", Some("a.gif"), "image/gif", b"GIF89a")]), "image"),
        (edit(&[text("n", "9")]), "n"),
        (form("/v1/images/edits", &[text("prompt", "x")]), "image"),
        (Ask::post("/v1/images/edits", &json!({"prompt": "x"})), "images"),
    ] {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!((answer.status, answer.error()["param"].as_str()), (400, Some(param)), "{}", answer.text());
    }
    let answer = generation(&json!({"image": "x"})).send(&bench.proxy).await;
    assert!(answer.text().contains("/v1/images/edits"), "{}", answer.text());
    let torn = edit(&[]).header("content-type", "multipart/form-data; boundary=other").send(&bench.proxy).await;
    assert_eq!(torn.status, 400, "{}", torn.text());
    let broken = Ask::raw("/v1/images/generations", "{").send(&bench.proxy).await;
    assert_eq!(broken.status, 400, "{}", broken.text());
    assert_eq!(bench.call_count(), 0);
}

#[tokio::test]
async fn an_edit_sends_its_files_as_data_urls() {
    let bench = serving(|launch| launch).await;
    let parts = [
        ("image[]", Some("a.png"), "image/png", PNG),
        ("image[]", Some("b"), "application/octet-stream", &b"\xff\xd8\xff\xe0"[..]),
        text("prompt", "both, \"larger\" \\ud83d"),
        text("size", "1024x1024"),
        text("input_fidelity", "high"),
    ];
    let answer = form("/v1/images/edits", &parts).send(&bench.proxy).await;
    assert_eq!(
        (answer.status, answer.json()["data"][0]["b64_json"].as_str()),
        (200, Some("BBBB")),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("x-proxy-warnings"), "ignored:input_fidelity");
    let sent = bench.upstream.requests(EDITS).remove(0);
    assert_eq!(sent.header("content-type"), "application/json");
    let images = ["data:image/png;base64,iVBORw0KGgoA/y0tWA0K", "data:image/jpeg;base64,/9j/4A=="];
    let images = images.map(|url| json!({"image_url": url}));
    let expected = json!({"prompt": "both, \"larger\" \\ud83d", "background": "auto", "model": "gpt-image-2", "quality": "auto", "size": "1024x1024", "images": images});
    assert_eq!(sent.json(), expected);
    let compressed = edit(&[]).header("content-encoding", "gzip");
    let body = crate::input::encode("gzip", compressed.content()).await;
    let answer = compressed.with_content(body).send(&bench.proxy).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_client_that_disconnects_cancels_every_call() {
    let bench = Bench::with(|launch| launch.setting("timing.keepalive", "200ms")).await;
    bench.upstream.on(GENERATIONS, Script::silence());
    let sent = generation(&json!({"n": 2})).fire(&bench.proxy).await;
    bench.upstream.received(GENERATIONS, 2).await;
    drop(sent);
    assert!(bench.upstream.hung_up(2, 5 * SECOND).await);
    let mut open = generation(&json!({"n": 2, "stream": true})).open(&bench.proxy).await;
    open.until(": keepalive").await;
    drop(open);
    assert!(bench.upstream.hung_up(4, 5 * SECOND).await);
    bench.proxy.says_times("client_left", 2, 5 * SECOND).await;
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
}

#[tokio::test]
async fn a_stream_has_an_event_for_each_image() {
    let bench = serving(|launch| launch).await;
    for (ask, kind, image) in [
        (generation(&json!({"stream": true, "n": 2, "partial_images": 2})), "image_generation.completed", "AAAA"),
        (edit(&[text("stream", "true"), text("n", "2"), text("partial_images", "2")]), "image_edit.completed", "BBBB"),
    ] {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.header("content-type").starts_with("text/event-stream"), "{:?}", answer.headers);
        assert_eq!(answer.header("x-proxy-warnings"), "ignored:partial_images");
        let usage = json!({"input_tokens": 3, "input_tokens_details": {"image_tokens": 0, "text_tokens": 3}, "output_tokens": 20, "total_tokens": 23});
        let event = json!({"type": kind, "b64_json": image, "background": "opaque", "created_at": 17, "output_format": "png", "quality": "low", "size": "8x8", "usage": usage});
        assert_eq!(events(&answer), vec![(kind.to_owned(), event); 2]);
    }
    let totals = Ask::get("/usage?since=today").send(&bench.proxy).await.json()["totals"]["sum"].clone();
    assert_eq!([&totals["requests"], &totals["output_tokens"]], [2, 80]);
}

#[tokio::test]
async fn a_stream_stays_open_while_an_image_is_generated_and_reports_its_failure() {
    let bench = Bench::with(|launch| launch.setting("timing.keepalive", "200ms")).await;
    let gate = Gate::default();
    bench.upstream.on(GENERATIONS, generated("AAAA"));
    bench.upstream.on(GENERATIONS, Script::default().gate(&gate).chained(failed(400, "moderation_blocked")));
    let mut open = generation(&json!({"stream": true, "n": 2})).open(&bench.proxy).await;
    open.until(": keepalive").await;
    gate.open();
    let answer = open.rest().await;
    assert_eq!(answer.status, 200);
    let events = events(&answer);
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["image_generation.completed", "error"], "{}", answer.text());
    assert_eq!(events[1].1["error"]["code"], "moderation_blocked");
}

#[tokio::test]
async fn an_image_counts_against_the_memory() {
    let bench = Bench::with(|launch| small_memory(launch).setting("upstream.idle_timeout", "1s")).await;
    bench.upstream.on(GENERATIONS, generated(&"A".repeat(800_000)));
    let answer = generation(&json!({"n": 2})).send(&bench.proxy).await;
    assert_eq!(code(&answer), (503, "memory_limit_reached".to_owned()));
    let retry = (answer.header("x-should-retry"), answer.header("retry-after"));
    assert_eq!(retry, ("false", ""), "further images would be billed");
    let large = Ask::raw("/v1/images/generations", vec![b' '; (1 << 20) + 1]).send(&bench.proxy).await;
    assert_eq!(code(&large), (413, "request_too_large".to_owned()));
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
    bench.upstream.replace(EDITS, generated("BBBB"));
    let longest = edit(&[("image[]", Some("b.png"), "image/png", &[PNG, &vec![0; 1_000_000]].concat())]);
    assert_eq!(longest.send(&bench.proxy).await.status, 200, "a body of the largest size fits");
}

#[tokio::test]
async fn an_image_waits_until_another_one_is_sent_and_its_memory_is_released() {
    let bench = Bench::with(small_memory).await;
    bench.upstream.on(GENERATIONS, generated(&"A".repeat(800_000)));
    let answer = generation(&json!({"n": 2, "stream": true})).send(&bench.proxy).await;
    let names: Vec<_> = events(&answer).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["image_generation.completed"; 2]);
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
}

#[tokio::test]
async fn the_announced_size_of_an_image_is_reserved() {
    let bench = Bench::new().await;
    bench.upstream.on(GENERATIONS, Script::stream(&[("content-length", "18000000")]).chunk("{").hang());
    let _sent = generation(&json!({})).fire(&bench.proxy).await;
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 18_000_000).await;
}

#[tokio::test]
async fn a_codex_client_s_request_is_relayed_unread() {
    let bench = serving(|launch| launch).await;
    let body = r#"{ "prompt":"", "n":9, "new":{"a":1.0} }"#;
    for operation in [GENERATIONS, EDITS] {
        let ask = Ask::raw(&format!("/v1{operation}"), body).header("user-agent", "codex_cli_rs/0.171.0");
        let answer = ask.send(&bench.proxy).await;
        assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, ""), "{}", answer.text());
        assert_eq!(bench.upstream.requests(operation).remove(0).body, body.as_bytes());
    }
}

#[tokio::test]
async fn a_stream_that_outlasts_the_drain_is_cut_with_an_error() {
    let mut bench =
        Bench::with(|launch| launch.setting("timing.drain", "100ms").setting("timing.keepalive", "200ms")).await;
    bench.upstream.on(GENERATIONS, Script::silence());
    let mut open = generation(&json!({"stream": true})).open(&bench.proxy).await;
    open.until(": keepalive").await;
    bench.proxy.signal("TERM");
    let events = events(&open.rest().await);
    assert_eq!((events.len(), &events[0].1["error"]["code"]), (1, &json!("shutting_down")));
    assert_eq!(bench.proxy.ended().await, Some(0));
}
