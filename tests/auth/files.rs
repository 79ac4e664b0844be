//! The credential file: what is preserved, rejected, and never overwritten.

use std::fs;

use codex_proxy::auth::{AccountSelection, Accounts, Login, Ports, Store, TokenState, logout, status};
use codex_proxy::token_source::{AuthError, TokenSource};
use serde_json::Value;

use crate::{EXPIRED, FRESH, Home};

#[tokio::test]
async fn a_second_account_does_not_overwrite_the_first() {
    let home = Home::with(FRESH).await;
    home.put(&home.issuer.credential("acct-2", FRESH)).await;
    let document = home.store().read().await.unwrap();
    assert_eq!(document.ids().collect::<Vec<_>>(), ["acct-1", "acct-2"]);
    assert_eq!(document.active(), Some("acct-2"));
}

#[tokio::test]
async fn unknown_members_survive_a_refresh() {
    let home = Home::with(EXPIRED).await;
    let mut file: Value = serde_json::from_slice(&fs::read(home.path()).unwrap()).unwrap();
    file["later"] = "kept".into();
    file["accounts"]["acct-1"]["nickname"] = "work".into();
    fs::write(home.path(), file.to_string()).unwrap();
    home.tokens().bearer().await.unwrap();
    let file: Value = serde_json::from_slice(&fs::read(home.path()).unwrap()).unwrap();
    assert_eq!((&file["later"], &file["accounts"]["acct-1"]["nickname"]), (&"kept".into(), &"work".into()));
    assert_eq!(file["accounts"]["acct-1"]["refresh_token"], "rt_2");
}

#[tokio::test]
async fn an_unreadable_file_is_never_overwritten() {
    let whole = {
        let home = Home::with(FRESH).await;
        fs::read_to_string(home.path()).unwrap()
    };
    let truncated = whole.split_at(whole.len() / 2).0;
    let newer = r#"{"version": 99, "accounts": {}}"#;
    for text in ["", "garbage", "[]", r#"{"auth_mode":"chatgpt","tokens":{}}"#, newer, truncated] {
        let home = Home::with(FRESH).await;
        fs::write(home.path(), text).unwrap();
        let tokens = home.tokens();
        let AuthError::Store { message } = tokens.bearer().await.unwrap_err() else { panic!("{text}") };
        assert!(
            message.contains("credentials.json") && message.contains("codex-proxy ") && message.ends_with('`'),
            "{message}"
        );
        assert!(matches!(tokens.check().await, Err(AuthError::Store { .. })));
        let ports = Ports::only(0);
        let issuer = &home.issuer;
        let settings = issuer.settings();
        let login = Login::start(&settings, issuer.authority(), home.store(), home.clock(), ports).await;
        assert!(login.is_err());
        assert!(logout(&home.store(), &issuer.authority(), AccountSelection::All).await.is_err());
        assert_eq!(fs::read_to_string(home.path()).unwrap(), text);
        assert_eq!(issuer.calls().len(), 0);
    }
}

#[tokio::test]
async fn temporary_files_of_a_killed_writer_are_ignored_and_removed() {
    let home = Home::with(EXPIRED).await;
    let folder = home.path().parent().unwrap().to_owned();
    let whole = fs::read(home.path()).unwrap();
    // Killed after creating the temporary file, while writing it, and before the rename.
    for (name, length) in [("a", 0), ("b", whole.len() / 2), ("c", whole.len())] {
        fs::write(folder.join(format!(".credentials.json-{name}.tmp")), &whole[..length]).unwrap();
        assert!(home.stored("acct-1").await.is_some());
    }
    fs::write(folder.join("mine.tmp"), "not our format").unwrap();
    home.tokens().bearer().await.unwrap();
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["credentials.json", "credentials.json.bak", "credentials.json.lock", "mine.tmp"]);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_written_files() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let home = Home::with(EXPIRED).await;
    assert_eq!(mode(&home.path()), 0o600);
    assert_eq!(mode(home.path().parent().unwrap()), 0o700);
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o644)).unwrap();
    home.tokens().bearer().await.unwrap();
    assert_eq!(mode(&home.path()), 0o600);
}

