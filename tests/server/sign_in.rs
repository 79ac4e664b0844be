//! The daemon's login: missing, expired, rejected, shared by two processes, interrupted by a kill.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use codex_proxy::auth::Document;
use codex_proxy::clock::{Clock as _, SystemClock};
use serde_json::json;

use crate::clock::ManualClock;
use crate::fake::{FakeUpstream, Script};
use crate::fake_issuer::{FakeIssuer, Scripted};
use crate::proxy::Launch;
use crate::wire::{Answer, Ask};
use crate::{SECOND, WHOLE, chat, signed_out, store, with};

const AGO: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const REFUSED: &str = r#"{"detail":"Unauthorized"}"#;

/// A backend that responds, and the issuer of its tokens.
pub(crate) struct Services {
    pub(crate) upstream: FakeUpstream,
    pub(crate) issuer: FakeIssuer,
}

impl Services {
    pub(crate) async fn new() -> Self {
        let upstream = FakeUpstream::start().await;
        let issuer = FakeIssuer::start(&Arc::new(ManualClock::at(SystemClock.now()))).await;
        Self { upstream, issuer }
    }

    pub(crate) fn launch(&self) -> Launch {
        signed_out(&self.upstream).setting("auth.url", &self.issuer.address)
    }

    /// A home whose access token has expired.
    pub(crate) fn expired(&self) -> Launch {
        self.ending(SystemClock.now() - AGO)
    }

    /// A home whose access token expires then.
    pub(crate) fn ending(&self, end: SystemTime) -> Launch {
        let credential = self.issuer.credential_ending("acct-1", end);
        self.launch().file("credentials.json", &store(&credential))
    }

    /// A home whose access token looks valid.
    pub(crate) fn fresh(&self) -> Launch {
        self.launch().file("credentials.json", &store(&self.issuer.credential("acct-1", DAY)))
    }

    /// The access tokens of the model requests.
    fn tokens(&self) -> Vec<String> {
        let sent = self.upstream.requests("/responses");
        sent.iter().map(|sent| sent.header("authorization").to_owned()).collect()
    }
}

fn stored(launch: &Launch) -> Document {
    let text = std::fs::read(launch.home().join("credentials.json")).unwrap();
    Document::parse(&text).expect("the store is valid")
}

fn stored_refresh_token(launch: &Launch) -> String {
    let credential = stored(launch).get("acct-1").unwrap().unwrap();
    credential.refresh_token.unwrap().expose().to_owned()
}

fn assert_signed_out(answer: &Answer, code: &str) {
    let error = answer.error();
    assert_eq!((answer.status, error["type"].as_str()), (401, Some("authentication_error")), "{error}");
    assert_eq!(error["code"], code);
    assert!(error["message"].as_str().unwrap().contains("`codex-proxy login`"), "{error}");
}

#[tokio::test]
async fn without_a_login_every_error_names_the_login_command() {
    let services = Services::new().await;
    let proxy = services.launch().start();
    assert_signed_out(&Ask::chat(&chat()).send(&proxy).await, "not_signed_in");
    let ready = Ask::get("/ready").send(&proxy).await;
    assert_eq!(ready.status, 503);
    assert!(ready.json()["reason"].as_str().unwrap().contains("codex-proxy login"), "{}", ready.text());
    assert_eq!(Ask::get("/health").send(&proxy).await.status, 200);
    assert_eq!(Ask::get("/v1/models").send(&proxy).await.status, 200);
    assert_eq!(services.upstream.requests("").len(), 0);
    assert!(proxy.log().contains("codex-proxy login"), "{}", proxy.log());
}

#[tokio::test]
async fn a_login_while_running_takes_effect() {
    let services = Services::new().await;
    services.upstream.on("/responses", Script::events(&WHOLE));
    let launch = services.launch();
    let proxy = launch.start();
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 401);
    let _ = launch.file("credentials.json", &store(&services.issuer.credential("acct-1", DAY)));
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
}

