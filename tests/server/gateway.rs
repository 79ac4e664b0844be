//! `upstream.credentials = "client"`: clients send their own ChatGPT login, which is passed on and not stored.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::fake::{FakeUpstream, Script};
use crate::fake_issuer::jwt;
use crate::proxy::{Launch, TestProxy};
use crate::websocket::Socket;
use crate::wire::{Answer, Ask};
use crate::{SECOND, WHOLE, chat, signed_out, streaming, with};

const LIST: &str = "/backend-api/codex/models";
const USAGE: &str = "/backend-api/wham/usage";
const EXPIRED: &str = r#"{"error":{"message":"Your token has expired.","type":"invalid_request_error","code":"token_expired","param":null},"status":401}"#;

struct Gateway {
    upstream: FakeUpstream,
    launch: Launch,
    proxy: TestProxy,
}

impl Gateway {
    async fn new() -> Self {
        Self::with(|launch| launch).await
    }

    async fn with(change: impl FnOnce(Launch) -> Launch) -> Self {
        let upstream = FakeUpstream::start().await;
        upstream.on("/responses", Script::events(&WHOLE));
        let launch = change(signed_out(&upstream).setting("upstream.credentials", "client"));
        let proxy = launch.start();
        Self { upstream, launch, proxy }
    }

    async fn send(&self, ask: Ask) -> Answer {
        ask.send(&self.proxy).await
    }
}

fn token(account: &str) -> String {
    jwt(account, UNIX_EPOCH + Duration::from_secs(4_000_000_000), 1)
}

fn bearer(account: &str) -> String {
    format!("Bearer {}", token(account))
}

fn own(ask: Ask) -> Ask {
    ask.header("authorization", &bearer("acct-own"))
}

/// The content of every file below a directory.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

#[tokio::test]
async fn the_login_of_the_client_goes_to_the_backend() {
    let gateway = Gateway::new().await;
    for (header, account) in [(None, "acct-own"), (Some("acct-own"), "acct-own"), (Some("acct-team"), "acct-team")] {
        let ask = own(Ask::chat(&chat())).header("x-api-key", "anything").header("cookie", "a=b");
        let ask = header.map_or(ask.clone(), |id| ask.header("chatgpt-account-id", id));
        let answer = gateway.send(ask).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sent = gateway.upstream.requests("/responses").pop().unwrap();
        assert_eq!(sent.header("authorization"), bearer("acct-own"));
        assert_eq!(sent.header("chatgpt-account-id"), account);
        assert!(!sent.headers.contains_key("x-api-key") && !sent.headers.contains_key("cookie"));
    }
}

#[tokio::test]
async fn every_api_uses_the_login_of_the_client() {
    let gateway = Gateway::new().await;
    let messages = json!([{"role": "user", "content": "hi"}]);
    let document = json!({"plan_type": "plus"}).to_string();
    gateway.upstream.on(USAGE, Script::json(200, &document));
    for ask in [
        Ask::chat(&streaming()),
        Ask::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "hi"})),
        Ask::post("/v1/messages", &json!({"model": "gpt-5.5", "messages": messages, "max_tokens": 9})),
        Ask::post("/v1/completions", &json!({"model": "gpt-5.5", "prompt": "hi"})),
        Ask::post("/api/chat", &json!({"model": "gpt-5.5", "messages": messages})),
        Ask::get("/backend-api/wham/usage"),
    ] {
        let refused = gateway.send(ask.clone()).await;
        assert_eq!(refused.status, 401, "{}", refused.text());
        let answer = gateway.send(own(ask)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let sent = gateway.upstream.requests("").into_iter().filter(|sent| !sent.target.contains("accounts/check"));
    assert!(sent.map(|sent| sent.header("authorization").to_owned()).all(|sent| sent == bearer("acct-own")));
}

#[tokio::test]
async fn a_refused_token_is_reported_to_the_client_and_not_sent_again() {
    let gateway = Gateway::new().await;
    gateway.upstream.replace("/responses", Script::json(401, EXPIRED));
    for (number, ask) in [Ask::chat(&chat()), Ask::chat(&streaming())].into_iter().enumerate() {
        let answer = gateway.send(own(ask)).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (401, Some("token_expired")), "{}", answer.text());
        let message = answer.error()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("Your token has expired.") && !message.contains("login"), "{message}");
        assert_eq!(gateway.upstream.requests("/responses").len(), number + 1);
    }
    gateway.upstream.replace("/responses", Script::events(&WHOLE));
    assert_eq!(gateway.send(own(Ask::chat(&chat()))).await.status, 200, "a new token works at once");
    assert!(!gateway.proxy.log().contains("retrying"), "{}", gateway.proxy.log());
}

