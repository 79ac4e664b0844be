//! The state of a session in `/ready`, on the page, in commands, and in the start banner.

use codex_proxy::auth::Document;
use codex_proxy::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::fake::Script;
use crate::fake_issuer::Scripted;
use crate::proxy::{Launch, TestProxy};
use crate::sign_in::Services;
use crate::wire::{Answer, Ask};
use crate::{SECOND, WHOLE, chat, store};

const REFUSED: &str = r#"{"detail":"Unauthorized"}"#;

/// An issuer that permanently rejects the next refresh token.
async fn refusing() -> Services {
    let services = Services::new().await;
    services.issuer.script([Scripted::Answer(401, json!({"error": {"code": "refresh_token_invalidated"}}))]);
    services
}

async fn ready(proxy: &TestProxy) -> Answer {
    Ask::get("/ready").send(proxy).await
}

async fn page(proxy: &TestProxy) -> String {
    Ask::get("/").header("accept", "text/html").send(proxy).await.text().to_owned()
}

/// Exit code, standard output and standard error of a command.
async fn run(launch: &Launch, arguments: &[&str]) -> (i32, String, String) {
    let launch = launch.command(arguments);
    let output = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A daemon whose access token the backend rejects, and the issuer rejects the refresh.
async fn dead() -> (Services, Launch, TestProxy) {
    let services = refusing().await;
    services.upstream.on("/responses", Script::json(401, REFUSED));
    let launch = services.fresh();
    let proxy = launch.start();
    assert_eq!(ready(&proxy).await.json(), json!({"status": "ready"}));
    let answer = Ask::chat(&chat()).send(&proxy).await;
    assert_eq!((answer.status, answer.error()["code"].as_str()), (401, Some("sign_in_ended")));
    (services, launch, proxy)
}

#[tokio::test]
async fn an_ended_session_is_reported_everywhere() {
    let (services, launch, proxy) = dead().await;
    let answer = ready(&proxy).await;
    assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("not ready")));
    let reason = answer.json()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("revoked") && reason.contains("codex-proxy login"), "{reason}");
    let page = page(&proxy).await;
    assert!(page.contains("Your session has expired") && !page.contains("Signed in"), "{page}");
    let (code, answer, stderr) = run(&launch, &["token"]).await;
    assert_eq!((code, &*answer), (3, ""), "{stderr}");
    assert!(stderr.contains("codex-proxy login"), "{stderr}");
    let (code, json, _) = run(&launch, &["status", "--offline", "--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["signed_in"], &json["accounts"][0]["state"]), (3, &json!(false), &json!("ended")));
    assert!(json["accounts"][0]["refused_at"].is_string(), "{json}");
    let (_, list, _) = run(&launch, &["accounts", "list"]).await;
    assert!(list.contains("codex-proxy login"), "{list}");
    let (code, findings, _) = run(&launch, &["doctor"]).await;
    assert!(code == 3 && findings.contains("revoked"), "{findings}");
    let next = launch.start();
    assert!(next.log().contains("warning: your ChatGPT session has expired"), "{}", next.log());
    assert_eq!(services.issuer.calls().len(), 1, "a rejected refresh token is sent once");
}

#[tokio::test]
async fn an_ended_session_is_replaced_by_a_new_login() {
    let (services, launch, proxy) = dead().await;
    services.upstream.replace("/responses", Script::events(&WHOLE));
    let new = services.issuer.credential("acct-1", 60 * 60 * SECOND);
    let _launch = launch.file("credentials.json", &store(&new));
    assert_eq!(ready(&proxy).await.json(), json!({"status": "ready"}));
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
}

#[tokio::test]
async fn a_token_that_the_backend_accepts_after_all_is_valid() {
    let (services, launch, proxy) = dead().await;
    services.upstream.replace("/responses", Script::events(&WHOLE));
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
    let answer = ready(&proxy).await;
    assert_eq!((answer.status, answer.json()["warning"].is_string()), (200, true), "{}", answer.text());
    let stored = || {
        let text = std::fs::read(launch.home().join("credentials.json")).unwrap();
        Document::parse(&text).expect("the store is valid").get("acct-1").unwrap().unwrap()
    };
    crate::fake_issuer::until(|| stored().refused_at.is_none()).await;
}

#[tokio::test]
async fn a_valid_token_that_cannot_be_refreshed_is_ready_with_a_warning() {
    let services = refusing().await;
    services.upstream.on("/responses", Script::events(&WHOLE));
    let end = SystemClock.now() + 100 * SECOND;
    let launch = services.ending(end);
    let proxy = launch.start();
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
    let warned = async {
        loop {
            let answer = ready(&proxy).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            if answer.json()["warning"].is_string() {
                return answer.json();
            }
        }
    };
    let answer = tokio::time::timeout(10 * SECOND, warned).await.expect("the issuer refuses");
    let end = humantime::format_rfc3339_seconds(end).to_string();
    assert_eq!((&answer["status"], &answer["expires_at"]), (&json!("ready"), &json!(end)));
    let says = |text: &str| text.contains(&end) && text.contains("revoked") && text.contains("codex-proxy login");
    assert!(says(answer["warning"].as_str().unwrap()), "{answer}");
    let page = page(&proxy).await;
    assert!(says(&page) && page.contains("Signed in, but the session can’t be refreshed"), "{page}");
    let (code, answer, stderr) = run(&launch, &["token"]).await;
    assert!(code == 0 && answer.starts_with("e30.") && says(&stderr), "{stderr}");
    let next = launch.start();
    assert!(says(&next.log()), "{}", next.log());
    assert_eq!(services.issuer.calls().len(), 1);
}
