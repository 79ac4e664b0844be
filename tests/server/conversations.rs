//! Conversations: their items, and responses that continue them.

use serde_json::{Value, json};

use crate::fake::{Gate, Script};
use crate::proxy::{Launch, TestProxy};
use crate::wire::{Answer, Ask};
use crate::{BEGUN, Bench, COMPLETED, CREATED, SECOND, begun};

const MESSAGE: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"msg_9","role":"assistant","content":[{"type":"output_text","text":"Hi Ann."}]}}"#;
const KEYS: &str = "[[keys]]\nname = 'ann'\nkey = 'sk-ann'\n[[keys]]\nname = 'bob'\nkey = 'sk-bob'\n";

async fn bench(change: impl FnOnce(Launch) -> Launch) -> Bench {
    let bench = Bench::with(change).await;
    bench.upstream.on("/responses", Script::events(&[CREATED, MESSAGE, COMPLETED]));
    bench
}

async fn post(proxy: &TestProxy, path: &str, body: Value) -> Answer {
    Ask::post(path, &body).send(proxy).await
}

async fn get(proxy: &TestProxy, path: &str) -> Value {
    Ask::get(path).send(proxy).await.json()
}

/// Creates a conversation and returns its path.
async fn create(proxy: &TestProxy, body: Value) -> String {
    let created = post(proxy, "/v1/conversations", body).await;
    assert_eq!(created.status, 200, "{}", created.text());
    format!("/v1/conversations/{}", created.json()["id"].as_str().unwrap())
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

async fn respond(proxy: &TestProxy, path: &str, members: Value) -> Answer {
    let mut request = json!({"model": "gpt-5.5", "input": "And?", "conversation": id_of(path)});
    request.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    post(proxy, "/v1/responses", request).await
}

/// The texts of a conversation, oldest first.
async fn texts(proxy: &TestProxy, path: &str) -> Vec<String> {
    let list = get(proxy, &format!("{path}/items?order=asc&limit=100")).await;
    let items = list["data"].as_array().unwrap().iter();
    items.map(|item| item["content"][0]["text"].as_str().unwrap().to_owned()).collect()
}

fn sent_texts(bench: &Bench) -> Vec<Value> {
    let last = bench.upstream.requests("/responses").pop().unwrap().json();
    last["input"].as_array().unwrap().iter().map(|item| item["content"][0]["text"].clone()).collect()
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

#[tokio::test]
async fn a_conversation_is_created_changed_and_deleted() {
    let bench = bench(|launch| launch).await;
    let created = post(&bench.proxy, "/v1/conversations", json!({"metadata": {"topic": "demo"}, "color": 1})).await;
    let object = created.json();
    assert_eq!((&object["object"], &object["metadata"]), (&json!("conversation"), &json!({"topic": "demo"})));
    assert!(object["id"].as_str().unwrap().starts_with("conv_") && object["created_at"].is_u64(), "{object}");
    assert_eq!(created.header("x-proxy-warnings"), "ignored:color");
    let path = format!("/v1/conversations/{}", object["id"].as_str().unwrap());
    assert_eq!(get(&bench.proxy, &path).await, object);
    assert_eq!(post(&bench.proxy, &path, json!({})).await.error()["param"], "metadata");
    let changed = post(&bench.proxy, &path, json!({"metadata": {"topic": "new"}})).await.json();
    assert_eq!((&changed["metadata"], &changed["id"]), (&json!({"topic": "new"}), &object["id"]));
    assert_eq!(get(&bench.proxy, &path).await, changed);
    let deleted = Ask::new("DELETE", &path).send(&bench.proxy).await.json();
    assert_eq!(deleted, json!({"id": object["id"], "object": "conversation.deleted", "deleted": true}));
    let gone = Ask::get(&path).send(&bench.proxy).await;
    assert_eq!((gone.status, &gone.error()["code"]), (404, &Value::Null));
    assert!(gone.error()["message"].as_str().unwrap().contains(id_of(&path)));
    let unknown = respond(&bench.proxy, &path, json!({})).await;
    assert_eq!((unknown.status, &unknown.error()["param"]), (404, &json!("conversation")));
}

#[tokio::test]
async fn items_are_added_listed_in_pages_and_deleted() {
    let bench = bench(|launch| launch).await;
    let path = create(&bench.proxy, json!({"items": [user("one")]})).await;
    let items = format!("{path}/items");
    let call = json!({"type": "function_call_output", "call_id": "c1", "output": "42"});
    let own_id = json!({"type": "message", "id": "msg_own", "role": "user", "content": "three"});
    let added = post(&bench.proxy, &items, json!({"items": [user("two"), own_id, call]})).await.json();
    let data = added["data"].as_array().unwrap();
    assert_eq!((&added["object"], data.len(), &added["has_more"]), (&json!("list"), 3, &json!(false)));
    assert_eq!((&data[0]["type"], &data[0]["status"]), (&json!("message"), &json!("completed")));
    assert_eq!((&data[1]["id"], &data[1]["content"][0]["type"]), (&json!("msg_own"), &json!("input_text")));
    assert!(data[0]["id"].as_str().unwrap().starts_with("msg_") && data[2]["id"].as_str().unwrap().starts_with("fco_"));
    assert_eq!((&added["first_id"], &added["last_id"]), (&data[0]["id"], &data[2]["id"]));
    let newest = get(&bench.proxy, &format!("{items}?limit=2")).await;
    assert_eq!((&newest["data"][0], &newest["data"][1]), (&data[2], &data[1]));
    assert_eq!(newest["has_more"], true);
    let after = newest["last_id"].as_str().unwrap();
    let rest = get(&bench.proxy, &format!("{items}?after={after}&include=message.output_text.logprobs")).await;
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (2, &json!(false)));
    assert_eq!(get(&bench.proxy, &format!("{items}/msg_own")).await, data[1]);
    let kept = Ask::new("DELETE", &format!("{items}/msg_own")).send(&bench.proxy).await.json();
    assert_eq!((&kept["object"], &kept["id"]), (&json!("conversation"), &json!(id_of(&path))));
    for ask in [Ask::get(&format!("{items}/msg_own")), Ask::new("DELETE", &format!("{items}/msg_own"))] {
        assert_eq!(ask.send(&bench.proxy).await.status, 404);
    }
    let many = post(&bench.proxy, &items, json!({"items": vec![user("x"); 21]})).await;
    assert_eq!((many.status, &many.error()["param"]), (400, &json!("items")));
    assert_eq!(Ask::get(&format!("{items}?limit=0")).send(&bench.proxy).await.error()["param"], "limit");
}

#[tokio::test]
async fn responses_continue_a_conversation_and_add_to_it() {
    let bench = bench(|launch| launch).await;
    let path = create(&bench.proxy, json!({"items": [user("My name is Ann.")]})).await;
    let first = respond(&bench.proxy, &path, json!({})).await.json();
    assert_eq!(first["conversation"], json!({"id": id_of(&path)}));
    assert_eq!(sent_texts(&bench), ["My name is Ann.", "And?"]);
    let object = json!({"conversation": {"id": id_of(&path)}, "input": "More?", "stream": true, "store": false});
    let streamed = respond(&bench.proxy, &path, object).await;
    assert!(streamed.text().contains("response.completed") && streamed.text().contains(id_of(&path)));
    assert_eq!(sent_texts(&bench), ["My name is Ann.", "And?", "Hi Ann.", "More?"]);
    assert_eq!(texts(&bench.proxy, &path).await, ["My name is Ann.", "And?", "Hi Ann.", "More?", "Hi Ann."]);
    let sent = bench.upstream.requests("/responses");
    let keys: Vec<_> = sent.iter().map(|request| request.json()["prompt_cache_key"].clone()).collect();
    assert_eq!(keys[0], keys[1], "the conversation keeps its prompt cache");
    let background = respond(&bench.proxy, &path, json!({"background": true, "input": "Last?", "stream": true})).await;
    assert!(background.text().contains("response.completed"), "{}", background.text());
    assert_eq!(texts(&bench.proxy, &path).await.len(), 7);
    let both = respond(&bench.proxy, &path, json!({"previous_response_id": first["id"]})).await;
    assert_eq!((both.status, &both.error()["code"]), (400, &json!("mutually_exclusive_parameters")));
    let id = id_of(&path);
    for target in [format!("/v1/responses/{id}"), format!("/v1/responses/{id}/input_items")] {
        assert_eq!(Ask::get(&target).send(&bench.proxy).await.status, 404, "a conversation isn't a response");
    }
}

#[tokio::test]
async fn a_conversation_is_locked_while_a_response_runs_and_a_failed_one_adds_nothing() {
    let bench = Bench::with(|launch| launch.setting("upstream.max_retries", "0")).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).cut());
    bench.upstream.on("/responses", Script::events(&[CREATED, MESSAGE, COMPLETED]));
    let path = create(&bench.proxy, json!({"items": [user("one")]})).await;
    let request = json!({"model": "gpt-5.5", "input": "two", "conversation": id_of(&path), "stream": true});
    let mut open = Ask::post("/v1/responses", &request).open(&bench.proxy).await;
    open.until("Grüße").await;
    let items = format!("{path}/items");
    for refused in [
        respond(&bench.proxy, &path, json!({})).await,
        respond(&bench.proxy, &path, json!({"background": true})).await,
        post(&bench.proxy, &items, json!({"items": [user("x")]})).await,
        post(&bench.proxy, &path, json!({"metadata": {}})).await,
        Ask::new("DELETE", &path).send(&bench.proxy).await,
    ] {
        let error = refused.error();
        assert_eq!((refused.status, &error["code"]), (400, &json!("conversation_locked")), "{error}");
        assert_eq!(error["param"], "conversation");
    }
    assert_eq!(texts(&bench.proxy, &path).await, ["one"], "it can be read");
    gate.open();
    open.until("response.failed").await;
    assert_eq!(respond(&bench.proxy, &path, json!({})).await.status, 200, "the lock ends with the response");
    assert_eq!(texts(&bench.proxy, &path).await, ["one", "And?", "Hi Ann."]);
}

