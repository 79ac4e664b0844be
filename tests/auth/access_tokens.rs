//! Access tokens without a refresh token: from a login, or from the environment.

use std::time::Duration;

use codex_proxy::auth::{AccessToken, AccessTokenError, Accounts, EnvToken, TokenState, adopt, status};
use codex_proxy::clock::Clock;
use codex_proxy::token_source::{AccountChoice, AuthError, SessionState, TokenSource};
use serde_json::json;

use crate::fake_issuer::{Scripted, jwt, run};
use crate::{EXPIRED, EXPIRING, FRESH, Home};

fn owner() -> Scripted {
    let body = json!({"email": "ann@example.com", "chatgpt_user_id": "user-1", "chatgpt_account_id": "acct-w",
        "chatgpt_plan_type": "business", "chatgpt_account_is_fedramp": true});
    Scripted::Answer(200, body)
}

fn own_token(home: &Home, lifetime: Duration) -> AccessToken {
    AccessToken::parse(&jwt("acct-1", home.clock.now() + lifetime, 1)).unwrap()
}

async fn signed_in(home: &Home, token: &AccessToken) -> Result<String, AccessTokenError> {
    let adopted = adopt(&home.store(), &home.issuer.authority(), &*home.clock, token).await;
    adopted.map(|credential| credential.account_id)
}

fn given(home: &Home, token: AccessToken) -> Accounts {
    let given = EnvToken { variable: "CODEX_PROXY_ACCESS_TOKEN", token: Ok(token) };
    Accounts::from_env(given, home.store(), home.issuer.authority(), home.clock())
}

#[tokio::test]
async fn a_workspace_token_is_checked_and_never_expires() {
    let home = Home::new().await;
    home.issuer.script([owner()]);
    let token = AccessToken::parse("at-SECRET").unwrap();
    assert_eq!(signed_in(&home, &token).await.unwrap(), "acct-w");
    let call = home.issuer.calls().remove(0);
    assert_eq!(call.path, "/api/accounts/v1/user-auth-credential/whoami");
    assert_eq!(call.headers["authorization"], "Bearer at-SECRET");
    assert_eq!(
        (&call.headers["originator"], &call.headers["user-agent"]),
        (&"codex_proxy".parse().unwrap(), &"codex-proxy/test".parse().unwrap())
    );
    home.clock.advance(Duration::from_secs(60 * 24 * 3600));
    let bearer = home.tokens().bearer().await.unwrap();
    assert!(bearer.account.is_fedramp && bearer.token.expose() == "at-SECRET");
    let profile = status(&home.store(), &*home.clock, None).await.unwrap().accounts.remove(0);
    assert_eq!((profile.state, profile.is_renewable, profile.expires_at), (TokenState::Fresh, false, None));
    assert_eq!(home.issuer.calls().len(), 1);
}

#[tokio::test]
async fn a_token_without_an_account_is_not_stored() {
    let home = Home::new().await;
    let token = AccessToken::parse("at-1").unwrap();
    for answer in [Scripted::Answer(401, json!({"error": {"code": "invalid_token"}})), Scripted::Answer(200, json!({}))]
    {
        home.issuer.script([answer]);
        assert!(matches!(signed_in(&home, &token).await, Err(AccessTokenError::Issuer(_))));
    }
    assert_eq!(signed_in(&home, &own_token(&home, EXPIRED)).await, Err(AccessTokenError::Expired));
    assert!(!home.path().exists());
}

#[tokio::test]
async fn a_chatgpt_session_token_is_used_until_it_expires_and_never_refreshed() {
    let home = Home::new().await;
    assert_eq!(signed_in(&home, &own_token(&home, EXPIRING)).await.unwrap(), "acct-1");
    let tokens = home.tokens();
    let bearer = tokens.bearer().await.unwrap();
    assert!(matches!(tokens.recover(&bearer).await, Err(AuthError::Ended { .. })));
    assert!(matches!(tokens.check().await, Err(AuthError::Ended { .. })));
    tokens.accepted(&bearer);
    assert_eq!(tokens.check().await, Ok(SessionState::Working));
    home.clock.advance(EXPIRING);
    assert!(matches!(home.tokens().bearer().await, Err(AuthError::Ended { .. })));
    assert!(matches!(home.tokens().check().await, Err(AuthError::Ended { .. })));
    assert!(home.issuer.calls().is_empty());
}

#[tokio::test]
async fn the_token_of_the_environment_takes_precedence_over_the_store() {
    let home = Home::with(FRESH).await;
    home.put(&home.issuer.credential("acct-2", FRESH)).await;
    let before = std::fs::read(home.path()).unwrap();
    let accounts = given(&home, own_token(&home, FRESH));
    assert_eq!(accounts.bearer().await.unwrap().account.id, "acct-1");
    let choose = |id: &str| AccountChoice { account_id: id.to_owned(), by: "the test".to_owned() };
    assert!(accounts.choose(&choose("acct-1")).await.is_ok());
    assert!(matches!(accounts.choose(&choose("acct-2")).await, Err(AuthError::UnknownAccount { .. })));
    let rejected = accounts.bearer().await.unwrap();
    let error = accounts.recover(&rejected).await.unwrap_err();
    assert!(error.to_string().contains("CODEX_PROXY_ACCESS_TOKEN"), "{error}");
    assert_eq!(accounts.check().await, Err(error));
    accounts.accepted(&rejected);
    assert_eq!(accounts.check().await, Ok(SessionState::Working));
    home.clock.advance(FRESH);
    assert!(matches!(accounts.bearer().await, Err(AuthError::EnvTokenUnusable { .. })));
    assert!(matches!(accounts.check().await, Err(AuthError::EnvTokenUnusable { .. })));
    assert_eq!(std::fs::read(home.path()).unwrap(), before);
    assert!(home.issuer.calls().is_empty());
}

#[tokio::test]
async fn the_account_of_a_workspace_token_is_requested_once_and_not_at_startup() {
    let home = Home::new().await;
    let accounts = given(&home, AccessToken::parse("at-1").unwrap());
    assert_eq!((accounts.check().await, home.issuer.calls().len()), (Ok(SessionState::Working), 0));
    home.issuer.script([owner()]);
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let accounts = accounts.clone();
            run(async move { accounts.bearer().await.unwrap().account.id })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "acct-w");
    }
    assert_eq!(home.issuer.calls().len(), 1);
}

#[tokio::test]
async fn a_failed_account_request_is_not_repeated_for_every_request() {
    let home = Home::new().await;
    let accounts = given(&home, AccessToken::parse("at-1").unwrap());
    home.issuer.script([Scripted::Answer(503, json!({}))]);
    for _ in 0..5 {
        assert!(matches!(accounts.bearer().await, Err(AuthError::Unavailable { .. })));
    }
    assert_eq!(home.issuer.calls().len(), 1);
}

#[tokio::test]
async fn a_token_for_another_audience_is_not_treated_as_expiring() {
    let home = Home::with(EXPIRING).await;
    let old = home.stored("acct-1").await.unwrap().access_token;
    let fresh = home.tokens().fresh().await.unwrap();
    assert_ne!(fresh.token.expose(), old.expose());
    assert_eq!(home.stored("acct-1").await.unwrap().access_token.expose(), fresh.token.expose());

    let home = Home::with(EXPIRING).await;
    home.issuer.script([Scripted::Answer(503, json!({}))]);
    let old = home.stored("acct-1").await.unwrap().access_token;
    assert_eq!(home.tokens().fresh().await.unwrap().token.expose(), old.expose());
}