#[tokio::test]
async fn a_hundred_requests_share_one_refresh() {
    let services = Services::new().await;
    services.upstream.on("/responses", Script::events(&WHOLE));
    let launch = services.expired();
    services.issuer.shut();
    let proxy = launch.start();
    let mut sent = Vec::new();
    for _ in 0..100 {
        sent.push(Ask::chat(&chat()).fire(&proxy).await);
    }
    services.issuer.arrived(1).await;
    services.issuer.open();
    for sent in sent {
        assert_eq!(sent.open().await.status, 200);
    }
    assert_eq!(services.issuer.calls().len(), 1);
    let tokens = services.tokens();
    assert!(tokens.len() == 100 && tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(stored_refresh_token(&launch), services.issuer.newest_refresh_token());
}

#[tokio::test]
async fn a_rejected_token_is_replaced_once() {
    let services = Services::new().await;
    services.upstream.on("/responses", Script::json(401, REFUSED));
    services.upstream.on("/responses", Script::events(&WHOLE));
    let proxy = services.fresh().start();
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
    assert_eq!(services.issuer.calls().len(), 1);
    let tokens = services.tokens();
    assert!(tokens.len() == 2 && tokens[0] != tokens[1]);

    services.upstream.replace("/responses", Script::json(401, REFUSED));
    let answer = Ask::chat(&chat()).send(&proxy).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(services.issuer.calls().len() <= 2, "a backend that rejects every token causes no further refreshes");
}

#[tokio::test]
async fn a_refreshed_token_that_is_rejected_too_does_not_end_the_session() {
    let services = Services::new().await;
    services.upstream.on("/responses", Script::json(401, REFUSED));
    let proxy = services.fresh().start();
    let prompt = json!([{"role": "user", "content": "hi"}]);
    for (path, member) in [
        ("/v1/chat/completions", "messages"),
        ("/v1/responses", "input"),
        ("/v1/messages", "messages"),
        ("/api/chat", "messages"),
    ] {
        let request = json!({"model": "gpt-5.5", "max_tokens": 100, "stream": false});
        let answer = Ask::post(path, &with(request, member, prompt.clone())).send(&proxy).await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        let seconds: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=10).contains(&seconds), "{path}: {seconds}");
        let error = answer.json()["error"].clone();
        let message = error.as_str().or(error["message"].as_str()).unwrap();
        assert!(message.contains("just refreshed") && !message.contains("codex-proxy login"), "{path}: {message}");
    }
    let ready = Ask::get("/ready").send(&proxy).await;
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.header("retry-after").parse::<u64>().is_ok());
    assert_eq!((services.issuer.calls().len(), services.issuer.reused()), (1, 0));
    // The newest token is still tried, and its success ends the session's rejected state.
    services.upstream.replace("/responses", Script::events(&WHOLE));
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
    assert_eq!(Ask::get("/ready").send(&proxy).await.json(), json!({"status": "ready"}));
}

#[tokio::test]
async fn a_failed_token_recovery_is_reported() {
    let services = Services::new().await;
    services.upstream.on("/responses", Script::json(401, REFUSED));
    let ended = json!({"error": {"code": "refresh_token_invalidated", "message": "gone"}});
    services.issuer.script([Scripted::Answer(401, ended)]);
    let launch = services.fresh();
    let proxy = launch.start();
    assert_signed_out(&Ask::chat(&chat()).send(&proxy).await, "sign_in_ended");
    assert_signed_out(&Ask::chat(&chat()).send(&proxy).await, "sign_in_ended");
    assert_eq!(services.issuer.calls().len(), 1, "a rejected refresh token is not sent again");
    assert!(stored(&launch).active().is_some(), "nothing is deleted");
}

#[tokio::test]
async fn an_issuer_outage_is_transient_and_has_retry_after() {
    let services = Services::new().await;
    services.upstream.on("/responses", Script::events(&WHOLE));
    services.issuer.script([Scripted::Answer(503, json!({}))]);
    let proxy = services.expired().setting("upstream.max_retries", "0").start();
    // The daemon itself may have sent the first request, for the models.
    let answer = Ask::chat(&chat()).send(&proxy).await;
    assert_eq!((answer.status, answer.error()["code"].as_str()), (503, Some("sign_in_unavailable")));
    assert!(answer.header("retry-after").parse::<u64>().is_ok());
    assert_eq!(Ask::get("/ready").send(&proxy).await.status, 503);
    let again = async {
        while Ask::chat(&chat()).send(&proxy).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(5 * SECOND, again).await.expect("it recovers by itself");
}

#[tokio::test]
async fn a_transient_issuer_error_delays_requests_and_fails_none() {
    let services = Services::new().await;
    services.upstream.on("/responses", Script::events(&WHOLE));
    services.issuer.script([Scripted::Answer(503, json!({}))]);
    let proxy = services.expired().start();
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.push(Ask::chat(&chat()).fire(&proxy).await);
    }
    for sent in sent {
        assert_eq!(sent.open().await.status, 200);
    }
    assert_eq!((services.issuer.calls().len(), services.issuer.reused()), (2, 0), "they share the refresh");
}