#[tokio::test]
async fn a_client_that_leaves_unlocks_the_conversation() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let path = create(&bench.proxy, json!({})).await;
    let request = json!({"model": "gpt-5.5", "input": "two", "conversation": id_of(&path), "stream": true});
    let mut open = Ask::post("/v1/responses", &request).open(&bench.proxy).await;
    open.until("Grüße").await;
    drop(open);
    assert!(bench.upstream.hung_up(1, 10 * SECOND).await);
    assert_eq!(post(&bench.proxy, &path, json!({"metadata": {}})).await.status, 200);
    assert!(texts(&bench.proxy, &path).await.is_empty());
}

#[tokio::test]
async fn a_conversation_belongs_to_its_key() {
    let bench = bench(|launch| launch.file("config.toml", KEYS)).await;
    let by = |key: &str, ask: Ask| ask.header("authorization", &format!("Bearer {key}"));
    let created = by("sk-ann", Ask::post("/v1/conversations", &json!({}))).send(&bench.proxy).await.json();
    let path = format!("/v1/conversations/{}", created["id"].as_str().unwrap());
    let request = json!({"model": "gpt-5.5", "input": "x", "conversation": created["id"]});
    let items = format!("{path}/items");
    let adding = Ask::post(&items, &json!({"items": [user("x")]}));
    for ask in
        [Ask::get(&path), Ask::get(&items), adding, Ask::new("DELETE", &path), Ask::post("/v1/responses", &request)]
    {
        assert_eq!(by("sk-bob", ask).send(&bench.proxy).await.status, 404);
    }
    assert_eq!(by("sk-ann", Ask::post("/v1/responses", &request)).send(&bench.proxy).await.status, 200);
}

