//! Stored responses on disk, with the real binary; and compaction.

use serde_json::{Value, json};
use tokio::time::timeout;

use codex_proxy::auth::{Credential, Document};
use codex_proxy::clock::{Clock as _, SystemClock};
use codex_proxy::secret::Secret;

use crate::fake::Script;
use crate::proxy::{Launch, TestProxy};
use crate::wire::{Answer, Ask};
use crate::{Bench, COMPLETED, CREATED, SECOND};

const MESSAGE: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"Hi Ann."}]}}"#;
const COMPACTION: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"compaction","id":"cmp_1","encrypted_content":"gAAA"}}"#;
const FILE: &str = "responses.sqlite3";

/// A daemon whose backend always sends the same response, with the setting under test.
async fn bench(change: impl FnOnce(Launch) -> Launch) -> (Bench, Launch) {
    let mut kept = None;
    let bench = Bench::with(|launch| {
        let launch = change(launch.setting("responses.store", "disk"));
        kept = Some(launch.clone());
        launch
    });
    let bench = bench.await;
    bench.upstream.on("/responses", Script::events(&[CREATED, MESSAGE, COMPLETED]));
    (bench, kept.unwrap())
}

async fn create(proxy: &TestProxy, members: Value) -> Answer {
    let mut request = json!({"model": "gpt-5.5", "input": "My name is Ann."});
    request.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    Ask::post("/v1/responses", &request).send(proxy).await
}

async fn go_on(proxy: &TestProxy) -> Answer {
    create(proxy, json!({"input": "And?", "previous_response_id": "resp_1"})).await
}

