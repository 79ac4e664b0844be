//! When tokens are refreshed, by which process, and how often.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use codex_proxy::auth::{Accounts, Issuer, Settings, Store};
use codex_proxy::clock::{Clock, CorrectedClock, SystemClock};
use codex_proxy::endpoint::{Endpoint, Trust};
use codex_proxy::token_source::{AuthError, RECOVERY_DELAY, SessionState, TokenSource};
use serde_json::{Value, json};

use crate::fake_issuer::{Scripted, run, until};
use crate::{EXPIRED, EXPIRING, FRESH, Home};

#[tokio::test]
async fn a_valid_token_is_used_without_a_request_to_the_issuer() {
    let home = Home::with(FRESH).await;
    let bearer = home.tokens().bearer().await.unwrap();
    assert_eq!(bearer.account.id, "acct-1");
    assert_eq!(home.issuer.calls().len(), 0);
}

#[tokio::test]
async fn a_hundred_concurrent_callers_share_one_refresh() {
    let home = Home::with(EXPIRED).await;
    let tokens = home.tokens();
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let tokens = tokens.clone();
            run(async move { tokens.bearer().await.unwrap().token.expose().to_owned() })
        })
        .collect();
    let mut served = Vec::new();
    for caller in callers {
        served.push(caller.await.unwrap());
    }
    assert_eq!(home.issuer.calls().len(), 1);
    assert!(served.iter().all(|token| *token == served[0]));
    assert_eq!(home.stored_refresh_token().await, home.issuer.newest_refresh_token());
}

#[tokio::test]
async fn a_refresh_is_the_request_that_the_issuer_expects() {
    let home = Home::with(EXPIRED).await;
    home.tokens().bearer().await.unwrap();
    let call = home.issuer.calls().remove(0);
    assert_eq!(call.path, "/oauth/token");
    assert_eq!(call.headers["content-type"], "application/json");
    assert_eq!(call.headers["originator"], "codex_proxy");
    assert_eq!(call.headers["user-agent"], "codex-proxy/test");
    let body: Value = serde_json::from_str(&call.body).unwrap();
    let want = json!({"client_id": "app_test", "grant_type": "refresh_token",
        "refresh_reason": "proactive_expiry", "refresh_token": "rt_1"});
    assert_eq!(body, want);
}

#[tokio::test]
async fn an_expiring_token_is_used_while_it_is_refreshed_in_the_background() {
    let home = Home::with(EXPIRING).await;
    home.issuer.shut();
    let tokens = home.tokens();
    let old = tokens.bearer().await.unwrap();
    home.issuer.arrived(1).await;
    assert_eq!(tokens.bearer().await.unwrap().token.expose(), old.token.expose());
    home.issuer.open();
    tokens.settle().await;
    assert_ne!(tokens.bearer().await.unwrap().token.expose(), old.token.expose());
    assert_eq!(home.issuer.calls().len(), 1);
}

#[tokio::test]
async fn a_caller_that_disconnects_does_not_cancel_the_refresh() {
    let home = Home::with(EXPIRED).await;
    home.issuer.shut();
    let tokens = home.tokens();
    let caller = run({
        let tokens = tokens.clone();
        async move { tokens.bearer().await.map(drop) }
    });
    home.issuer.arrived(1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    home.issuer.open();
    tokens.settle().await;
    assert_eq!(home.stored_refresh_token().await, home.issuer.newest_refresh_token());
    assert_ne!(home.issuer.newest_refresh_token(), "rt_1");
}

#[tokio::test]
async fn two_daemons_on_one_store_never_send_a_used_refresh_token() {
    let home = Home::with(EXPIRED).await;
    let daemons = [home.tokens(), home.tokens()];
    for round in 1..=3 {
        let callers = daemons.clone().map(|tokens| run(async move { tokens.bearer().await.unwrap() }));
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!((home.issuer.calls().len(), home.issuer.reused()), (round, 0));
        home.clock.advance(Duration::from_secs(11 * 24 * 60 * 60));
    }
}

#[tokio::test]
async fn processes_on_one_store_refresh_once() {
    let home = Home::new().await;
    home.put(&home.issuer.credential_ending("acct-1", UNIX_EPOCH + Duration::from_secs(1))).await;
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--ignored", "--exact", "refreshes::a_process_of_its_own"]);
            command.env("TEST_STORE", home.path()).env("TEST_ISSUER", &home.issuer.address);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert!(status.success());
    }
    assert_eq!((home.issuer.calls().len(), home.issuer.reused()), (1, 0));
}