#[tokio::test]
async fn a_conversation_on_disk_survives_a_kill() {
    let mut kept = None;
    let mut bench = bench(|launch| {
        let launch = launch.setting("responses.store", "disk");
        kept = Some(launch.clone());
        launch
    })
    .await;
    let path = create(&bench.proxy, json!({"items": [user("My name is Ann.")], "metadata": {"k": "v"}})).await;
    assert_eq!(respond(&bench.proxy, &path, json!({})).await.status, 200);
    // Written once a deletion, which waits for the disk, is complete.
    let other = create(&bench.proxy, json!({})).await;
    assert_eq!(Ask::new("DELETE", &other).send(&bench.proxy).await.status, 200);
    let object = get(&bench.proxy, &path).await;
    bench.proxy.signal("KILL");
    bench.proxy.ended().await;
    bench.proxy = kept.unwrap().start();
    assert_eq!(get(&bench.proxy, &path).await, object);
    assert_eq!(respond(&bench.proxy, &path, json!({})).await.status, 200);
    assert_eq!(sent_texts(&bench), ["My name is Ann.", "And?", "Hi Ann.", "And?"]);
}

#[tokio::test]
async fn a_change_that_can_not_be_written_is_refused() {
    let mut kept = None;
    let bench = bench(|launch| {
        let launch = launch.setting("responses.store", "disk");
        kept = Some(launch.clone());
        launch
    })
    .await;
    let path = create(&bench.proxy, json!({"items": [user("one")]})).await;
    let file = rusqlite::Connection::open(kept.unwrap().home().join("responses.sqlite3")).unwrap();
    let full = "CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT raise(ABORT, 'full'); END";
    file.execute_batch(full).unwrap();
    for refused in [
        post(&bench.proxy, "/v1/conversations", json!({})).await,
        post(&bench.proxy, &format!("{path}/items"), json!({"items": [user("two")]})).await,
        post(&bench.proxy, &path, json!({"metadata": {"k": "v"}})).await,
    ] {
        assert_eq!((refused.status, &refused.error()["code"]), (503, &json!("store_unavailable")));
    }
    assert_eq!(texts(&bench.proxy, &path).await, ["one"]);
    assert_eq!(get(&bench.proxy, &path).await["metadata"], json!({}));
}