#[tokio::test]
async fn a_transient_issuer_error_during_token_recovery_fails_no_request() {
    let services = Services::new().await;
    services.upstream.on("/responses", Script::json(401, REFUSED));
    services.upstream.on("/responses", Script::events(&WHOLE));
    services.issuer.script([Scripted::Answer(503, json!({}))]);
    let proxy = services.fresh().start();
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
    assert_eq!((services.issuer.calls().len(), services.tokens().len()), (2, 2));
}

#[tokio::test]
async fn a_daemon_waits_for_a_token_that_another_one_is_about_to_store() {
    let services = Services::new().await;
    services.upstream.on("/responses", Script::json(401, REFUSED));
    services.upstream.on("/responses", Script::events(&WHOLE));
    let launch = services.fresh();
    let (one, other) = (launch.start(), launch.start());
    assert_eq!(Ask::chat(&chat()).send(&other).await.status, 200);
    let renewed = services.tokens().pop().unwrap();
    let found = async {
        loop {
            assert_eq!(Ask::chat(&chat()).send(&one).await.status, 200);
            if services.tokens().pop().unwrap() == renewed {
                return;
            }
        }
    };
    tokio::time::timeout(10 * SECOND, found).await.expect("the store is read again");
    // The backend rejects the refreshed token, too, and the first daemon is refreshing it when the other one
    // learns of that.
    services.upstream.replace("/responses", Script::json(401, REFUSED));
    services.upstream.on("/responses", Script::json(401, REFUSED));
    services.upstream.on("/responses", Script::events(&WHOLE));
    services.issuer.shut();
    let requested = services.tokens().len();
    let first = Ask::chat(&chat()).fire(&one).await;
    services.issuer.arrived(2).await;
    let second = Ask::chat(&chat()).fire(&other).await;
    services.upstream.received("/responses", requested + 2).await;
    services.issuer.open();
    for sent in [first, second] {
        assert_eq!(sent.open().await.status, 200);
    }
    assert_eq!((services.issuer.calls().len(), services.issuer.reused()), (2, 0));
}

#[tokio::test]
async fn two_daemons_on_one_store_never_use_a_refresh_token_twice() {
    let services = Services::new().await;
    services.upstream.on("/responses", Script::events(&WHOLE));
    let launch = services.expired();
    services.issuer.shut();
    let (one, other) = (launch.start(), launch.start());
    let mut sent = Vec::new();
    for _ in 0..10 {
        sent.push(Ask::chat(&chat()).fire(&one).await);
        sent.push(Ask::chat(&chat()).fire(&other).await);
    }
    services.issuer.arrived(1).await;
    services.issuer.open();
    for sent in sent {
        assert_eq!(sent.open().await.status, 200);
    }
    assert_eq!((services.issuer.calls().len(), services.issuer.reused()), (1, 0));

    // Both get the same token rejected at the same time.
    let requested = services.tokens().len();
    services.upstream.replace("/responses", Script::json(401, REFUSED));
    services.upstream.on("/responses", Script::json(401, REFUSED));
    services.upstream.on("/responses", Script::events(&WHOLE));
    services.issuer.shut();
    let sent = [Ask::chat(&chat()).fire(&one).await, Ask::chat(&chat()).fire(&other).await];
    services.upstream.received("/responses", requested + 2).await;
    services.issuer.open();
    for sent in sent {
        assert_eq!(sent.open().await.status, 200);
    }
    assert_eq!((services.issuer.calls().len(), services.issuer.reused()), (2, 0));
    assert_eq!(stored_refresh_token(&launch), services.issuer.newest_refresh_token());
}

