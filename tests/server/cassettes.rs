//! Cassettes contain nothing private, and replay the recorded responses.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::fake::{FakeUpstream, Script};
use crate::proxy::{Launch, TestProxy};
use crate::wire::Ask;
use crate::{BEGUN, Bench, COMPLETED, CREATED, SECOND, WHOLE, begun, chat, signed_in, streaming, with};

const CALL: [&str; 4] = [
    r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","id":"fc_Private1","call_id":"call_Private1","name":"private_tool","arguments":""}}"#,
    r#"{"type":"response.function_call_arguments.delta","output_index":0,"item_id":"fc_Private1","delta":"{\"private\": tr"}"#,
    r#"{"type":"response.function_call_arguments.delta","output_index":0,"item_id":"fc_Private1","delta":"ue}"}"#,
    r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","id":"fc_Private1","call_id":"call_Private1","name":"private_tool","arguments":"{\"private\": true}"}}"#,
];

pub(crate) fn recording(launch: Launch, folder: &Path) -> Launch {
    launch.argument("--record").argument(folder.to_str().unwrap())
}

pub(crate) fn replaying(folder: &Path) -> Launch {
    Launch::new().argument("--replay").argument(folder.to_str().unwrap())
}

pub(crate) async fn stop(proxy: &mut TestProxy) {
    proxy.signal("TERM");
    assert_eq!(proxy.ended().await, Some(0), "{}", proxy.log());
}

/// The files, oldest first.
pub(crate) fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The cassettes, oldest first; each line is a JSON value.
pub(crate) fn cassettes(folder: &Path) -> Vec<Vec<Value>> {
    let lines = |path| std::fs::read_to_string(path).unwrap();
    let values = |text: String| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    paths(folder).into_iter().map(lines).map(values).collect()
}

#[tokio::test]
async fn recorded_responses_are_replayed_without_a_backend() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::with(|launch| recording(launch, folder.path())).await;
    bench.upstream.on("/responses", Script::events(&[&[CREATED][..], &CALL, &[COMPLETED]].concat()));
    let live = Ask::chat(&streaming()).send(&bench.proxy).await;
    stop(&mut bench.proxy).await;
    drop(bench);
    let proxy = replaying(folder.path()).start();
    let again = Ask::chat(&streaming()).send(&proxy).await;
    assert_eq!((live.status, again.status), (200, 200), "{}", again.text());
    assert_eq!(again.frames().len(), live.frames().len());
    let called = |answer: &crate::wire::Answer| -> String {
        let pieces = answer.frames().into_iter();
        pieces
            .filter_map(|f| {
                f["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(str::to_owned)
            })
            .collect()
    };
    assert_eq!((called(&live).as_str(), called(&again).as_str()), (r#"{"private": true}"#, r#"{"xxxxxxx": true}"#));
    // The same response again, because it was recorded only once.
    assert_eq!(Ask::chat(&streaming()).send(&proxy).await.status, 200);
}

#[tokio::test]
async fn a_replay_sends_no_requests_of_other_endpoints() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::answering(|launch| recording(launch, folder.path())).await;
    Ask::chat(&chat()).send(&bench.proxy).await;
    stop(&mut bench.proxy).await;
    let proxy = replaying(folder.path()).setting("upstream.url", &bench.upstream.url()).start();
    let answer = Ask::post("/v1/images/generations", &json!({"prompt": "a red fox"})).send(&proxy).await;
    assert_eq!((answer.status, answer.error()["code"].as_str()), (400, Some("no_cassette")));
    assert_eq!(bench.upstream.requests("/images/generations").len(), 0);
}

#[tokio::test]
async fn a_replay_is_no_slower_than_the_backend() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::answering(|launch| recording(launch, folder.path())).await;
    Ask::chat(&chat()).send(&bench.proxy).await;
    stop(&mut bench.proxy).await;
    let path = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let late = |line: &Value| {
        let mut line = line.clone();
        for part in ["answer", "event", "end"] {
            if let Some(after) = line.get_mut(part).and_then(|part| part.get_mut("after_ms")) {
                *after = json!(u64::MAX);
            }
        }
        format!("{line}\n")
    };
    std::fs::write(path, cassettes(folder.path())[0].iter().map(late).collect::<String>()).unwrap();
    let proxy = replaying(folder.path()).setting("upstream.first_event_timeout", "200ms").start();
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 504);
}

