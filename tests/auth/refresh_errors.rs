//! Failures of the issuer, the disk and the network during a refresh.

use std::time::Duration;

use codex_proxy::auth::{Accounts, Issuer, Store};
use codex_proxy::endpoint::{Endpoint, Trust};
use codex_proxy::token_source::{AuthError, TokenSource};
use serde_json::json;

use crate::fake_issuer::{Scripted, jwt, until};
use crate::{EXPIRED, EXPIRING, FRESH, Home};

fn nested(code: &str) -> serde_json::Value {
    json!({"error": {"message": "no", "type": "invalid_request_error", "param": null, "code": code}})
}

fn flat(code: &str) -> serde_json::Value {
    json!({"error": code, "error_description": "no"})
}

#[tokio::test]
async fn a_permanent_rejection_is_requested_once_and_cleared_by_a_changed_store() {
    let codes = ["refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated", "invalid_grant"];
    for answer in codes.map(nested).into_iter().chain(codes.map(flat)) {
        let home = Home::with(EXPIRED).await;
        let tokens = home.tokens();
        home.issuer.script([Scripted::Answer(400, answer.clone())]);
        let error = tokens.bearer().await.unwrap_err();
        assert!(matches!(&error, AuthError::Ended { .. }), "{answer}: {error}");
        for _ in 0..3 {
            assert_eq!(tokens.bearer().await.unwrap_err(), error);
        }
        assert_eq!(tokens.check().await.unwrap_err(), error);
        assert_eq!(home.issuer.calls().len(), 1, "{answer}");
        home.put(&home.issuer.credential("acct-1", FRESH)).await;
        assert!(tokens.bearer().await.is_ok(), "{answer}");
    }
}

#[tokio::test]
async fn a_transient_error_is_retried_with_backoff_and_keeps_the_login() {
    for scripted in [
        Scripted::Answer(500, json!({})),
        Scripted::Answer(503, flat("invalid_grant")),
        Scripted::Answer(429, json!({})),
        Scripted::Answer(200, json!([])),
        Scripted::Hang,
    ] {
        let home = Home::with(EXPIRED).await;
        let tokens = home.tokens();
        home.issuer.script([scripted]);
        for _ in 0..5 {
            assert!(matches!(tokens.bearer().await, Err(AuthError::Unavailable { .. })));
        }
        assert_eq!(home.issuer.calls().len(), 1);
        assert_eq!(home.stored_refresh_token().await, "rt_1");
        tokio::time::sleep(Duration::from_millis(1050)).await;
        assert!(tokens.bearer().await.is_ok());
        assert_eq!(home.issuer.calls().len(), 2);
    }
}

#[tokio::test]
async fn errors_name_the_time_of_the_next_attempt() {
    let home = Home::with(EXPIRED).await;
    let tokens = home.tokens();
    home.issuer.script([Scripted::Answer(503, json!({}))]);
    tokens.bearer().await.unwrap_err();
    let AuthError::Unavailable { retry_after, .. } = tokens.bearer().await.unwrap_err() else { panic!() };
    assert!(retry_after.is_some_and(|rest| rest <= Duration::from_secs(1)), "{retry_after:?}");
}

#[tokio::test]
async fn an_unreachable_issuer_is_reported_with_its_address() {
    let home = Home::with(EXPIRED).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut settings = home.issuer.settings();
    let address = format!("http://{free}");
    settings.issuer = Endpoint::parse(&address, Trust::KnownHosts).unwrap();
    let authority = Issuer::new(crate::fake_issuer::http_client(), &settings);
    let tokens = Accounts::new(home.store(), authority, home.clock(), None);
    let error = tokens.bearer().await.unwrap_err();
    assert!(matches!(&error, AuthError::Unavailable { message, .. } if message.contains("127.0.0.1")), "{error}");
}

#[tokio::test]
async fn a_failed_refresh_does_not_block_a_token_that_is_still_valid() {
    for scripted in [Scripted::Answer(500, json!({})), Scripted::Answer(401, nested("refresh_token_reused"))] {
        let home = Home::with(EXPIRING).await;
        let tokens = home.tokens();
        home.issuer.script([scripted]);
        let token = tokens.bearer().await.unwrap().token;
        tokens.settle().await;
        for _ in 0..5 {
            assert_eq!(tokens.bearer().await.unwrap().token.expose(), token.expose());
        }
        tokens.settle().await;
        assert_eq!(home.issuer.calls().len(), 1);
    }
}

