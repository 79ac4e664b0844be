//! A credential file reached through symbolic links.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use codex_proxy::auth::{AccountSelection, Accounts, BackendKind, Keyring, Store, logout};
use codex_proxy::token_source::{AuthError, TokenSource};
use serde_json::{Value, json};

use crate::fake_issuer::{Scripted, run};
use crate::{EXPIRED, FRESH, Home};

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

fn tokens(home: &Home, path: &Path) -> Accounts {
    Accounts::new(Store::file(path), home.issuer.authority(), home.clock(), None)
}

/// A link in a separate directory.
fn link(home: &Home, name: &str, target: impl AsRef<Path>) -> PathBuf {
    let directory = home.folder.path().join(name);
    fs::create_dir(&directory).unwrap();
    let link = directory.join("credentials.json");
    symlink(target, &link).unwrap();
    link
}

#[tokio::test]
async fn processes_that_open_one_file_by_two_paths_use_a_refresh_token_once() {
    let home = Home::with(EXPIRED).await;
    let link = link(&home, "link", home.path());
    home.issuer.shut();
    let callers = [home.path(), link.clone()].map(|path| {
        let tokens = tokens(&home, &path);
        run(async move { tokens.bearer().await.unwrap().token.expose().to_owned() })
    });
    home.issuer.arrived(1).await;
    home.issuer.open();
    let [first, second] = callers;
    assert_eq!(first.await.unwrap(), second.await.unwrap());
    assert_eq!((home.issuer.calls().len(), home.issuer.reused()), (1, 0));
    assert_eq!(home.stored_refresh_token().await, home.issuer.newest_refresh_token());
    assert_eq!(names(link.parent().unwrap()), ["credentials.json"]);
}