#[cfg(unix)]
#[tokio::test]
async fn permissions_of_others_are_removed_when_the_file_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::with(FRESH).await;
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o640)).unwrap();
    home.tokens().bearer().await.unwrap();
    assert_eq!(fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

fn copy_of(home: &Home) -> std::path::PathBuf {
    home.path().with_file_name("credentials.json.bak")
}

#[tokio::test]
async fn a_damaged_file_is_restored_from_its_last_good_copy_on_request() {
    let home = Home::with(EXPIRED).await;
    home.tokens().bearer().await.unwrap();
    let whole = fs::read_to_string(home.path()).unwrap();
    for damaged in ["", "{", "\0\0\0", whole.split_at(whole.len() / 2).0, &whole.replace("access_token", "no")] {
        fs::write(home.path(), damaged).unwrap();
        let AuthError::Store { message } = home.tokens().bearer().await.unwrap_err() else { panic!("{damaged}") };
        assert!(message.contains("credentials.json") && message.contains("accounts restore"), "{message}");
        assert_eq!(fs::read_to_string(home.path()).unwrap(), damaged);
        let restored = home.store().restore().await.unwrap();
        assert_eq!(restored.accounts, 1);
        assert_eq!(fs::read_to_string(restored.damaged.unwrap()).unwrap(), damaged);
        assert_eq!(home.stored_refresh_token().await, "rt_2");
    }
    assert_eq!((home.issuer.calls().len(), home.issuer.reused()), (1, 0));
}

#[tokio::test]
async fn valid_foreign_and_newer_files_are_not_replaced_by_the_copy() {
    let home = Home::with(FRESH).await;
    assert!(home.store().restore().await.is_err());
    for text in [r#"{"auth_mode":"chatgpt","tokens":{}}"#, r#"{"version":99,"accounts":{},"written_by":"9.1.0"}"#] {
        fs::write(home.path(), text).unwrap();
        let error = home.store().restore().await.unwrap_err();
        assert_eq!(fs::read_to_string(home.path()).unwrap(), text);
        let reported = error.to_string();
        assert!(reported.contains("login --import") || reported.contains("codex-proxy 9.1.0"), "{reported}");
    }
    fs::write(home.path(), "{").unwrap();
    fs::write(copy_of(&home), "{").unwrap();
    let reported = home.store().restore().await.unwrap_err().to_string();
    assert!(reported.contains("no good copy"), "{reported}");
    let reported = home.tokens().bearer().await.unwrap_err().to_string();
    assert!(!reported.contains("restore") && reported.contains("codex-proxy login"), "{reported}");
}

#[tokio::test]
async fn the_copy_is_as_private_as_the_file_and_has_no_removed_account() {
    let home = Home::with(EXPIRED).await;
    home.tokens().bearer().await.unwrap();
    assert_eq!(fs::read(copy_of(&home)).unwrap(), fs::read(home.path()).unwrap());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(copy_of(&home)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    logout(&home.store(), &home.issuer.authority(), AccountSelection::All).await.unwrap();
    assert!(!fs::read_to_string(copy_of(&home)).unwrap().contains("rt_"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_symbolic_link_to_the_file_is_kept() {
    let home = Home::with(EXPIRED).await;
    let real = home.folder.path().join("real.json");
    fs::rename(home.path(), &real).unwrap();
    std::os::unix::fs::symlink(&real, home.path()).unwrap();
    home.tokens().bearer().await.unwrap();
    assert!(fs::symlink_metadata(home.path()).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains("rt_2"));
}

#[tokio::test]
async fn concurrent_writers_are_serialized() {
    let home = Home::with(FRESH).await;
    let held = home.store().lock().await.unwrap();
    let store = home.store();
    let second = crate::fake_issuer::run(async move { store.lock().await.map(drop) });
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    assert!(!second.is_finished());
    drop(held);
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_store_in_memory_writes_no_file_and_refreshes() {
    let home = Home::new().await;
    let store = Store::memory(&home.issuer.credential("acct-1", EXPIRED));
    let tokens = Accounts::new(store.clone(), home.issuer.authority(), home.clock(), None);
    tokens.bearer().await.unwrap();
    let stored = store.read().await.unwrap().get("acct-1").unwrap().unwrap();
    assert_eq!(stored.refresh_token.unwrap().expose(), "rt_2");
    assert_eq!(fs::read_dir(home.folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_status_has_accounts_and_no_tokens() {
    let home = Home::with(FRESH).await;
    home.put(&home.issuer.credential("acct-2", EXPIRED)).await;
    let status = status(&home.store(), &*home.clock, None).await.unwrap();
    let found: Vec<_> = status.accounts.iter().map(|profile| (profile.is_active, profile.state)).collect();
    assert_eq!(found, [(false, TokenState::Fresh), (true, TokenState::Renewable)]);
    assert_eq!(status.active().unwrap().plan.as_deref(), Some("plus"));
    let json = serde_json::to_string(&status.accounts).unwrap();
    assert!(json.contains("2030-01-0") && json.contains("ann@example.com"), "{json}");
    assert!(!json.contains("rt_") && !json.contains("e30."), "{json}");
    assert!(!format!("{status:?}").contains("ann@"));
}