#[tokio::test]
async fn a_replay_is_marked_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::answering(|launch| recording(launch, folder.path())).await;
    let live = Ask::chat(&chat()).send(&bench.proxy).await;
    assert!(!live.headers.contains_key("x-proxy-replay"));
    assert!(bench.proxy.log().contains("recording: "), "{}", bench.proxy.log());
    stop(&mut bench.proxy).await;
    let proxy = replaying(folder.path()).start();
    for ask in [Ask::chat(&chat()), Ask::get("/health"), Ask::get("/nothing")] {
        assert_eq!(ask.send(&proxy).await.header("x-proxy-replay"), "true");
    }
    let health = Ask::get("/health").send(&proxy).await.json();
    assert_eq!((&health["replay"], &health["demo"]), (&json!(true), &json!(false)));
    let log = proxy.log();
    assert!(log.lines().any(|line| line.contains("is ready") && line.contains("replays")), "{log}");
    assert!(log.contains("no model and no account"), "{log}");
}

#[tokio::test]
async fn a_request_that_was_not_recorded_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::answering(|launch| recording(launch, folder.path())).await;
    assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 200);
    stop(&mut bench.proxy).await;
    let proxy = replaying(folder.path()).start();
    let other = with(chat(), "messages", json!([{"role": "user", "content": "something longer"}]));
    let answer = Ask::chat(&other).send(&proxy).await;
    assert_eq!((answer.status, &answer.error()["code"]), (400, &json!("no_cassette")), "{}", answer.text());
    // Different text of the same length is the same request.
    let alike = with(chat(), "messages", json!([{"role": "user", "content": "ho"}]));
    assert_eq!(Ask::chat(&alike).send(&proxy).await.status, 200);
}

#[tokio::test]
async fn failures_are_replayed_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let setting = |launch: Launch| launch.setting("upstream.max_retries", "0");
    let mut bench = Bench::with(|launch| setting(recording(launch, folder.path()))).await;
    let refusal = r#"{"error":{"code":"context_length_exceeded","message":"private words"}}"#;
    let limit = r#"{"error":{"type":"usage_limit_reached","message":"private","resets_in_seconds":60}}"#;
    for script in [Script::json(400, refusal), begun(&BEGUN).cut(), Script::json(429, limit), Script::events(&WHOLE)] {
        bench.upstream.on("/responses", script);
    }
    let mut live = Vec::new();
    for _ in 0..3 {
        live.push(Ask::chat(&chat()).send(&bench.proxy).await.status);
    }
    stop(&mut bench.proxy).await;
    let proxy = setting(replaying(folder.path())).start();
    let mut again = Vec::new();
    for _ in 0..3 {
        again.push(Ask::chat(&chat()).send(&proxy).await.status);
    }
    assert_eq!((&live, live[0], live[2]), (&again, 400, 429));
}

#[tokio::test]
async fn a_cassette_has_the_documented_format() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::answering(|launch| recording(launch, folder.path())).await;
    assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 200);
    stop(&mut bench.proxy).await;
    let [lines] = &cassettes(folder.path())[..] else { panic!("not one cassette") };
    let head = &lines[0]["cassette"];
    assert_eq!(head["schema"], 1);
    assert_eq!((&head["request"]["method"], &head["request"]["path"]), (&json!("POST"), &json!("/responses")));
    assert_eq!(head["request"]["headers"]["content-type"], "application/json");
    assert_eq!(head["request"]["body"]["json"]["model"], "gpt-5.5");
    assert_eq!(lines[1]["answer"]["status"], 200);
    assert_eq!(lines[4]["event"]["data"]["json"]["delta"], "xxééx 👋");
    assert_eq!((lines.len(), &lines[6]["end"]["how"]), (7, &json!("whole")));
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cassettes.md")).unwrap();
    for member in members(lines) {
        assert!(text.contains(&format!("`{member}`")), "{member}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

/// All members of the format itself, without recorded content.
fn members(lines: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for line in lines {
        let (kind, content) = line.as_object().unwrap().iter().next().unwrap();
        found.push(kind.clone());
        found.extend(content.as_object().unwrap().keys().cloned());
        found.extend(content["request"].as_object().iter().flat_map(|request| request.keys().cloned()));
    }
    found
}

#[tokio::test]
async fn a_stream_abandoned_by_its_client_is_recorded_as_abandoned() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start().await;
    let mut proxy = recording(signed_in(&upstream), folder.path()).start();
    upstream.on("/responses", begun(&BEGUN).hang());
    let sent = Ask::chat(&streaming()).fire(&proxy).await;
    upstream.received("/responses", 1).await;
    drop(sent);
    assert!(upstream.hung_up(1, 5 * SECOND).await);
    stop(&mut proxy).await;
    let [lines] = &cassettes(folder.path())[..] else { panic!("not one cassette") };
    assert_eq!(lines.last().unwrap()["end"]["how"], "left");
}

#[tokio::test]
async fn an_empty_directory_cannot_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let output = replaying(folder.path()).run();
    let talk = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(talk.contains("contains no cassettes"), "{talk}");
}