#[tokio::test]
async fn members_missing_or_empty_in_a_response_keep_their_values() {
    let end = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let access = jwt("acct-1", end, 9);
    for answer in [
        json!({"access_token": access}),
        json!({"access_token": access, "refresh_token": null}),
        json!({"access_token": access, "refresh_token": ""}),
        json!({"access_token": access, "refresh_token": "", "id_token": ""}),
    ] {
        let home = Home::with(EXPIRED).await;
        let before = home.stored("acct-1").await.unwrap().id_token.unwrap();
        home.issuer.script([Scripted::Grant(answer.clone())]);
        assert_eq!(home.tokens().bearer().await.unwrap().token.expose(), access, "{answer}");
        let stored = home.stored("acct-1").await.unwrap();
        assert_eq!(stored.access_token.expose(), access, "{answer}");
        assert_eq!(stored.refresh_token.unwrap().expose(), "rt_1", "{answer}");
        assert_eq!(stored.id_token.unwrap().expose(), before.expose(), "{answer}");
        assert_eq!(home.issuer.calls().len(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_new_refresh_token_is_stored_even_if_the_response_has_no_access_token() {
    let home = Home::with(EXPIRED).await;
    home.issuer.script([Scripted::Grant(json!({"access_token": "", "refresh_token": "rt_new"}))]);
    let _ = home.tokens().bearer().await;
    assert_eq!(home.stored_refresh_token().await, "rt_new");
}

#[tokio::test]
async fn a_response_for_another_account_ends_the_session_and_is_not_stored() {
    let home = Home::with(EXPIRED).await;
    let end = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let other =
        json!({"id_token": jwt("acct-9", end, 0), "access_token": jwt("acct-9", end, 1), "refresh_token": "rt_9"});
    home.issuer.script([Scripted::Grant(other)]);
    let tokens = home.tokens();
    for _ in 0..3 {
        assert!(matches!(tokens.bearer().await, Err(AuthError::Ended { .. })));
    }
    assert_eq!(home.issuer.calls().len(), 1);
    assert_eq!(home.stored_refresh_token().await, "rt_1");
    assert!(home.stored("acct-9").await.is_none());
}

#[cfg(unix)]
#[tokio::test]
async fn no_refresh_token_is_used_if_the_store_cannot_be_written() {
    let home = Home::with(EXPIRED).await;
    // The name is too long to add the suffix of a temporary file, which also fails for root.
    let path = home.path().with_file_name("c".repeat(250));
    std::fs::copy(home.path(), &path).unwrap();
    let tokens = Accounts::new(Store::file(&path), home.issuer.authority(), home.clock(), None);
    let error = tokens.bearer().await.unwrap_err();
    assert!(matches!(&error, AuthError::Store { message } if message.contains("can't be written")), "{error}");
    assert_eq!(home.issuer.calls().len(), 0);
}

#[tokio::test]
async fn a_token_that_could_not_be_stored_is_used_and_stored_later() {
    let home = Home::with(EXPIRED).await;
    home.issuer.shut();
    let tokens = home.tokens();
    let caller = crate::fake_issuer::run({
        let tokens = tokens.clone();
        async move { tokens.bearer().await.unwrap().token.expose().to_owned() }
    });
    home.issuer.arrived(1).await;
    // The store was writable when the token was used; now its directory is in the way.
    let (data, aside) = (home.folder.path().join("data"), home.folder.path().join("aside"));
    std::fs::rename(&data, &aside).unwrap();
    std::fs::write(&data, "in the way").unwrap();
    home.issuer.open();
    let token = caller.await.unwrap();
    std::fs::remove_file(&data).unwrap();
    std::fs::rename(&aside, &data).unwrap();
    assert_eq!(tokens.bearer().await.unwrap().token.expose(), token);
    assert_eq!(home.stored_refresh_token().await, "rt_1");
    tokens.settle().await;
    assert_eq!(home.stored_refresh_token().await, "rt_2");
    assert_eq!((home.issuer.calls().len(), home.issuer.reused()), (1, 0));
}

#[tokio::test]
async fn no_other_process_sends_a_used_token_before_its_successor_is_stored() {
    let home = Home::with(EXPIRED).await;
    home.issuer.shut();
    let (tokens, other) = (home.tokens(), home.tokens());
    let caller = crate::fake_issuer::run({
        let tokens = tokens.clone();
        async move { tokens.bearer().await.unwrap().token.expose().to_owned() }
    });
    home.issuer.arrived(1).await;
    let (data, aside) = (home.folder.path().join("data"), home.folder.path().join("aside"));
    std::fs::rename(&data, &aside).unwrap();
    std::fs::write(&data, "in the way").unwrap();
    home.issuer.open();
    let token = caller.await.unwrap();
    std::fs::remove_file(&data).unwrap();
    std::fs::rename(&aside, &data).unwrap();
    assert_eq!(home.stored_refresh_token().await, "rt_1");
    // It waits for the lock of the other process, and finds the new token.
    assert_eq!(other.bearer().await.unwrap().token.expose(), token);
    assert_eq!((home.issuer.calls().len(), home.issuer.reused()), (1, 0));
}

#[tokio::test]
async fn a_store_that_fails_while_serving_does_not_stop_the_daemon() {
    let home = Home::with(FRESH).await;
    let tokens = home.tokens();
    let token = tokens.bearer().await.unwrap().token;
    std::fs::write(home.path(), "{").unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(tokens.bearer().await.unwrap().token.expose(), token.expose());
    until(|| std::fs::read_to_string(home.path()).is_ok_and(|text| text == "{")).await;
}
