//! Permissions of a client key: which account it uses, and whose usage it sees.

use serde_json::{Value, json};

use crate::wire::{Answer, Ask};
use crate::{Bench, chat};

const BOUND: &str = "[[keys]]\nname = 'work'\nkey = 'sk-work'\naccount = 'acct-1'\n\
                     [[keys]]\nname = 'free'\nkey = 'sk-free'\n";
const DESK_AND_BATCH: &str = "[[keys]]\nname = 'desk'\nkey = 'sk-desk'\naccount = 'acct-1'\n\
                              [[keys]]\nname = 'batch'\nkey = 'sk-batch'\n";
const ADMIN: &str = "[[keys]]\nname = 'owner'\nkey = 'sk-owner'\nadmin = true\n";

fn by(key: &str, ask: Ask) -> Ask {
    ask.header("authorization", &format!("Bearer {key}"))
}

async fn bench(keys: &str) -> Bench {
    Bench::answering(|launch| launch.file("config.toml", keys)).await
}

#[tokio::test]
async fn a_bound_key_can_not_use_another_account() {
    let bench = bench(BOUND).await;
    let hello = json!([{"role": "user", "content": "hi"}]);
    let messages = json!({"model": "gpt-5.5", "max_tokens": 9, "messages": hello});
    let ollama = json!({"model": "gpt-5.5", "messages": hello});
    for ask in [
        Ask::chat(&chat()),
        Ask::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "hi", "stream": true})),
        Ask::post("/v1/messages", &messages),
        Ask::post("/api/chat", &ollama),
        Ask::post("/v1beta/models/gpt-5.5:generateContent", &json!({"contents": [{"parts": [{"text": "hi"}]}]})),
    ] {
        let other = by("sk-work", ask.clone()).header("x-proxy-account", "acct-2").send(&bench.proxy).await;
        assert_eq!(other.status, 403, "{}", other.text());
        let error = other.json()["error"].clone();
        let message = error["message"].as_str().or(error.as_str()).unwrap();
        assert!(message.contains("keys.account") && message.contains("x-proxy-account"), "{message}");
        assert!(!message.contains("acct-"), "{message}");
        let own = by("sk-work", ask.clone()).header("x-proxy-account", "acct-1").send(&bench.proxy).await;
        assert_eq!(own.status, 200, "{}", own.text());
        assert_eq!(by("sk-work", ask).send(&bench.proxy).await.status, 200);
    }
    let refused = by("sk-work", Ask::chat(&chat())).header("x-proxy-account", "acct-2").send(&bench.proxy).await;
    let error = refused.error();
    assert_eq!((&error["code"], &error["param"]), (&json!("account_bound"), &json!("x-proxy-account")));
    assert_eq!(error["type"], "permission_error");
    // A key without an account may still select one.
    let free = by("sk-free", Ask::chat(&chat())).header("x-proxy-account", "acct-2").send(&bench.proxy).await;
    assert_eq!((free.status, free.error()["code"].as_str()), (400, Some("unknown_account")));
    let upgrade = by("sk-work", Ask::get("/v1/responses"))
        .header("x-proxy-account", "acct-2")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
    assert_eq!(upgrade.send(&bench.proxy).await.status, 403);
}

async fn usage(bench: &Bench, key: &str) -> Value {
    by(key, Ask::get("/usage")).send(&bench.proxy).await.json()
}

/// The names of the keys in a list of `/usage`, each once.
fn keys(list: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = list.as_array().unwrap().iter().map(|entry| entry["key"].as_str().unwrap()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

async fn page(bench: &Bench, key: &str) -> Answer {
    by(key, Ask::get("/")).header("accept", "text/html").send(&bench.proxy).await
}

/// One request with each key.
async fn spend(bench: &Bench, keys: &[&str]) {
    for key in keys {
        assert_eq!(by(key, Ask::chat(&chat())).send(&bench.proxy).await.status, 200);
    }
}

#[tokio::test]
async fn a_key_sees_its_own_usage_once_there_is_an_admin_key() {
    let bench = bench(&format!("{DESK_AND_BATCH}{ADMIN}")).await;
    spend(&bench, &["sk-desk", "sk-batch", "sk-batch"]).await;
    for (key, name, count) in [("sk-desk", "desk", 1), ("sk-batch", "batch", 2)] {
        let seen = usage(&bench, key).await;
        for list in [&seen["totals"]["rows"], &seen["conversations"], &seen["requests"]] {
            assert_eq!(keys(list), [name], "{seen}");
        }
        assert_eq!(seen["totals"]["sum"]["requests"], count, "{seen}");
        assert_eq!(seen["totals"]["sum"]["input_tokens"], 3 * count, "{seen}");
        let metrics = by(key, Ask::get("/metrics")).send(&bench.proxy).await;
        assert_eq!((metrics.status, metrics.error()["code"].as_str()), (403, Some("admin_key_required")));
        let shown = page(&bench, key).await;
        let other = if name == "desk" { "<bdi>batch</bdi>" } else { "<bdi>desk</bdi>" };
        assert_eq!(shown.status, 200);
        assert!(
            shown.text().contains(&format!("<bdi>{name}</bdi>")) && !shown.text().contains(other),
            "{}",
            shown.text()
        );
    }
    let seen = usage(&bench, "sk-owner").await;
    assert_eq!((keys(&seen["totals"]["rows"]), &seen["totals"]["sum"]["requests"]), (vec!["batch", "desk"], &json!(3)));
    assert_eq!(keys(&seen["requests"]), ["batch", "desk"]);
    assert_eq!(by("sk-owner", Ask::get("/metrics")).send(&bench.proxy).await.status, 200);
    assert!(page(&bench, "sk-owner").await.text().contains("<bdi>batch</bdi>"));
}

#[tokio::test]
async fn every_key_sees_all_usage_while_none_is_an_admin_key() {
    let bench = bench(DESK_AND_BATCH).await;
    spend(&bench, &["sk-desk", "sk-batch"]).await;
    let seen = usage(&bench, "sk-desk").await;
    assert_eq!(keys(&seen["totals"]["rows"]), ["batch", "desk"]);
    assert_eq!(keys(&seen["requests"]), ["batch", "desk"]);
    assert_eq!(by("sk-desk", Ask::get("/metrics")).send(&bench.proxy).await.status, 200);
}
