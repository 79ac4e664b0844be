//! Traces reach the configured collector, and contain nothing private.

use serde_json::{Value, json};

use crate::fake::{FakeUpstream, Script};
use crate::proxy::Launch;
use crate::wire::Ask;
use crate::{SECOND, WHOLE, chat, signed_in, streaming, with};

const PATH: &str = "/v1/traces";
const PROMPT: &str = "canary prompt";

/// A daemon that exports traces to `collector` and uses `upstream`.
fn traced(upstream: &FakeUpstream, collector: &FakeUpstream) -> Launch {
    signed_in(upstream).setting("telemetry.otlp_endpoint", &collector.origin()).setting("api_keys", "sk-canary")
}

async fn ask(proxy: &crate::proxy::TestProxy, request: &Value) -> u16 {
    let request = with(request.clone(), "messages", json!([{"role": "user", "content": PROMPT}]));
    Ask::chat(&request).header("authorization", "Bearer sk-canary").send(proxy).await.status
}

/// The received spans, in order.
fn spans(collector: &FakeUpstream) -> Vec<Value> {
    let reported = collector.requests(PATH).into_iter().map(|request| request.json());
    reported
        .flat_map(|reported| reported["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone())
        .collect()
}

/// The value of an attribute of any type.
fn attribute<'s>(span: &'s Value, key: &str) -> &'s Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key).unwrap_or_else(|| panic!("{key}: {span}"));
    found["value"].as_object().unwrap().values().next().unwrap()
}

#[tokio::test]
async fn each_request_is_a_span_without_content() {
    let (upstream, collector) = (FakeUpstream::start().await, FakeUpstream::start().await);
    collector.on(PATH, Script::json(200, "{}"));
    upstream.on("/responses", Script::events(&WHOLE));
    upstream.on("/responses", Script::json(400, r#"{"error":{"code":"invalid_prompt","message":"canary prompt"}}"#));
    let mut proxy = traced(&upstream, &collector).start();
    assert_eq!(ask(&proxy, &streaming()).await, 200);
    assert_eq!(ask(&proxy, &chat()).await, 400);
    // Unsent spans are exported at exit.
    proxy.signal("TERM");
    assert_eq!(proxy.ended().await, Some(0));
    let spans = spans(&collector);
    let [answered, refused] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((&answered["name"], &answered["status"]["code"]), (&json!("request chat"), &json!(1)));
    assert_eq!(attribute(answered, "gen_ai.request.model"), "gpt-5.5");
    assert_eq!(attribute(answered, "gen_ai.usage.input_tokens"), "3");
    assert_eq!(attribute(answered, "codex_proxy.stream"), true);
    assert_eq!(
        (attribute(refused, "http.response.status_code"), &refused["status"]["code"]),
        (&json!("400"), &json!(2))
    );
    assert!(attribute(refused, "error.type").as_str().unwrap().starts_with("upstream_"));
    let nanoseconds = |span: &Value, end: &str| span[end].as_str().unwrap().parse::<u128>().unwrap();
    assert!(nanoseconds(answered, "startTimeUnixNano") <= nanoseconds(answered, "endTimeUnixNano"));
    // The log and the trace use the same request id.
    let trace_id = answered["traceId"].as_str().unwrap();
    assert!(trace_id.len() == 32 && proxy.log().contains(&format!("req_{trace_id}")), "{trace_id}\n{}", proxy.log());
    for request in collector.requests(PATH) {
        let text = String::from_utf8(request.body.clone()).unwrap();
        assert!(!text.contains("canary") && !text.contains("_secret") && !text.contains("acct-1"), "{text}");
        assert!(!request.headers.contains_key("authorization"));
    }
}

#[tokio::test]
async fn spans_are_sent_while_the_daemon_runs() {
    let (upstream, collector) = (FakeUpstream::start().await, FakeUpstream::start().await);
    collector.on(PATH, Script::json(200, "{}"));
    upstream.on("/responses", Script::events(&WHOLE));
    let proxy = traced(&upstream, &collector).start();
    assert_eq!(ask(&proxy, &chat()).await, 200);
    collector.received(PATH, 1).await;
    assert_eq!(spans(&collector).len(), 1);
}

#[tokio::test]
async fn an_unreachable_collector_delays_nothing() {
    let upstream = FakeUpstream::start().await;
    upstream.on("/responses", Script::events(&WHOLE));
    let launch = signed_in(&upstream).setting("telemetry.otlp_endpoint", "http://127.0.0.1:9");
    let proxy = launch.start();
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
    proxy.says("can't send traces", 5 * SECOND).await;
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
}

#[test]
fn a_remote_collector_requires_https() {
    for address in ["http://collector.example:4318", "not an address", "https://me:pass@collector.example"] {
        let output = Launch::new().command(&["config", "check"]).setting("telemetry.otlp_endpoint", address).run();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{address}");
        assert!(stderr.contains("telemetry.otlp_endpoint") && !stderr.contains("pass@"), "{stderr}");
    }
}