#[tokio::test]
async fn a_daemon_killed_before_the_issuer_responds_leaves_a_valid_store() {
    let services = Services::new().await;
    services.upstream.on("/responses", Script::events(&WHOLE));
    let launch = services.expired();
    services.issuer.shut();
    let mut proxy = launch.start();
    let _sent = Ask::chat(&chat()).fire(&proxy).await;
    services.issuer.arrived(1).await;
    proxy.signal("KILL");
    proxy.ended().await;
    services.issuer.open();
    assert_eq!(stored_refresh_token(&launch), "rt_1");
    // The issuer has accepted the token; that can't be undone, but it is reported.
    let next = launch.start();
    assert_signed_out(&Ask::chat(&chat()).send(&next).await, "sign_in_ended");
}

#[tokio::test]
async fn a_daemon_killed_around_the_write_leaves_a_valid_store() {
    for delay in [0, 300, 600, 1000, 1500, 2500, 5000, 20_000].map(Duration::from_micros) {
        let services = Services::new().await;
        services.upstream.on("/responses", Script::events(&WHOLE));
        let launch = services.expired();
        services.issuer.shut();
        let mut proxy = launch.start();
        let _sent = Ask::chat(&chat()).fire(&proxy).await;
        services.issuer.arrived(1).await;
        services.issuer.open();
        tokio::time::sleep(delay).await;
        proxy.signal("KILL");
        proxy.ended().await;
        let is_renewed = stored_refresh_token(&launch) == services.issuer.newest_refresh_token();
        let next = launch.start();
        let answer = Ask::chat(&chat()).send(&next).await;
        if is_renewed {
            assert_eq!(answer.status, 200, "{delay:?}: {}", answer.text());
        } else {
            assert_signed_out(&answer, "sign_in_ended");
        }
    }
}

#[tokio::test]
async fn a_refresh_in_progress_finishes_before_the_daemon_exits() {
    let services = Services::new().await;
    let launch = services.expired().setting("timing.drain", "50ms");
    services.issuer.shut();
    let mut proxy = launch.start();
    let sent = Ask::chat(&chat()).fire(&proxy).await;
    services.issuer.arrived(1).await;
    proxy.signal("TERM");
    assert_eq!(sent.open().await.status, 503);
    services.issuer.open();
    assert_eq!(proxy.ended().await, Some(0));
    assert_eq!(stored_refresh_token(&launch), services.issuer.newest_refresh_token());
}

#[cfg(unix)]
#[tokio::test]
async fn a_store_in_a_directory_writable_by_others_is_rejected_with_the_command_that_fixes_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let services = Services::new().await;
    services.upstream.on("/responses", Script::events(&WHOLE));
    let launch = services.fresh();
    let set_mode = |mode| std::fs::set_permissions(launch.home(), std::fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o777);
    let proxy = launch.start();
    let command = format!("`chmod go-w {}`", std::fs::canonicalize(launch.home()).unwrap().display());
    assert!(proxy.log().contains(&format!("(mode 0777): {command}")), "{}", proxy.log());
    let answer = Ask::chat(&chat()).send(&proxy).await;
    let error = answer.error();
    assert!(answer.status >= 400 && error["message"].as_str().unwrap().ends_with(&command), "{error}");
    for arguments in [&["token"][..], &["status", "--offline"], &["login", "--import", "/dev/null"], &["logout"]] {
        let command = launch.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.run()).await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
    assert_eq!(services.upstream.requests("/responses").len(), 0);
    set_mode(0o755);
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
}

#[tokio::test]
async fn an_unreadable_store_is_reported_and_not_changed() {
    let services = Services::new().await;
    let launch = services.launch().file("credentials.json", "{\"version\":1,\"accou");
    let proxy = launch.start();
    let answer = Ask::chat(&chat()).send(&proxy).await;
    assert_eq!((answer.status, answer.error()["code"].as_str()), (401, Some("credential_store_unusable")));
    assert!(answer.error()["message"].as_str().unwrap().contains("move the file away"), "{}", answer.text());
    assert_eq!(std::fs::read_to_string(launch.home().join("credentials.json")).unwrap(), "{\"version\":1,\"accou");
}
