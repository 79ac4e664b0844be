//! Recorded requests of the Codex CLI and Claude Code: nothing is lost, and caches are hit.

use std::collections::BTreeMap;
use std::path::Path;

use codex_proxy::protocol::json::raw_object::RawObject;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::fake::{Recorded, Script};
use crate::wire::{Answer, Ask};
use crate::{Bench, WHOLE};

const LITE: &str = "x-openai-internal-codex-responses-lite";
/// Headers and members that a Codex client reads, and others that must not reach it.
const ANSWER_HEADERS: [(&str, &str); 6] = [
    ("x-codex-primary-used-percent", "12"),
    ("x-codex-turn-state", "opaque"),
    ("openai-model", "gpt-6.2-sol"),
    ("x-models-etag", "W/\"7\""),
    ("x-reasoning-included", "true"),
    ("set-cookie", "a=b"),
];
/// Events that other clients don't receive unchanged.
const LIMITS: &str = r#"{"type":"codex.rate_limits","plan_type":"pro","rate_limits":{ "allowed" : true }}"#;
const LATER: &str = r#"{"type":"response.metadata","sequence_number":9,"headers":{"x-codex-turn-state":"t"}}"#;

type Headers = Vec<(String, String)>;

/// A request of Claude Code; long texts are replaced by a note of their length.
#[derive(Deserialize)]
struct Sent {
    headers: Headers,
    body: Box<RawValue>,
}

fn lines(name: &str) -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/captured").join(name);
    std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

fn ask(path: &str, headers: &Headers, body: &str) -> Ask {
    headers.iter().fold(Ask::raw(path, body), |ask, (name, value)| ask.header(name, value))
}

/// Sends the requests of the Codex CLI; returns the headers and the body of each with the upstream request and
/// the response.
async fn replay_codex() -> Vec<(Headers, String, Recorded, Answer)> {
    let bench = Bench::new().await;
    let script = Script::stream(&ANSWER_HEADERS).event(LIMITS);
    let script = WHOLE[..3].iter().fold(script, |script, event| script.event(event)).event(LATER).event(WHOLE[3]).end();
    bench.upstream.on("/responses", script);
    let mut replayed = Vec::new();
    for (headers, body) in lines("codex-cli-headers.jsonl").iter().zip(lines("codex-cli.jsonl")) {
        let headers: Headers = serde_json::from_str(headers).unwrap();
        let answer = ask("/v1/responses", &headers, &body).send(&bench.proxy).await;
        let left = bench.upstream.requests("/responses").pop().unwrap();
        replayed.push((headers, body, left, answer));
    }
    assert_eq!(replayed.len(), 12);
    replayed
}

#[tokio::test]
async fn bodies_of_the_codex_cli_are_sent_byte_for_byte_in_either_form() {
    for (headers, body, left, answer) in replay_codex().await {
        let left: RawObject<'_> = serde_json::from_slice(&left.body).unwrap();
        let sent = RawObject::parse(&body).unwrap();
        assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, ""));
        for (name, raw) in sent.members() {
            assert_eq!(left.get(name).map(RawValue::get), Some(raw.text()), "{name}");
        }
        let is_lite = headers.iter().any(|(name, _)| name == LITE);
        let added: Vec<&str> =
            left.members().iter().map(|(name, _)| &**name).filter(|name| sent.get(name).is_none()).collect();
        assert_eq!(added, if is_lite { vec![] } else { vec!["instructions"] }, "the backend requires it");
    }
}

#[tokio::test]
async fn headers_of_the_codex_cli_are_forwarded_both_ways() {
    for (headers, _, left, answer) in replay_codex().await {
        for (name, value) in headers.iter().filter(|(name, _)| name != "user-agent") {
            assert_eq!(left.header(name), value, "{name}");
        }
        assert!(!left.header("user-agent").starts_with("codex_exec"), "our user agent is sent");
        for (name, value) in ANSWER_HEADERS {
            assert_eq!(answer.header(name), if name == "set-cookie" { "" } else { value }, "{name}");
        }
        let events = [LIMITS, WHOLE[0], WHOLE[1], WHOLE[2], LATER, WHOLE[3]].map(|event| format!("data: {event}"));
        let reported: Vec<&str> = answer.text().lines().filter(|line| line.starts_with("data: ")).collect();
        assert_eq!(reported, events, "all of them, unchanged");
    }
}

/// The upstream requests of each agent of Claude Code, in order.
async fn replay_claude() -> BTreeMap<String, Vec<Recorded>> {
    let bench = Bench::answering(|launch| launch).await;
    let mut agents: BTreeMap<String, Vec<Recorded>> = BTreeMap::new();
    for line in lines("claude-code.jsonl") {
        let sent: Sent = serde_json::from_str(&line).unwrap();
        let answer = ask("/v1/messages?beta=true", &sent.headers, sent.body.get()).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, ""), "{}", answer.text());
        let agent = sent.headers.iter().find(|(name, _)| name == "x-claude-code-agent-id");
        let agent = agent.map_or("main", |(_, id)| id).to_owned();
        agents.entry(agent).or_default().push(bench.upstream.requests("/responses").pop().unwrap());
    }
    assert_eq!(agents.values().map(Vec::len).collect::<Vec<_>>(), [3, 4], "a sub-agent and the main one");
    agents
}

#[tokio::test]
async fn each_agent_of_claude_code_has_its_own_cache_key() {
    let mut keys = Vec::new();
    for requests in replay_claude().await.into_values() {
        let of_agent: Vec<Value> = requests.iter().map(|request| request.json()["prompt_cache_key"].clone()).collect();
        assert!(of_agent.iter().all(|key| *key == of_agent[0]), "{of_agent:?}");
        assert!(requests.iter().all(|request| request.header("session-id") == of_agent[0]));
        keys.push(of_agent[0].clone());
    }
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn each_turn_of_claude_code_starts_with_the_previous_one() {
    for requests in replay_claude().await.into_values() {
        for pair in requests.windows(2) {
            let (before, after) = (pair[0].json(), pair[1].json());
            assert_eq!((&before["instructions"], &before["tools"]), (&after["instructions"], &after["tools"]));
            assert!(!before["instructions"].as_str().unwrap().contains("x-anthropic-billing-header"));
            let (before, after) = (before["input"].as_array().unwrap(), after["input"].as_array().unwrap());
            assert_eq!(after[..before.len()], before[..], "or the prompt cache is lost");
            assert!(after.iter().any(|item| item["type"] == "reasoning"), "thinking is returned");
        }
    }
}