#[tokio::test]
async fn a_conversation_that_is_too_large_to_grow_refuses_responses() {
    let bench = bench(|launch| launch).await;
    let path = create(&bench.proxy, json!({})).await;
    let large = json!({"items": [user(&"x".repeat(15_000_000))]});
    for _ in 0..4 {
        assert_eq!(post(&bench.proxy, &format!("{path}/items"), large.clone()).await.status, 200);
    }
    let refused = respond(&bench.proxy, &path, json!({})).await;
    assert_eq!((refused.status, &refused.error()["param"]), (413, &json!("conversation")));
    assert_eq!(bench.request_count(), 0);
    let more = post(&bench.proxy, &format!("{path}/items"), large).await;
    assert_eq!((more.status, &more.error()["param"]), (413, &json!("items")));
}

#[tokio::test]
async fn items_that_nest_too_deeply_are_refused() {
    let bench = bench(|launch| launch).await;
    let deep = format!(r#"{{"items":[{{"role":"user","content":{}{}}}]}}"#, "[".repeat(300), "]".repeat(300));
    let refused = Ask::raw("/v1/conversations", deep).send(&bench.proxy).await;
    assert_eq!(refused.status, 400);
    assert!(refused.error()["message"].as_str().unwrap().contains("deeper"), "{}", refused.text());
}

#[tokio::test]
async fn conversations_need_the_store() {
    let bench = bench(|launch| launch.setting("responses.store", "off")).await;
    let created = post(&bench.proxy, "/v1/conversations", json!({})).await;
    assert_eq!(created.status, 400);
    assert!(created.error()["message"].as_str().unwrap().contains("responses.store"), "{}", created.text());
    let refused = respond(&bench.proxy, "conv_1", json!({})).await;
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("conversation")));
}