/// Waits until a daemon has stored the response.
async fn knows(proxy: &TestProxy) {
    let known = async {
        while Ask::get("/v1/responses/resp_1").send(proxy).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(10 * SECOND, known).await.expect("it learns about the response");
}

/// The conversation in the last upstream request.
fn last_input(bench: &Bench) -> Vec<Value> {
    bench.upstream.requests("/responses").last().unwrap().json()["input"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_stored_response_survives_a_killed_daemon_and_is_readable_by_another() {
    let (bench, launch) = bench(|launch| launch).await;
    let created = create(&bench.proxy, json!({})).await;
    assert_eq!(created.status, 200);
    let second = launch.start();
    knows(&second).await;
    for mut proxy in [bench.proxy, second] {
        proxy.signal("KILL");
        proxy.ended().await;
    }
    let third = launch.start();
    let bench = Bench { proxy: third, upstream: bench.upstream };
    assert_eq!(Ask::get("/v1/responses/resp_1").send(&bench.proxy).await.json(), created.json());
    assert_eq!(go_on(&bench.proxy).await.status, 200);
    let texts: Vec<_> = last_input(&bench).iter().map(|item| item["content"][0]["text"].clone()).collect();
    assert_eq!(texts, ["My name is Ann.", "Hi Ann.", "And?"]);
    let referred = json!({"input": [{"type": "item_reference", "id": "msg_1"}]});
    assert_eq!(create(&bench.proxy, referred).await.status, 200);
    assert_eq!(last_input(&bench)[0]["content"][0]["text"], "Hi Ann.");
}

#[tokio::test]
async fn a_daemon_writes_pending_responses_on_shutdown() {
    let (mut bench, launch) = bench(|launch| launch).await;
    assert_eq!(create(&bench.proxy, json!({"stream": true})).await.status, 200);
    bench.proxy.signal("TERM");
    assert_eq!(bench.proxy.ended().await, Some(0));
    let later = launch.start();
    assert_eq!(go_on(&later).await.status, 200);
    let path = "/v1/responses/resp_1";
    assert_eq!(Ask::new("DELETE", path).send(&later).await.json()["deleted"], true);
    drop(later);
    assert_eq!(Ask::get(path).send(&launch.start()).await.status, 404, "deleted responses stay deleted");
}

#[tokio::test]
async fn a_response_with_store_false_leaves_no_trace() {
    let (mut bench, launch) = bench(|launch| launch).await;
    assert_eq!(create(&bench.proxy, json!({"store": false})).await.status, 200);
    bench.proxy.signal("TERM");
    bench.proxy.ended().await;
    let bytes = std::fs::read(launch.home().join(FILE)).unwrap();
    assert!(!bytes.windows(3).any(|window| window == b"Ann"));
}

#[tokio::test]
async fn an_unusable_database_does_not_prevent_serving() {
    let (bench, launch) = bench(|launch| launch.file(FILE, "this is not a database")).await;
    assert!(bench.proxy.log().contains("was damaged"), "{}", bench.proxy.log());
    assert!(launch.home().join(format!("{FILE}.damaged")).exists());
    assert_eq!(create(&bench.proxy, json!({})).await.status, 200);
    knows(&bench.proxy).await;

    std::fs::remove_file(launch.home().join(FILE)).unwrap();
    std::fs::create_dir(launch.home().join(FILE)).unwrap();
    let other = launch.start();
    assert!(other.log().contains("responses are kept in memory"), "{}", other.log());
    assert_eq!(create(&other, json!({})).await.status, 200);
    assert_eq!(go_on(&other).await.status, 200);
}

#[tokio::test]
async fn a_continuation_uses_the_account_of_the_stored_response() {
    let (access, refresh) = (|| Secret::new("at_secret"), || Secret::new("rt_secret"));
    let credential = |id: &str| {
        let refresh = Some(refresh());
        Credential::from_tokens(Some(id.to_owned()), None, access(), refresh, Some(SystemClock.now())).unwrap()
    };
    let both = |active: &str| {
        let mut document = Document::empty();
        for id in ["acct-1", "acct-2"] {
            document.put(&credential(id));
        }
        document.set_active(active);
        document.to_text()
    };
    let bench = Bench::with(|launch| launch.file("credentials.json", &both("acct-1"))).await;
    bench.upstream.on("/responses", Script::events(&[CREATED, MESSAGE, COMPLETED]));
    let asked =
        |bench: &Bench| bench.upstream.requests("/responses").last().unwrap().header("chatgpt-account-id").to_owned();
    let request = json!({"model": "gpt-5.5", "input": "hi"});
    let created = Ask::post("/v1/responses", &request).header("x-proxy-account", "acct-2").send(&bench.proxy).await;
    assert_eq!((created.status, asked(&bench).as_str()), (200, "acct-2"));
    assert_eq!(go_on(&bench.proxy).await.status, 200);
    assert_eq!(asked(&bench), "acct-2");
    assert_eq!(create(&bench.proxy, json!({})).await.status, 200);
    assert_eq!(asked(&bench), "acct-1", "a new conversation gets the active account");

    let request = json!({"model": "gpt-5.5", "input": "hi", "previous_response_id": "resp_1"});
    let chosen = Ask::post("/v1/responses", &request).header("x-proxy-account", "acct-2").send(&bench.proxy).await;
    assert_eq!(
        (chosen.status, asked(&bench).as_str()),
        (200, "acct-2"),
        "and a request that selects an account uses it"
    );
}

#[tokio::test]
async fn a_continuation_works_if_its_account_was_removed() {
    let (mut bench, launch) = bench(|launch| launch).await;
    assert_eq!(create(&bench.proxy, json!({})).await.status, 200);
    bench.proxy.signal("TERM");
    bench.proxy.ended().await;
    let credential = Credential::from_tokens(
        Some("acct-9".to_owned()),
        None,
        Secret::new("at"),
        Some(Secret::new("rt")),
        Some(SystemClock.now()),
    );
    let launch = launch.file("credentials.json", &crate::store(&credential.unwrap()));
    assert_eq!(go_on(&launch.start()).await.status, 200);
    assert_eq!(bench.upstream.requests("/responses").last().unwrap().header("chatgpt-account-id"), "acct-9");
}

#[tokio::test]
async fn a_conversation_is_compacted_by_an_ordinary_response() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", Script::events(&[CREATED, COMPACTION, COMPLETED]));
    let request = json!({"model": "gpt-5.5", "input": "My name is Ann.", "metadata": {}, "max_output_tokens": 5});
    let compacted = Ask::post("/v1/responses/compact", &request).send(&bench.proxy).await;
    assert_eq!((compacted.status, compacted.header("x-proxy-warnings")), (200, "ignored:max_output_tokens"));
    let document = compacted.json();
    assert_eq!((&document["object"], &document["id"]), (&json!("response.compaction"), &json!("resp_1")));
    assert_eq!(document["output"][0]["content"][0]["text"], "My name is Ann.");
    assert_eq!(document["output"][1], json!({"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}));
    let asked = bench.upstream.requests("/responses").pop().unwrap();
    assert_eq!(asked.header("x-codex-beta-features"), "remote_compaction_v2");
    assert_eq!(asked.json()["input"][1], json!({"type": "compaction_trigger"}));
    assert_eq!(asked.json()["stream"], true);

    bench.upstream.replace("/responses", Script::events(&[CREATED, MESSAGE, COMPLETED]));
    let refused = Ask::post("/v1/responses/compact", &request).send(&bench.proxy).await;
    assert_eq!(refused.status, 502, "an answer is no compaction: {}", refused.text());
    assert_eq!(bench.upstream.requests("/responses").pop().unwrap().json()["input"][1]["type"], "compaction_trigger");
    let ordinary = Ask::post("/v1/responses", &request).send(&bench.proxy).await;
    assert_eq!(
        (ordinary.status, bench.upstream.requests("/responses").pop().unwrap().header("x-codex-beta-features")),
        (200, "")
    );
}