#[tokio::test]
#[ignore = "a child of processes_on_one_store_refresh_once"]
#[expect(clippy::disallowed_methods, reason = "the parent test passes parameters to this process in its environment")]
async fn a_process_of_its_own() {
    let (store, issuer) = (std::env::var("TEST_STORE").unwrap(), std::env::var("TEST_ISSUER").unwrap());
    let clock = Arc::new(SystemClock);
    let settings = Settings {
        issuer: Endpoint::parse(&issuer, Trust::KnownHosts).unwrap(),
        store: codex_proxy::auth::BackendKind::File,
        client_id: "app_test".to_owned(),
        redirect_host: "localhost".to_owned(),
        scopes: Vec::new(),
        account: None,
        credentials: store.clone().into(),
        originator: String::new(),
        user_agent: "child".to_owned(),
    };
    let authority = Issuer::new(crate::fake_issuer::http_client(), &settings);
    let tokens = Accounts::new(Store::file(store), authority, clock, None);
    tokens.bearer().await.unwrap();
}

#[tokio::test]
async fn after_a_401_a_token_stored_by_another_process_is_used() {
    let home = Home::with(FRESH).await;
    let (ours, theirs) = (home.tokens(), home.tokens());
    let rejected = ours.bearer().await.unwrap();
    let renewed = theirs.recover(&rejected).await.unwrap();
    assert_eq!(ours.recover(&rejected).await.unwrap().token.expose(), renewed.token.expose());
    assert_eq!(home.issuer.calls().len(), 1);
}

#[tokio::test]
async fn after_a_401_one_refresh_serves_every_caller_and_reports_its_reason() {
    let home = Home::with(FRESH).await;
    let tokens = home.tokens();
    let rejected = tokens.bearer().await.unwrap();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let (tokens, rejected) = (tokens.clone(), rejected.clone());
            run(async move { tokens.recover(&rejected).await.unwrap() })
        })
        .collect();
    for caller in callers {
        assert_ne!(caller.await.unwrap().token.expose(), rejected.token.expose());
    }
    let calls = home.issuer.calls();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].body.contains(r#""refresh_reason":"unauthorized_recovery""#), "{}", calls[0].body);
}

#[tokio::test]
async fn a_backend_that_rejects_every_token_does_not_cause_a_refresh_for_each() {
    let home = Home::with(FRESH).await;
    let tokens = home.tokens();
    let mut rejected = tokens.bearer().await.unwrap();
    rejected = tokens.recover(&rejected).await.unwrap();
    for _ in 0..5 {
        let error = tokens.recover(&rejected).await.unwrap_err();
        assert!(matches!(&error, AuthError::TokenRefused { retry_after } if *retry_after <= RECOVERY_DELAY), "{error}");
        assert_eq!(tokens.bearer().await.unwrap().token.expose(), rejected.token.expose(), "it is still tried");
        assert!(matches!(tokens.check().await, Err(AuthError::TokenRefused { .. })));
    }
    assert_eq!(home.issuer.calls().len(), 1);
    tokio::time::pause();
    tokio::time::advance(RECOVERY_DELAY).await;
    tokio::time::resume();
    assert_eq!(tokens.check().await, Ok(SessionState::Working));
    assert_ne!(tokens.recover(&rejected).await.unwrap().token.expose(), rejected.token.expose());
    assert_eq!((home.issuer.calls().len(), home.issuer.reused()), (2, 0));
}

#[tokio::test]
async fn a_rejected_token_that_the_backend_accepts_later_is_valid() {
    let home = Home::with(FRESH).await;
    let tokens = home.tokens();
    let rejected = tokens.bearer().await.unwrap();
    let renewed = tokens.recover(&rejected).await.unwrap();
    tokens.recover(&renewed).await.unwrap_err();
    tokens.accepted(&renewed);
    assert_eq!(tokens.check().await, Ok(SessionState::Working));
}

