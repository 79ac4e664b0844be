//! Unknown events of the backend are skipped and counted.

use serde_json::json;

use crate::fake::Script;
use crate::wire::Ask;
use crate::{ADDED, Bench, COMPLETED, CREATED, DELTA, chat, streaming};

const NEW_EVENT: &str = r#"{"type":"response.dream.started","mood":"private"}"#;
const NEW_MEMBER: &str =
    r#"{"type":"response.output_text.done","output_index":0,"content_index":0,"text":"Grüße 👋","mood":"private"}"#;

#[tokio::test]
async fn unknown_events_are_counted_and_named_without_their_content() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", Script::events(&[CREATED, NEW_EVENT, ADDED, DELTA, NEW_MEMBER, COMPLETED]));
    for request in [chat(), streaming()] {
        assert_eq!(Ask::chat(&request).send(&bench.proxy).await.status, 200);
    }
    let health = Ask::get("/health").send(&bench.proxy).await.json();
    let drift = json!([
        {"what": "event", "name": "response.dream.started", "count": 2},
        {"what": "member", "name": "response.output_text.done:mood", "count": 2},
    ]);
    assert_eq!(health["drift"], drift);
    let metrics = Ask::get("/metrics").send(&bench.proxy).await;
    let line = r#"codex_proxy_drift_total{what="event",name="response.dream.started"} 2"#;
    assert!(metrics.text().contains(line), "{}", metrics.text());
    assert!(!metrics.text().contains("private") && !bench.proxy.log().contains("private"));
}

#[tokio::test]
async fn the_demo_sends_no_unknown_events() {
    let proxy = crate::proxy::Launch::demo().start();
    for request in [chat(), streaming()] {
        assert_eq!(Ask::chat(&request).send(&proxy).await.status, 200);
    }
    assert_eq!(Ask::get("/health").send(&proxy).await.json()["drift"], json!([]));
}