#[tokio::test]
async fn all_files_of_the_store_are_next_to_the_link_target() {
    let store = ["credentials.json", "credentials.json.bak", "credentials.json.lock"];
    for case in ["a link", "a chain", "a relative link", "a link to nothing yet", "a link in the directory's path"] {
        let home = Home::new().await;
        let data = home.path().parent().unwrap().to_owned();
        if case != "a link to nothing yet" {
            home.put(&home.issuer.credential("acct-1", EXPIRED)).await;
        }
        let path = match case {
            "a chain" => link(&home, "second", link(&home, "first", home.path())),
            "a relative link" => link(&home, "link", "../data/credentials.json"),
            "a link in the directory's path" => {
                symlink(&data, home.folder.path().join("link")).unwrap();
                home.folder.path().join("link/credentials.json")
            }
            _ => link(&home, "link", home.path()),
        };
        let held = Store::file(&path).lock().await.unwrap();
        let mut document = held.read().await.unwrap();
        document.put(&home.issuer.credential("acct-1", EXPIRED));
        document.set_active("acct-1");
        held.write(&document).await.unwrap();
        drop(held);
        // A temporary file of a killed writer.
        fs::write(data.join(".credentials.json-x.tmp"), "half").unwrap();
        tokens(&home, &path).bearer().await.unwrap();
        assert_eq!(names(&data), store, "{case}");
        assert_eq!(home.stored_refresh_token().await, home.issuer.newest_refresh_token(), "{case}");
        assert_eq!(Store::file(&path).path(), fs::canonicalize(home.path()).unwrap(), "{case}");
        for directory in ["link", "first", "second"].map(|name| home.folder.path().join(name)) {
            if directory.exists() && !directory.is_symlink() {
                assert_eq!(names(&directory), ["credentials.json"], "{case}");
                assert!(directory.join("credentials.json").is_symlink(), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_link_that_replaces_the_file_is_followed() {
    let home = Home::with(EXPIRED).await;
    let tokens = home.tokens();
    let store = home.store();
    let moved = home.folder.path().join("moved.json");
    fs::rename(home.path(), &moved).unwrap();
    symlink(&moved, home.path()).unwrap();
    tokens.bearer().await.unwrap();
    assert!(home.path().is_symlink());
    assert!(fs::read_to_string(&moved).unwrap().contains("rt_2"));
    assert!(home.folder.path().join("moved.json.lock").exists());
    assert_eq!(store.path(), fs::canonicalize(&moved).unwrap());
}

#[tokio::test]
async fn a_damaged_link_target_is_moved_aside_and_restored_at_the_target() {
    let home = Home::with(EXPIRED).await;
    let link = link(&home, "link", home.path());
    let store = Store::file(&link);
    tokens(&home, &link).bearer().await.unwrap();
    fs::write(home.path(), "{").unwrap();
    let AuthError::Store { message } = tokens(&home, &link).bearer().await.unwrap_err() else { panic!() };
    assert!(message.contains("accounts restore"), "{message}");
    let restored = store.restore().await.unwrap();
    assert_eq!(fs::read_to_string(restored.damaged.unwrap()).unwrap(), "{");
    assert!(link.is_symlink() && !home.path().is_symlink());
    assert_eq!(home.stored_refresh_token().await, "rt_2");
    logout(&store, &home.issuer.authority(), AccountSelection::All).await.unwrap();
    assert!(!fs::read_to_string(home.path().with_file_name("credentials.json.bak")).unwrap().contains("rt_"));
}

#[tokio::test]
async fn a_login_that_moves_to_the_keyring_is_found_by_both_paths() {
    use keyring_core::{CredentialStore, mock};
    let home = Home::with(FRESH).await;
    let link = link(&home, "link", home.path());
    let keyring: std::sync::Arc<CredentialStore> = mock::Store::new().unwrap();
    let vault = Keyring::new(move || Ok(std::sync::Arc::clone(&keyring)));
    let by_link = Store::persistent(&link, BackendKind::File, vault.clone());
    let by_path = Store::persistent(home.path(), BackendKind::File, vault);
    by_link.move_to(BackendKind::Keyring).await.unwrap();
    assert!(by_path.read().await.unwrap().get("acct-1").unwrap().is_some());
    assert_eq!(by_path.location().await, by_link.location().await);
    assert!(!fs::exists(home.path()).unwrap());
    by_path.move_to(BackendKind::File).await.unwrap();
    assert!(by_link.read().await.unwrap().get("acct-1").unwrap().is_some() && link.is_symlink());
}

#[tokio::test]
async fn the_rejection_of_a_token_that_was_replaced_meanwhile_changes_nothing() {
    let home = Home::with(EXPIRED).await;
    home.issuer.script([Scripted::Answer(401, json!({"error": {"code": "refresh_token_reused"}}))]);
    home.issuer.shut();
    let tokens = home.tokens();
    let caller = run({
        let tokens = tokens.clone();
        async move { tokens.bearer().await.map(drop) }
    });
    home.issuer.arrived(1).await;
    // A program that ignores the lock has stored a new login.
    let winner = home.issuer.credential("acct-1", FRESH);
    let mut document = home.store().read().await.unwrap();
    document.put(&winner);
    fs::write(home.path(), document.to_text()).unwrap();
    home.issuer.open();
    assert!(matches!(caller.await.unwrap(), Err(AuthError::Ended { .. })));
    let stored = home.stored("acct-1").await.unwrap();
    assert_eq!((stored.refresh_token.unwrap().expose(), stored.refusal), ("rt_2", None));
    assert_eq!(tokens.bearer().await.unwrap().token.expose(), winner.access_token.expose());
}

#[tokio::test]
async fn a_recorded_rejection_keeps_what_was_stored_meanwhile() {
    let home = Home::with(EXPIRED).await;
    home.issuer.script([Scripted::Answer(401, json!({"error": {"code": "refresh_token_reused"}}))]);
    home.issuer.shut();
    let tokens = home.tokens();
    let caller = run(async move { tokens.bearer().await.map(drop) });
    home.issuer.arrived(1).await;
    let mut file: Value = serde_json::from_slice(&fs::read(home.path()).unwrap()).unwrap();
    file["accounts"]["acct-1"]["nickname"] = "work".into();
    fs::write(home.path(), file.to_string()).unwrap();
    home.issuer.open();
    assert!(matches!(caller.await.unwrap(), Err(AuthError::Ended { .. })));
    let file: Value = serde_json::from_slice(&fs::read(home.path()).unwrap()).unwrap();
    assert_eq!(file["accounts"]["acct-1"]["nickname"], "work");
    assert!(home.stored("acct-1").await.unwrap().refusal.is_some());
}