#[tokio::test]
async fn a_refresh_waits_for_a_token_that_another_daemon_is_about_to_store() {
    let home = Home::with(FRESH).await;
    let (ours, theirs) = (home.tokens(), home.tokens());
    let first = ours.bearer().await.unwrap();
    let second = ours.recover(&first).await.unwrap();
    assert_eq!(theirs.bearer().await.unwrap().token.expose(), second.token.expose());
    // The backend rejects the refreshed token, and the other daemon is the first to refresh it again.
    home.issuer.shut();
    let recovering = |tokens: &Accounts| {
        let (tokens, refused) = (tokens.clone(), second.clone());
        run(async move { tokens.recover(&refused).await.map(|bearer| bearer.token.expose().to_owned()) })
    };
    let other = recovering(&theirs);
    home.issuer.arrived(2).await;
    let own = recovering(&ours);
    home.issuer.open();
    let newest = other.await.unwrap().unwrap();
    assert_eq!(own.await.unwrap().unwrap(), newest);
    assert_eq!((home.issuer.calls().len(), home.issuer.reused()), (2, 0));
}

#[tokio::test]
async fn an_older_stored_token_that_is_rejected_too_is_refreshed_at_once() {
    let home = Home::with(FRESH).await;
    let (ours, theirs) = (home.tokens(), home.tokens());
    let first = ours.bearer().await.unwrap();
    let second = theirs.recover(&first).await.unwrap();
    home.clock.advance(RECOVERY_DELAY);
    assert_eq!(ours.recover(&first).await.unwrap().token.expose(), second.token.expose());
    let third = ours.recover(&second).await.unwrap();
    assert_ne!(third.token.expose(), second.token.expose());
    assert!(matches!(ours.recover(&third).await, Err(AuthError::TokenRefused { .. })));
    assert_eq!((home.issuer.calls().len(), home.issuer.reused()), (2, 0));
}

#[tokio::test]
async fn a_rejected_token_is_remembered_after_its_request_has_failed() {
    let home = Home::with(FRESH).await;
    let tokens = home.tokens();
    let first = tokens.bearer().await.unwrap();
    assert_eq!(tokens.refused(&first), None, "it replaced no other token");
    assert_eq!(tokens.check().await, Ok(SessionState::Working));
    let second = tokens.recover(&first).await.unwrap();
    assert!(tokens.refused(&second).is_some_and(|rest| rest <= RECOVERY_DELAY));
    assert!(matches!(tokens.check().await, Err(AuthError::TokenRefused { .. })));
    assert_eq!(home.issuer.calls().len(), 1);
}

#[tokio::test]
async fn an_ended_session_is_known_to_every_process_until_the_backend_accepts_its_token() {
    let home = Home::with(FRESH).await;
    let (ours, theirs) = (home.tokens(), home.tokens());
    let refused = ours.bearer().await.unwrap();
    home.issuer.script([Scripted::Answer(401, json!({"error": {"code": "refresh_token_invalidated"}}))]);
    let ended = ours.recover(&refused).await.unwrap_err();
    assert!(matches!(&ended, AuthError::Ended { .. }), "{ended}");
    for tokens in [&ours, &theirs] {
        assert_eq!(tokens.check().await, Err(ended.clone()));
        assert_eq!(tokens.fresh().await.unwrap_err(), ended);
    }
    assert!(home.stored("acct-1").await.unwrap().refused_at.is_some());
    let tried = ours.bearer().await.expect("a request still tries it");
    ours.accepted(&tried);
    assert!(matches!(ours.check().await, Ok(SessionState::Ending { expires_at: Some(_), .. })));
    let cleared = async {
        while home.stored("acct-1").await.unwrap().refused_at.is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), cleared).await.expect("the store is written");
    assert_eq!(home.issuer.calls().len(), 1);
}