#[tokio::test]
async fn anything_but_a_chatgpt_token_is_refused_in_the_form_of_the_api() {
    let gateway = Gateway::new().await;
    let id_token = "e30.eyJhdWQiOlsiYXBwXzEiXX0.c2ln";
    for sent in [
        None,
        Some("Bearer sk-proj-1"),
        Some("Bearer anything"),
        Some("Basic abc"),
        Some(&*format!("Bearer {id_token}")),
    ] {
        let signed = |ask: Ask| sent.map_or(ask.clone(), |value| ask.header("authorization", value));
        let answer = gateway.send(signed(Ask::chat(&chat()))).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (401, Some("invalid_access_token")), "{sent:?}");
        let message = answer.error()["message"].as_str().unwrap().to_owned();
        for word in ["Authorization", "upstream.credentials", "x-api-key"] {
            assert!(message.contains(word), "{message}");
        }
        assert!(!message.contains("sk-proj-1"), "{message}");
        let body = json!({"model": "gpt-5.5", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9});
        let answer = gateway.send(signed(Ask::post("/v1/messages", &body))).await;
        let kind = answer.json()["error"]["type"].clone();
        assert_eq!((answer.status, kind), (401, json!("authentication_error")), "{}", answer.text());
    }
    assert!(gateway.upstream.requests("").is_empty());
}

#[tokio::test]
async fn a_client_key_comes_in_another_header() {
    let gateway = Gateway::with(|launch| launch.setting("api_keys", "sk-local-1")).await;
    for ask in [own(Ask::chat(&chat())), Ask::chat(&chat()).header("authorization", "Bearer sk-local-1")] {
        let answer = gateway.send(ask).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (401, Some("invalid_api_key")));
        let message = answer.error()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains("'x-api-key', 'api-key' or 'x-goog-api-key'") && !message.contains("Authorization"),
            "{message}"
        );
        assert!(!answer.headers.contains_key("www-authenticate"));
    }
    for name in ["x-api-key", "api-key", "x-goog-api-key"] {
        let answer = gateway.send(own(Ask::chat(&chat())).header(name, "sk-local-1")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sent = gateway.upstream.requests("/responses").pop().unwrap();
        assert_eq!((sent.header("authorization"), sent.header(name)), (&*bearer("acct-own"), ""));
    }
}

#[tokio::test]
async fn no_account_can_be_selected() {
    let gateway = Gateway::new().await;
    let answer = gateway.send(own(Ask::chat(&chat())).header("x-proxy-account", "acct-1")).await;
    assert_eq!((answer.status, answer.error()["code"].as_str()), (400, Some("account_not_selectable")));
    assert!(answer.text().contains("x-proxy-account") && gateway.upstream.requests("").is_empty());
    let keys = "[[keys]]\nname = 'desk'\nkey = 'sk-desk'\naccount = 'acct-1'\n";
    for (launch, word) in [
        (gateway.launch.clone().setting("account", "acct-1"), "account"),
        (gateway.launch.clone().file("config.toml", keys), "desk"),
        (gateway.launch.clone().argument("--account").argument("acct-1"), "account"),
    ] {
        let output = launch.run();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("upstream.credentials") && said.contains(word), "{said}");
    }
}

