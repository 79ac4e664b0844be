//! Several accounts, and the selection of one.

use codex_proxy::auth::{Accounts, activate};
use codex_proxy::token_source::{AccountChoice, AuthError, TokenSource};

use crate::{EXPIRED, FRESH, Home};

fn choice(id: &str) -> AccountChoice {
    AccountChoice { account_id: id.to_owned(), by: "the test".to_owned() }
}

#[tokio::test]
async fn the_configured_account_is_used_whichever_is_active() {
    let home = Home::with(FRESH).await;
    home.put(&home.issuer.credential("acct-2", FRESH)).await;
    let chosen = Accounts::new(home.store(), home.issuer.authority(), home.clock(), Some(choice("acct-1")));
    assert_eq!(chosen.bearer().await.unwrap().account.id, "acct-1");
    assert_eq!(home.tokens().bearer().await.unwrap().account.id, "acct-2");
}

#[tokio::test]
async fn a_request_can_name_an_account_beside_the_active_one() {
    let home = Home::with(FRESH).await;
    home.put(&home.issuer.credential("acct-2", FRESH)).await;
    let accounts = home.tokens();
    let named = accounts.choose(&choice("acct-1")).await.unwrap();
    assert_eq!(named.bearer().await.unwrap().account.id, "acct-1");
    assert_eq!(accounts.bearer().await.unwrap().account.id, "acct-2");
}

#[tokio::test]
async fn an_account_that_is_not_signed_in_is_refused_and_never_replaced() {
    let home = Home::with(FRESH).await;
    let want = AuthError::UnknownAccount { chosen_by: "the test".to_owned() };
    assert_eq!(home.tokens().choose(&choice("acct-9")).await.unwrap_err(), want);
    let chosen = Accounts::new(home.store(), home.issuer.authority(), home.clock(), Some(choice("acct-9")));
    assert_eq!(chosen.bearer().await.unwrap_err(), want);
    assert_eq!(chosen.check().await.unwrap_err(), want);
    assert!(matches!(activate(&home.store(), "acct-9").await, Err(AuthError::UnknownAccount { .. })));
}

#[tokio::test]
async fn a_refused_token_is_replaced_by_one_of_its_own_account() {
    let home = Home::with(FRESH).await;
    let accounts = home.tokens();
    let rejected = accounts.bearer().await.unwrap();
    let renewable = home.issuer.credential("acct-1", FRESH);
    home.put(&renewable).await;
    home.put(&home.issuer.credential("acct-2", FRESH)).await;
    let replaced = accounts.recover(&rejected).await.unwrap();
    assert_eq!(replaced.account.id, "acct-1");
    assert_ne!(replaced.token.expose(), rejected.token.expose());
}

#[tokio::test]
async fn one_refresh_serves_an_account_however_it_was_selected() {
    let home = Home::with(EXPIRED).await;
    let accounts = home.tokens();
    let named = accounts.choose(&choice("acct-1")).await.unwrap();
    let (a, b) = tokio::join!(accounts.bearer(), named.bearer());
    assert_eq!(a.unwrap().token.expose(), b.unwrap().token.expose());
    assert_eq!(home.issuer.calls().len(), 1);
}

#[tokio::test]
async fn the_active_account_can_be_changed_and_is_not_replaced_when_removed() {
    let home = Home::with(FRESH).await;
    home.put(&home.issuer.credential("acct-2", FRESH)).await;
    activate(&home.store(), "acct-1").await.unwrap();
    assert_eq!(home.tokens().bearer().await.unwrap().account.id, "acct-1");
    let which = codex_proxy::auth::AccountSelection::Account("acct-1");
    codex_proxy::auth::logout(&home.store(), &home.issuer.authority(), which).await.unwrap();
    assert_eq!(home.tokens().bearer().await.unwrap_err(), AuthError::NoActiveAccount);
    activate(&home.store(), "acct-2").await.unwrap();
    assert_eq!(home.tokens().bearer().await.unwrap().account.id, "acct-2");
}