#[tokio::test]
async fn a_token_that_is_rejected_after_its_refresh_was_ends_the_session() {
    let home = Home::with(EXPIRING).await;
    let tokens = home.tokens();
    home.issuer.script([Scripted::Answer(401, json!({"error": {"code": "refresh_token_reused"}}))]);
    let bearer = tokens.bearer().await.unwrap();
    tokens.settle().await;
    let state = tokens.check().await.unwrap();
    assert!(state.warning().is_some_and(|warning| warning.contains("codex-proxy login")), "{state:?}");
    assert!(tokens.fresh().await.is_ok());
    assert!(matches!(tokens.recover(&bearer).await, Err(AuthError::Ended { .. })));
    assert!(matches!(tokens.check().await, Err(AuthError::Ended { .. })));
    assert_eq!(home.issuer.calls().len(), 1);
}

#[tokio::test]
async fn a_refreshed_token_that_the_local_clock_calls_expired_is_used_and_not_refreshed_again() {
    let home = Home::with(EXPIRED).await;
    let long_ago = crate::fake_issuer::jwt("acct-1", SystemTime::UNIX_EPOCH, 7);
    home.issuer.script([Scripted::Grant(json!({"access_token": long_ago, "refresh_token": "rt_x"}))]);
    let tokens = home.tokens();
    for _ in 0..5 {
        assert_eq!(tokens.bearer().await.unwrap().token.expose(), long_ago);
    }
    assert_eq!(home.issuer.calls().len(), 1);
}

#[tokio::test]
async fn a_login_and_a_logout_of_another_process_are_noticed() {
    let home = Home::new().await;
    let tokens = home.tokens();
    assert_eq!(tokens.bearer().await.unwrap_err(), AuthError::SignedOut);
    assert_eq!(tokens.check().await.unwrap_err(), AuthError::SignedOut);
    home.put(&home.issuer.credential("acct-1", FRESH)).await;
    let first = tokens.bearer().await.unwrap();
    home.put(&home.issuer.credential("acct-2", FRESH)).await;
    let mut now = first.clone();
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = tokens.bearer().await.unwrap();
        if now.account.id == "acct-2" {
            break;
        }
    }
    assert_eq!(now.account.id, "acct-2");
    std::fs::remove_file(home.path()).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(tokens.bearer().await.unwrap_err(), AuthError::SignedOut);
}

#[tokio::test]
async fn tokens_are_refreshed_after_sleep_before_the_next_request() {
    let home = Home::with(FRESH).await;
    let tokens = home.tokens();
    let keeper = run(async move { tokens.renew_after_sleep(Duration::from_millis(20)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(home.issuer.calls().len(), 0);
    home.clock.advance(FRESH);
    home.issuer.arrived(1).await;
    keeper.abort();
}

#[tokio::test]
async fn clock_skew_of_hours_is_corrected_from_the_issuers_responses() {
    let home = Home::with(FRESH).await;
    // The fake issuer's responses contain the real time, by which its tokens expire.
    let end = SystemClock.now() + FRESH;
    let token = crate::fake_issuer::jwt("acct-1", end, 7);
    home.issuer.script([Scripted::Grant(json!({"access_token": token, "refresh_token": "rt_x"}))]);
    let clock: Arc<dyn Clock> = Arc::new(CorrectedClock::new(home.clock()));
    let http = crate::fake_issuer::http_client().with_clock(Arc::clone(&clock));
    let authority = Issuer::new(http, &home.issuer.settings());
    home.clock.advance(11 * FRESH);
    let tokens = Accounts::new(home.store(), authority, clock, None);
    assert_eq!(tokens.bearer().await.unwrap().token.expose(), token);
    home.clock.advance(Duration::from_secs(60));
    assert_eq!(tokens.bearer().await.unwrap().token.expose(), token);
    assert_eq!(home.issuer.calls().len(), 1);
}

#[tokio::test]
async fn settle_waits_for_a_refresh_in_progress() {
    let home = Home::with(EXPIRING).await;
    home.issuer.shut();
    let tokens = home.tokens();
    tokens.bearer().await.unwrap();
    home.issuer.arrived(1).await;
    let settled = run({
        let tokens = tokens.clone();
        async move { tokens.settle().await }
    });
    assert!(!settled.is_finished());
    home.issuer.open();
    settled.await.unwrap();
    assert_eq!(home.stored_refresh_token().await, "rt_2");
    until(|| home.issuer.newest_refresh_token() == "rt_2").await;
}
