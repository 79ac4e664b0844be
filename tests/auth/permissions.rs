//! Directories in which other users could replace the credential file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use codex_proxy::auth::{AccountSelection, ImportMode, Login, LoginError, Ports, activate, import, logout};
use codex_proxy::token_source::{AuthError, TokenSource as _};

use crate::{EXPIRED, FRESH, Home};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn refusal(error: &AuthError) -> &str {
    let AuthError::Store { message } = error else { panic!("{error}") };
    message
}

#[tokio::test]
async fn credentials_in_a_directory_writable_by_others_are_rejected_with_the_command_that_fixes_it() {
    for mode in [0o777, 0o770, 0o722, 0o2775] {
        let home = Home::with(EXPIRED).await;
        let directory = fs::canonicalize(home.path().parent().unwrap()).unwrap();
        let before = fs::read(home.path()).unwrap();
        set_mode(&directory, mode);
        let tokens = home.tokens();
        let error = tokens.bearer().await.unwrap_err();
        let message = refusal(&error);
        assert!(message.ends_with(&format!(": `chmod go-w {}`", directory.display())), "{message}");
        assert!(message.contains(&format!("(mode {mode:04o})")), "{message}");
        assert!(matches!(tokens.check().await, Err(AuthError::Store { .. })));
        let (issuer, settings) = (&home.issuer, home.issuer.settings());
        let login = Login::start(&settings, issuer.authority(), home.store(), home.clock(), Ports::only(0)).await;
        assert!(matches!(login, Err(LoginError::Store(_))));
        assert!(import(&home.store(), &settings, &home.path(), ImportMode::Borrow).await.is_err());
        assert!(logout(&home.store(), &issuer.authority(), AccountSelection::All).await.is_err());
        assert!(activate(&home.store(), "acct-1").await.is_err());
        assert_eq!((home.issuer.calls().len(), fs::read(home.path()).unwrap()), (0, before));
        set_mode(&directory, mode & !0o022);
        home.tokens().bearer().await.unwrap();
        assert_eq!(home.stored_refresh_token().await, "rt_2");
    }
}

#[tokio::test]
async fn the_directory_of_the_real_file_counts_and_not_that_of_a_link() {
    let home = Home::with(FRESH).await;
    let link = home.folder.path().join("link.json");
    std::os::unix::fs::symlink(home.path(), &link).unwrap();
    let store = codex_proxy::auth::Store::file(&link);
    set_mode(home.folder.path(), 0o777);
    assert!(store.read().await.is_ok());
    set_mode(home.path().parent().unwrap(), 0o777);
    assert!(refusal(&store.read().await.unwrap_err()).contains("chmod go-w"));
}

#[tokio::test]
async fn a_sticky_directory_and_one_that_others_only_read_are_accepted() {
    for mode in [0o1777, 0o755, 0o750] {
        let home = Home::with(EXPIRED).await;
        set_mode(home.path().parent().unwrap(), mode);
        home.tokens().bearer().await.unwrap();
    }
}

#[tokio::test]
async fn a_signed_in_daemon_keeps_working_when_its_directory_becomes_writable_by_others() {
    let home = Home::with(FRESH).await;
    let tokens = home.tokens();
    let token = tokens.bearer().await.unwrap().token;
    set_mode(home.path().parent().unwrap(), 0o777);
    home.clock.advance(FRESH);
    assert!(matches!(tokens.bearer().await, Err(AuthError::Store { .. })), "no refresh token is used");
    assert_eq!(home.issuer.calls().len(), 0);
    set_mode(home.path().parent().unwrap(), 0o700);
    tokio::time::sleep(std::time::Duration::from_millis(1050)).await;
    assert_ne!(tokens.bearer().await.unwrap().token.expose(), token.expose());
}
