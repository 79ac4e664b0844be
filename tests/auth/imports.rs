//! Imported and borrowed logins of other programs, and logout.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use codex_proxy::auth::{AccountSelection, ImportError, ImportMode, Ownership, Revocation, import, logout};
use codex_proxy::clock::Clock;
use codex_proxy::token_source::{AuthError, TokenSource};
use serde_json::{Value, json};

use crate::fake_issuer::{Scripted, jwt};
use crate::{EXPIRED, EXPIRING, FRESH, Home};

/// Writes the other program's file, with an access token that expires this long after now.
fn lend(home: &Home, account: &str, lifetime: Duration, serial: u32) -> PathBuf {
    let path = home.folder.path().join("auth.json");
    let end = home.clock.now() + lifetime;
    let file = json!({
        "auth_mode": "chatgpt", "OPENAI_API_KEY": null,
        "tokens": {"id_token": jwt(account, end, 0), "access_token": jwt(account, end, serial),
            "refresh_token": "rt_theirs", "account_id": null},
        "last_refresh": "2029-12-31T23:56:40.983630663Z",
    });
    fs::write(&path, file.to_string()).unwrap();
    path
}

async fn borrow(home: &Home, path: &Path) {
    import(&home.store(), &home.issuer.settings(), path, ImportMode::Borrow).await.unwrap();
}