#[tokio::test]
async fn nothing_of_the_login_is_stored_or_logged() {
    let gateway = Gateway::with(|launch| {
        launch.setting("responses.store", "disk").setting("log.level", "trace").setting("api_keys", "sk-local-1")
    })
    .await;
    gateway.upstream.on(LIST, Script::json(200, r#"{"models":[{"slug":"gpt-live"}]}"#));
    let keyed = |ask: Ask| own(ask).header("x-api-key", "sk-local-1");
    let request = json!({"model": "gpt-live", "input": "hi"});
    assert_eq!(gateway.send(keyed(Ask::post("/v1/responses", &request))).await.status, 200);
    let next = with(request, "previous_response_id", json!("resp_1"));
    assert_eq!(gateway.send(keyed(Ask::post("/v1/responses", &next))).await.status, 200, "responses are stored");
    let Gateway { launch, mut proxy, .. } = gateway;
    proxy.signal("TERM");
    assert_eq!(proxy.ended().await, Some(0));
    let files = contents(launch.home());
    assert!(files.iter().any(|(name, _)| name.contains("responses.sqlite3")), "{files:?}");
    let payload = token("acct-own").split('.').nth(1).unwrap().to_owned();
    for (name, content) in &files {
        assert!(!name.contains("credentials") && !name.contains("catalogue"), "{name}");
        for secret in [&*payload, "acct-own"] {
            assert!(memchr::memmem::find(content, secret.as_bytes()).is_none(), "{name} contains {secret}");
        }
    }
    let log = proxy.log();
    assert!(!log.contains(&payload) && !log.contains("acct-own"), "{log}");
}

#[tokio::test]
async fn the_daemon_is_ready_and_says_that_clients_sign_in() {
    let gateway = Gateway::new().await;
    let ready = gateway.send(Ask::get("/ready")).await;
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "ready", "sign_in": "client"})));
    let page = gateway.send(Ask::get("/").header("accept", "text/html")).await;
    assert!(page.text().contains("Sign-in by the client"), "{}", page.text());
    let log = gateway.proxy.log();
    assert!(log.contains("warning: upstream.credentials is \"client\"") && !log.contains("not signed in"), "{log}");
    for (arguments, code, words) in [
        (&["status"][..], 0, "sign-in      by the client"),
        (&["doctor"], 0, "sign-in: by the client"),
        (&["token"], 3, "clients sign in themselves"),
        (&["login"], 3, "clients sign in themselves"),
        (&["models"], 0, "gpt-"),
        (&["models", "--refresh"], 3, "clients sign in themselves"),
    ] {
        let launch = gateway.launch.command(arguments);
        let output = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains(words), "{arguments:?}: {said}");
        // The issuer of these tests can't be reached, which doctor reports.
        assert!(output.status.code() == Some(code) || arguments[0] == "doctor", "{arguments:?}: {said}");
    }
    let launch = gateway.launch.command(&["status", "--json"]);
    let output = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&status["credentials"], &status["signed_in"], &status["check"]),
        (&json!("client"), &json!(true), &Value::Null)
    );
}

#[tokio::test]
async fn the_catalog_is_requested_with_the_login_of_a_client() {
    let gateway = Gateway::new().await;
    let catalogue = |slug: &str| Script::json(200, &json!({"models": [{"slug": slug}]}).to_string());
    gateway.upstream.on(LIST, catalogue("gpt-own"));
    gateway.upstream.on(LIST, catalogue("gpt-team"));
    let list = async |account: &str| {
        let answer = gateway.send(Ask::get("/v1/models").header("authorization", &bearer(account))).await;
        let tags = gateway.send(Ask::get("/api/tags").header("authorization", &bearer(account))).await;
        let id = answer.json()["data"][0]["id"].clone();
        assert_eq!(tags.json()["models"][0]["name"], id);
        id
    };
    assert!(gateway.upstream.requests(LIST).is_empty(), "there is no login before the first request");
    for _ in 0..2 {
        assert_eq!((list("acct-own").await, list("acct-team").await), (json!("gpt-own"), json!("gpt-team")));
    }
    let sent = gateway.upstream.requests(LIST);
    let accounts: Vec<_> = sent.iter().map(|sent| sent.header("chatgpt-account-id")).collect();
    assert_eq!(accounts, ["acct-own", "acct-team"], "each is requested once");
    assert_eq!(sent[0].header("authorization"), bearer("acct-own"));
    let codex = gateway.send(own(Ask::get("/v1/models?client_version=0.171.0"))).await;
    assert_eq!(codex.json()["models"][0]["slug"], "gpt-own");
    let embedded = gateway.send(Ask::get("/v1/models")).await;
    assert_eq!(embedded.status, 200, "the list itself needs no login");
    assert!(!embedded.text().contains("gpt-own") && !embedded.text().contains("gpt-team"), "{}", embedded.text());
}

