//! Failures of image requests: their errors, and which of them are retried and billed.

use serde_json::json;
use tokio::time::timeout;

use super::{GENERATIONS, code, failed, generated, generation, reply};
use crate::fake::{Gate, Script};
use crate::limits::becomes;
use crate::wire::Ask;
use crate::{Bench, SECOND};

#[tokio::test]
async fn failures_of_the_backend_are_errors_in_openai_s_form() {
    let page = "<html><title>Just a moment...</title></html>";
    let usage =
        json!({"error": {"type": "usage_limit_reached", "message": "Used up.", "resets_in_seconds": 900}}).to_string();
    for (script, status, expected) in [
        (failed(403, "not_in_plan"), 403, "not_in_plan"),
        (failed(400, "moderation_blocked"), 400, "moderation_blocked"),
        (failed(400, "content_policy_violation"), 400, "content_policy_violation"),
        (Script::json(429, &usage), 429, "usage_limit_reached"),
        (Script::answer(403, &[("content-type", "text/html")], page), 502, "cloudflare_challenge"),
        (Script::stream(&[]).chunk("{\"data\":[{\"b64_json\":\"AAAA").cut(), 502, "upstream_stream_truncated"),
        (Script::json(200, "{\"data\":[{\"b64_json\":\"AAAA"), 502, "upstream_stream_damaged"),
        (Script::json(200, "{\"data\":[]}"), 502, "upstream_stream_damaged"),
        (Script::silence(), 504, "upstream_timeout"),
        (Script::stream(&[]).chunk("{").hang(), 504, "upstream_timeout"),
    ] {
        // Short only where the test waits for it.
        let limit = if status == 504 { "300ms" } else { "30s" };
        let bench =
            Bench::with(|launch| launch.setting("images.timeout", limit).setting("upstream.idle_timeout", limit)).await;
        bench.upstream.on(GENERATIONS, script);
        for stream in [false, true] {
            let answer = generation(&json!({"stream": stream, "n": 2})).send(&bench.proxy).await;
            assert_eq!(code(&answer), (status, expected.to_owned()), "{}", answer.text());
            assert_eq!(answer.header("x-should-retry"), "false", "a further image would be billed");
        }
        if status == 429 {
            assert!(bench.call_count() <= 2, "the second request isn't sent");
        }
        becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
    }
}

#[tokio::test]
async fn an_image_that_may_have_been_billed_is_not_requested_again() {
    let later = [("content-type", "application/json"), ("retry-after", "30")];
    for (script, expected) in [
        (failed(500, "server_error"), "server_error"),
        (failed(503, "server_is_overloaded"), "server_is_overloaded"),
        (Script::answer(524, &later, "{}"), "server_error"),
        (Script::default().reset(), "upstream_stream_truncated"),
        (Script::default().cut(), "upstream_stream_truncated"),
    ] {
        let bench = Bench::new().await;
        bench.upstream.on(GENERATIONS, script);
        let answer = generation(&json!({})).send(&bench.proxy).await;
        assert_eq!(code(&answer).1, expected, "{}", answer.text());
        assert_eq!((answer.header("x-should-retry"), answer.header("retry-after")), ("false", ""), "{expected}");
        assert_eq!(bench.call_count(), 1, "{expected}");
        let codex = Ask::raw("/v1/images/generations", "{}").header("user-agent", "codex_cli_rs/0.171.0");
        assert!(codex.send(&bench.proxy).await.status >= 500);
        assert_eq!(bench.call_count(), 2, "{expected}");
    }
}

#[tokio::test]
async fn an_image_that_the_backend_has_not_accepted_is_requested_again() {
    for status in [429, 503] {
        let bench = Bench::new().await;
        let headers = [("content-type", "application/json"), ("retry-after", "0")];
        bench.upstream.on(GENERATIONS, Script::answer(status, &headers, r#"{"error":{"message":"Later."}}"#));
        bench.upstream.on(GENERATIONS, generated("AAAA"));
        assert_eq!(generation(&json!({})).send(&bench.proxy).await.status, 200, "{status}");
        assert_eq!(bench.call_count(), 2, "{status}");
    }
}

#[tokio::test]
async fn a_used_up_quota_is_probed_by_a_request_for_several_images() {
    let bench = Bench::with(|launch| launch.setting("timing.quota_probe", "50ms")).await;
    let usage = r#"{"error":{"type":"usage_limit_reached","message":"Used up.","resets_in_seconds":900}}"#;
    bench.upstream.on(GENERATIONS, Script::json(429, usage));
    assert_eq!(generation(&json!({"n": 2})).send(&bench.proxy).await.status, 429);
    bench.upstream.replace(GENERATIONS, generated("AAAA"));
    let served = async {
        loop {
            let answer = generation(&json!({"n": 2})).send(&bench.proxy).await;
            if answer.status != 429 {
                break answer;
            }
        }
    };
    let answer = timeout(10 * SECOND, served).await.expect("a probe finds the quota available again");
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 2, "{}", answer.text());
}

#[tokio::test]
async fn a_failure_of_one_image_fails_the_request_and_cancels_the_others() {
    for stream in [false, true] {
        let bench = Bench::new().await;
        let gate = Gate::default();
        bench.upstream.on(GENERATIONS, Script::silence());
        bench.upstream.on(GENERATIONS, Script::default().gate(&gate).chained(failed(400, "moderation_blocked")));
        let sent = generation(&json!({"n": 2, "stream": stream})).fire(&bench.proxy).await;
        bench.upstream.received(GENERATIONS, 2).await;
        gate.open();
        let answer = sent.open().await.rest().await;
        assert_eq!(code(&answer), (400, "moderation_blocked".to_owned()));
        assert!(bench.upstream.hung_up(1, 5 * SECOND).await, "the other call is cancelled");
    }
}

#[tokio::test]
async fn a_complete_image_is_counted_even_if_another_one_fails() {
    let bench = Bench::new().await;
    let gate = Gate::default();
    bench.upstream.on(GENERATIONS, generated("AAAA"));
    bench.upstream.on(GENERATIONS, Script::default().gate(&gate).chained(failed(400, "moderation_blocked")));
    let sent = generation(&json!({"n": 2})).fire(&bench.proxy).await;
    let call_bytes = bench.upstream.received(GENERATIONS, 2).await[0].body.len();
    let held_bytes = reply("AAAA").len() + call_bytes;
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", held_bytes as u64).await;
    gate.open();
    assert_eq!(sent.open().await.rest().await.status, 400);
    let totals = Ask::get("/usage?since=today").send(&bench.proxy).await.json()["totals"]["sum"].clone();
    assert_eq!([&totals["requests"], &totals["input_tokens"], &totals["output_tokens"]], [1, 3, 20]);
}