#[tokio::test]
async fn a_borrowed_login_works_and_its_refresh_token_is_not_stored() {
    let home = Home::new().await;
    let path = lend(&home, "acct-1", FRESH, 1);
    let before = fs::read(&path).unwrap();
    borrow(&home, &path).await;
    assert_eq!(home.tokens().bearer().await.unwrap().account.id, "acct-1");
    assert!(!fs::read_to_string(home.path()).unwrap().contains("rt_theirs"));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_rejected_borrowed_token_is_reread_and_never_refreshed() {
    let home = Home::new().await;
    let path = lend(&home, "acct-1", FRESH, 1);
    borrow(&home, &path).await;
    let tokens = home.tokens();
    let rejected = tokens.bearer().await.unwrap();
    let error = tokens.recover(&rejected).await.unwrap_err();
    assert!(matches!(&error, AuthError::BorrowedEnded { owner } if owner == "the Codex CLI"), "{error}");
    tokio::time::sleep(Duration::from_millis(1050)).await;
    lend(&home, "acct-1", FRESH, 2);
    let renewed = tokens.recover(&rejected).await.unwrap();
    assert_ne!(renewed.token.expose(), rejected.token.expose());
    assert_eq!(home.issuer.calls().len(), 0);
}

#[tokio::test]
async fn an_expired_borrowed_login_names_its_owner_and_recovers_by_itself() {
    let home = Home::new().await;
    borrow(&home, &lend(&home, "acct-1", EXPIRED, 1)).await;
    let tokens = home.tokens();
    let error = tokens.bearer().await.unwrap_err();
    assert!(error.to_string().contains("the Codex CLI"), "{error}");
    assert_eq!(tokens.check().await.unwrap_err(), error);
    lend(&home, "acct-1", FRESH, 2);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert!(tokens.bearer().await.is_ok());
    assert_eq!(home.issuer.calls().len(), 0);
}

#[tokio::test]
async fn an_expiring_borrowed_token_is_used_until_its_owner_has_refreshed_it() {
    let home = Home::new().await;
    let path = lend(&home, "acct-1", EXPIRING, 1);
    borrow(&home, &path).await;
    let tokens = home.tokens();
    let old = tokens.bearer().await.unwrap();
    tokens.settle().await;
    assert_eq!(tokens.bearer().await.unwrap().token.expose(), old.token.expose());
    lend(&home, "acct-1", FRESH, 2);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    tokens.bearer().await.unwrap();
    tokens.settle().await;
    assert_ne!(tokens.bearer().await.unwrap().token.expose(), old.token.expose());
}

#[tokio::test]
async fn a_borrowed_login_is_reread_when_its_file_changes() {
    let home = Home::new().await;
    let path = lend(&home, "acct-1", FRESH, 1);
    borrow(&home, &path).await;
    let tokens = home.tokens();
    let first = tokens.bearer().await.unwrap();
    lend(&home, "acct-1", FRESH + FRESH, 22);
    // A daemon that starts now must not use the state stored when the login was borrowed.
    let newest = home.tokens().bearer().await.unwrap();
    assert_ne!(newest.token.expose(), first.token.expose());
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(tokens.bearer().await.unwrap().token.expose(), newest.token.expose());
    fs::write(&path, "{ half").unwrap();
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(tokens.bearer().await.unwrap().token.expose(), newest.token.expose());
}

#[tokio::test]
async fn the_token_files_of_other_libraries_are_borrowed_too() {
    let home = Home::new().await;
    let end = home.clock.now() + FRESH;
    let seconds = end.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for (expires_at, owner) in [(json!(seconds), "LiteLLM"), (json!("2030-01-02T00:00:00+00:00"), "LangChain")] {
        let path = home.folder.path().join(format!("{owner}.json"));
        let file = json!({"access_token": jwt("acct-1", end, 1), "refresh_token": "rt_theirs",
            "id_token": jwt("acct-1", end, 0), "account_id": "acct-1", "expires_at": expires_at});
        fs::write(&path, file.to_string()).unwrap();
        borrow(&home, &path).await;
        assert_eq!(home.tokens().bearer().await.unwrap().account.id, "acct-1");
        let stored = home.stored("acct-1").await.unwrap();
        assert!(matches!(&stored.ownership, Ownership::Borrowed { owner: reported, .. } if reported == owner));
        assert!(stored.refresh_token.is_none());
    }
}

#[tokio::test]
async fn another_account_in_the_owners_file_is_not_used() {
    let home = Home::new().await;
    borrow(&home, &lend(&home, "acct-1", EXPIRED, 1)).await;
    lend(&home, "acct-2", FRESH, 2);
    assert!(matches!(home.tokens().bearer().await, Err(AuthError::Ended { .. })));
}

#[tokio::test]
async fn an_imported_login_is_refreshed_by_us() {
    let home = Home::new().await;
    let path = lend(&home, "acct-1", EXPIRED, 1);
    let credential = import(&home.store(), &home.issuer.settings(), &path, ImportMode::TakeOver).await.unwrap();
    assert_eq!(credential.ownership, Ownership::Owned);
    let end = home.clock.now() + FRESH;
    home.issuer.script([Scripted::Grant(json!({"access_token": jwt("acct-1", end, 5), "refresh_token": "rt_ours"}))]);
    home.tokens().bearer().await.unwrap();
    assert!(home.issuer.calls()[0].body.contains("rt_theirs"));
    assert_eq!(home.stored_refresh_token().await, "rt_ours");
}

#[tokio::test]
async fn a_login_of_another_oauth_client_is_not_imported() {
    let home = Home::new().await;
    let path = lend(&home, "acct-1", FRESH, 1);
    let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    file["tokens"]["oauth_provenance"] = json!({"issuer": home.issuer.address, "client_id": "app_other"});
    fs::write(&path, file.to_string()).unwrap();
    let settings = home.issuer.settings();
    let error = import(&home.store(), &settings, &path, ImportMode::TakeOver).await.unwrap_err();
    assert!(matches!(error, ImportError::Unsuitable { .. }), "{error}");
    borrow(&home, &path).await;
}

#[tokio::test]
async fn a_file_that_is_not_a_login_is_rejected_with_its_path() {
    let home = Home::new().await;
    let path = home.folder.path().join("auth.json");
    let settings = home.issuer.settings();
    for (text, word) in [
        (r#"{"auth_mode":"apikey","OPENAI_API_KEY":"sk-SECRET"}"#, "API key"),
        (r#"{"personal_access_token":"at-SECRET"}"#, "personal access token"),
        (r#"{"tokens":{"access_token":"SECRET"}}"#, "no ChatGPT account"),
        ("SECRET", "not JSON"),
    ] {
        fs::write(&path, text).unwrap();
        let error = import(&home.store(), &settings, &path, ImportMode::Borrow).await.unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("auth.json") && !error.contains("SECRET"), "{error}");
    }
    fs::remove_file(&path).unwrap();
    let error = import(&home.store(), &settings, &path, ImportMode::Borrow).await.unwrap_err();
    assert!(matches!(error, ImportError::NoFile { .. }), "{error}");
    assert!(!home.path().exists());
}

#[tokio::test]
async fn a_byte_order_mark_does_not_hide_a_login() {
    let home = Home::new().await;
    let path = lend(&home, "acct-1", FRESH, 1);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("\u{feff}{text}")).unwrap();
    for rights in [ImportMode::TakeOver, ImportMode::Borrow] {
        import(&home.store(), &home.issuer.settings(), &path, rights).await.unwrap();
        assert!(home.tokens().bearer().await.is_ok());
    }
    // An editor may add a byte order mark to our own file, too.
    let ours = fs::read_to_string(home.path()).unwrap();
    fs::write(home.path(), format!("\u{feff}{ours}")).unwrap();
    assert!(home.stored("acct-1").await.is_some());
}

#[cfg(unix)]
#[tokio::test]
async fn only_a_regular_file_of_at_most_a_megabyte_is_imported() {
    let home = Home::new().await;
    let settings = home.issuer.settings();
    let path = |name: &str| home.folder.path().join(name);
    assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    fs::create_dir(path("directory")).unwrap();
    fs::write(path("long"), " ".repeat(1024 * 1024 + 1)).unwrap();
    for (file, word) in [
        (path("pipe"), "not a regular file"),
        (path("directory"), "not a regular file"),
        ("/dev/zero".into(), "not a regular file"),
        (path("long"), "longer than 1048576 bytes"),
    ] {
        let store = home.store();
        let imported = import(&store, &settings, &file, ImportMode::Borrow);
        let error = tokio::time::timeout(Duration::from_secs(5), imported).await.unwrap().unwrap_err();
        assert!(matches!(error, ImportError::Unsuitable { .. }) && error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_logout_revokes_and_removes_the_login() {
    let home = Home::with(FRESH).await;
    home.put(&home.issuer.credential("acct-2", FRESH)).await;
    let left = logout(&home.store(), &home.issuer.authority(), AccountSelection::Active).await.unwrap();
    assert_eq!((left.len(), &left[0].revocation), (1, &Revocation::Done));
    let call = home.issuer.calls().remove(0);
    let want = json!({"token": "rt_2", "token_type_hint": "refresh_token", "client_id": "app_test"});
    assert_eq!((call.path.as_str(), serde_json::from_str::<Value>(&call.body).unwrap()), ("/oauth/revoke", want));
    assert_eq!(call.headers["originator"], "codex_proxy");
    assert!(home.stored("acct-1").await.is_some() && home.stored("acct-2").await.is_none());
    // No other account is selected automatically.
    assert_eq!(home.tokens().bearer().await.unwrap_err(), AuthError::NoActiveAccount);
}

#[tokio::test]
async fn a_logout_removes_the_login_even_if_revocation_fails() {
    for scripted in [Scripted::Answer(500, json!({})), Scripted::Hang] {
        let home = Home::with(FRESH).await;
        home.issuer.script([scripted]);
        let left = logout(&home.store(), &home.issuer.authority(), AccountSelection::Account("acct-1")).await.unwrap();
        assert!(matches!(left[0].revocation, Revocation::Failed(_)));
        assert!(home.stored("acct-1").await.is_none());
        assert_eq!(logout(&home.store(), &home.issuer.authority(), AccountSelection::All).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_borrowed_login_is_removed_and_not_revoked() {
    let home = Home::new().await;
    let path = lend(&home, "acct-1", FRESH, 1);
    borrow(&home, &path).await;
    let left = logout(&home.store(), &home.issuer.authority(), AccountSelection::All).await.unwrap();
    assert_eq!(left[0].revocation, Revocation::NotOurs);
    assert!(path.exists() && home.issuer.calls().is_empty());
}