#[tokio::test]
async fn a_refused_token_is_reported_by_the_list_of_models_and_the_next_handshake() {
    let gateway = Gateway::new().await;
    let login = [("authorization", &*bearer("acct-own"))];
    gateway.upstream.on(LIST, Script::json(401, EXPIRED));
    let list = gateway.send(own(Ask::get("/v1/models?client_version=0.171.0"))).await;
    assert_eq!((list.status, list.error()["code"].as_str()), (401, Some("token_expired")), "{}", list.text());
    let Err(refused) = Socket::ask(&gateway.proxy, "/v1/responses", &login).await else { panic!("let in") };
    assert_eq!(refused.status().as_u16(), 401);
    gateway.upstream.replace(LIST, Script::json(200, r#"{"models":[{"slug":"gpt-live"}]}"#));
    let mut socket = Socket::open_as(&gateway.proxy, &login).await;
    // The token expires.
    gateway.upstream.replace("/responses", Script::json(401, EXPIRED));
    socket.create(&json!({"model": "gpt-live", "input": "hi", "store": false})).await;
    assert_eq!(socket.next().await["status"], 401);
    gateway.upstream.replace(LIST, Script::json(401, EXPIRED));
    let Err(refused) = Socket::ask(&gateway.proxy, "/v1/responses", &login).await else { panic!("let in") };
    assert_eq!(refused.status().as_u16(), 401);
}

#[tokio::test]
async fn stored_responses_belong_to_the_account() {
    let gateway = Gateway::new().await;
    let request = json!({"model": "gpt-5.5", "input": "hi"});
    let id = gateway.send(own(Ask::post("/v1/responses", &request))).await.json()["id"].clone();
    let path = format!("/v1/responses/{}", id.as_str().unwrap());
    let team = bearer("acct-team");
    assert_eq!(gateway.send(own(Ask::get(&path))).await.status, 200);
    for ask in [Ask::get(&path), Ask::get(&path).header("authorization", &team)] {
        assert_eq!(gateway.send(ask).await.status, 404);
    }
    let next = with(request, "previous_response_id", id);
    let other = Ask::post("/v1/responses", &next).header("authorization", &team);
    let answer = gateway.send(other).await;
    assert_eq!((answer.status, answer.error()["code"].as_str()), (400, Some("previous_response_not_found")));
    assert_eq!(gateway.send(own(Ask::post("/v1/responses", &next))).await.status, 200);
}

#[tokio::test]
async fn an_origin_that_one_token_can_not_request_is_requested_again_with_the_next() {
    let gateway = Gateway::new().await;
    let to_team = |ask: Ask| ask.header("chatgpt-account-id", "acct-team");
    let checks = || gateway.upstream.requests("accounts/check").len();
    gateway.upstream.replace("accounts/check", Script::json(403, "{}"));
    assert_eq!(gateway.send(to_team(own(Ask::chat(&chat())))).await.status, 200);
    let before = checks();
    gateway.upstream.replace("accounts/check", Script::json(200, &json!({"accounts": []}).to_string()));
    assert_eq!(gateway.send(to_team(own(Ask::chat(&chat())))).await.status, 200);
    assert_eq!(gateway.send(to_team(own(Ask::chat(&chat())))).await.status, 200);
    assert_eq!(checks(), before + 2, "neither the refusal nor a list without the account is remembered");
}

#[tokio::test]
async fn a_catalog_that_can_not_be_requested_does_not_fail_requests() {
    let gateway = Gateway::new().await;
    gateway.upstream.on(LIST, Script::answer(500, &[], ""));
    for _ in 0..2 {
        assert_eq!(gateway.send(own(Ask::chat(&chat()))).await.status, 200);
    }
    assert_eq!(gateway.upstream.requests(LIST).len(), 1, "it is not requested again at once");
}

#[tokio::test]
async fn the_quota_is_that_of_the_client() {
    let gateway = Gateway::new().await;
    let window = json!({"used_percent": 12, "limit_window_seconds": 18_000, "reset_after_seconds": 9000});
    gateway.upstream.on(
        USAGE,
        Script::json(200, &json!({"plan_type": "plus", "rate_limit": {"primary_window": window}}).to_string()),
    );
    assert_eq!(gateway.send(Ask::get("/usage")).await.json()["quota"], json!([]));
    let usage = gateway.send(own(Ask::get("/usage"))).await.json();
    assert_eq!(usage["quota"][0]["plan"], "plus", "{usage}");
    let other = gateway.send(Ask::get("/usage").header("authorization", &bearer("acct-team"))).await.json();
    assert!(!other.to_string().contains("acct-own"), "{other}");
    assert_eq!(gateway.send(Ask::get("/usage")).await.json()["quota"], json!([]), "a login is needed");
    assert_eq!(gateway.upstream.requests(USAGE)[0].header("authorization"), bearer("acct-own"));
    let spent = json!({"error": {"type": "usage_limit_reached", "message": "used up", "resets_in_seconds": 600}});
    gateway.upstream.replace("/responses", Script::json(429, &spent.to_string()));
    for _ in 0..2 {
        assert_eq!(gateway.send(own(Ask::chat(&chat()))).await.status, 429);
    }
    assert_eq!(gateway.upstream.requests("/responses").len(), 1, "the limit is remembered");
    gateway.upstream.replace("/responses", Script::events(&WHOLE));
    let other = Ask::chat(&chat()).header("authorization", &bearer("acct-team"));
    assert_eq!(gateway.send(other).await.status, 200, "for this account only");
}

#[tokio::test]
async fn a_websocket_uses_the_login_of_its_handshake() {
    for transport in ["sse", "websocket"] {
        let gateway = Gateway::with(|launch| launch.setting("upstream.transport", transport)).await;
        let Err(refused) = Socket::ask(&gateway.proxy, "/v1/responses", &[]).await else { panic!("let in") };
        assert_eq!(refused.status().as_u16(), 401);
        let login = [("authorization", &*bearer("acct-own")), ("chatgpt-account-id", "acct-own")];
        let mut socket = Socket::open_as(&gateway.proxy, &login).await;
        let request = json!({"model": "gpt-5.5", "input": "hi", "store": false});
        socket.create(&request).await;
        assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
        let sent = gateway.upstream.requests("/responses").pop().unwrap();
        assert_eq!(sent.header("authorization"), bearer("acct-own"), "{transport}");
        gateway.upstream.replace("/responses", Script::json(401, EXPIRED));
        socket.create(&request).await;
        let refused = socket.next().await;
        let got = (&refused["type"], &refused["status"], &refused["error"]["code"]);
        assert_eq!(got, (&json!("error"), &json!(401), &json!("token_expired")), "{transport}");
    }
}

#[tokio::test]
async fn an_upstream_websocket_is_not_shared_between_logins() {
    let gateway = Gateway::with(|launch| launch.setting("upstream.transport", "websocket")).await;
    for account in ["acct-own", "acct-team", "acct-own"] {
        let ask = Ask::chat(&chat()).header("authorization", &bearer(account));
        assert_eq!(gateway.send(ask).await.status, 200);
    }
    let handshakes = gateway.upstream.handshakes();
    let accounts: Vec<_> = handshakes.iter().map(|sent| sent.header("chatgpt-account-id")).collect();
    assert_eq!(accounts, ["acct-own", "acct-team"]);
}

#[tokio::test]
async fn the_demo_accepts_its_own_login_only() {
    let proxy = Launch::demo().setting("upstream.credentials", "client").start();
    proxy.says("a login for clients", 5 * SECOND).await;
    let log = proxy.log();
    let line = log.lines().find(|line| line.contains("a login for clients")).unwrap();
    let login: Value =
        serde_json::from_str(line.split_once('{').map(|(_, members)| format!("{{{members}")).unwrap().as_str())
            .unwrap();
    let access_token = login["tokens"]["access_token"].as_str().unwrap();
    let ask = Ask::chat(&chat()).header("authorization", &format!("Bearer {access_token}"));
    let answer = ask.send(&proxy).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let foreign = Ask::chat(&chat()).header("authorization", &bearer("acct-demo")).send(&proxy).await;
    assert_eq!((foreign.status, foreign.error()["code"].as_str()), (401, Some("token_invalidated")));
}
