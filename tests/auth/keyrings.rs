//! The store in a keyring: the same guarantees as for a file, moves without loss, and keyrings that are
//! missing, locked, or hang.

use std::any::Any;
use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use codex_proxy::auth::{Accounts, BackendKind, Keyring, Location, Store};
use codex_proxy::token_source::{AuthError, TokenSource as _};
use keyring_core::api::{CredentialApi, CredentialStoreApi};
use keyring_core::{Credential, CredentialStore, Entry, Error, mock};

use crate::{EXPIRED, FRESH, Home};

/// A keyring that fails after a number of changes.
#[derive(Debug)]
struct Failing {
    inner: Arc<mock::Store>,
    changes_left: Arc<AtomicU64>,
}

#[derive(Debug)]
struct FailingEntry {
    inner: Entry,
    changes_left: Arc<AtomicU64>,
}

impl FailingEntry {
    fn spend(&self) -> keyring_core::Result<()> {
        let spent = self.changes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        spent.map(drop).map_err(|_| Error::PlatformFailure("the power went".into()))
    }
}

impl CredentialStoreApi for Failing {
    fn vendor(&self) -> String {
        self.inner.vendor()
    }

    fn id(&self) -> String {
        self.inner.id()
    }

    fn build(&self, service: &str, user: &str, mods: Option<&HashMap<&str, &str>>) -> keyring_core::Result<Entry> {
        let inner = self.inner.build(service, user, mods)?;
        let changes_left = Arc::clone(&self.changes_left);
        Ok(Entry::new_with_credential(Arc::new(FailingEntry { inner, changes_left })))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl CredentialApi for FailingEntry {
    fn set_secret(&self, secret: &[u8]) -> keyring_core::Result<()> {
        self.spend()?;
        self.inner.set_secret(secret)
    }

    fn get_secret(&self) -> keyring_core::Result<Vec<u8>> {
        self.inner.get_secret()
    }

    fn delete_credential(&self) -> keyring_core::Result<()> {
        self.inner.get_secret()?;
        self.spend()?;
        self.inner.delete_credential()
    }

    fn get_credential(&self) -> keyring_core::Result<Option<Arc<Credential>>> {
        Ok(None)
    }

    fn get_specifiers(&self) -> Option<(String, String)> {
        None
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A keyring with a small entry size, like that of Windows.
fn keyring() -> (Arc<mock::Store>, Keyring) {
    let keyring = mock::Store::new().unwrap();
    let opened: Arc<CredentialStore> = Arc::clone(&keyring) as _;
    (keyring, Keyring::new(move || Ok(Arc::clone(&opened))).with_entry_limit(300))
}

fn failing_after(keyring: &Arc<mock::Store>, changes: u64) -> Keyring {
    let (inner, changes_left) = (Arc::clone(keyring), Arc::new(AtomicU64::new(changes)));
    let failing: Arc<CredentialStore> = Arc::new(Failing { inner, changes_left });
    Keyring::new(move || Ok(Arc::clone(&failing))).with_entry_limit(300)
}

fn absent() -> Keyring {
    Keyring::new(|| Err(Error::PlatformFailure("no session bus".into())))
}

fn in_keyring(home: &Home, vault: &Keyring) -> Store {
    Store::persistent(home.path(), BackendKind::Keyring, vault.clone())
}

fn accounts(home: &Home, store: Store) -> Accounts {
    Accounts::new(store, home.issuer.authority(), home.clock(), None)
}

async fn sign_in(home: &Home, store: &Store, lifetime: Duration) {
    let held = store.lock().await.unwrap();
    let mut document = held.read().await.unwrap();
    document.put(&home.issuer.credential("acct-1", lifetime));
    document.set_active("acct-1");
    held.write(&document).await.unwrap();
}

async fn refresh_token(store: &Store) -> Option<String> {
    let credential = store.read().await.unwrap().get("acct-1").unwrap()?;
    Some(credential.refresh_token.unwrap().expose().to_owned())
}

fn is_in_keyring(location: &Location) -> bool {
    matches!(location, Location::Keyring(_))
}

#[tokio::test]
async fn a_login_is_stored_in_the_keyring_and_no_secret_on_disk() {
    let (home, (_, vault)) = (Home::new().await, keyring());
    let store = in_keyring(&home, &vault);
    sign_in(&home, &store, FRESH).await;
    assert!(is_in_keyring(&store.location().await));
    for entry in fs::read_dir(home.path().parent().unwrap()).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!text.contains("rt_") && !text.contains("e30.") && !text.contains("ann@"), "{text}");
    }
    assert!(!home.path().exists());
    assert_eq!(refresh_token(&in_keyring(&home, &vault)).await.as_deref(), Some("rt_1"));
}

#[tokio::test]
async fn many_daemons_on_one_keyring_use_each_refresh_token_once() {
    let (home, (_, vault)) = (Home::new().await, keyring());
    sign_in(&home, &in_keyring(&home, &vault), EXPIRED).await;
    let daemons: Vec<_> = (0..4).map(|_| accounts(&home, in_keyring(&home, &vault))).collect();
    let bearers = futures_util::future::join_all(daemons.iter().map(Accounts::bearer)).await;
    let tokens: Vec<_> = bearers.into_iter().map(|bearer| bearer.unwrap().token.expose().to_owned()).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!((home.issuer.calls().len(), home.issuer.reused()), (1, 0));
    assert_eq!(refresh_token(&in_keyring(&home, &vault)).await.unwrap(), home.issuer.newest_refresh_token());
}

#[tokio::test]
async fn a_daemon_keeps_working_when_its_login_is_moved() {
    let (home, (_, vault)) = (Home::new().await, keyring());
    let store = || Store::persistent(home.path(), BackendKind::File, vault.clone());
    sign_in(&home, &store(), EXPIRED).await;
    let daemon = accounts(&home, store());
    daemon.bearer().await.unwrap();
    for (place, count) in [(BackendKind::Keyring, 2), (BackendKind::File, 3)] {
        let moved = store().move_to(place).await.unwrap();
        assert_eq!((moved.accounts, is_in_keyring(&moved.to)), (1, place == BackendKind::Keyring));
        assert_eq!(moved.left_over, None);
        home.clock.advance(Duration::from_secs(11 * 24 * 60 * 60));
        daemon.bearer().await.unwrap();
        assert_eq!((home.issuer.calls().len(), home.issuer.reused()), (count, 0));
        assert_eq!(is_in_keyring(&store().location().await), place == BackendKind::Keyring);
        assert_eq!(refresh_token(&store()).await.unwrap(), home.issuer.newest_refresh_token());
    }
}

#[tokio::test]
async fn a_move_deletes_the_login_from_its_source() {
    let (home, (keyring, vault)) = (Home::new().await, keyring());
    let store = Store::persistent(home.path(), BackendKind::File, vault.clone());
    sign_in(&home, &store, FRESH).await;
    store.move_to(BackendKind::Keyring).await.unwrap();
    let folder = home.path().parent().unwrap().to_owned();
    assert!(!home.path().exists() && !folder.join("credentials.json.bak").exists());
    store.move_to(BackendKind::File).await.unwrap();
    assert!(!folder.join("credentials.json.keyring").exists());
    for credential in keyring.inner.lock().unwrap().borrow().iter() {
        assert!(credential.inner.lock().unwrap().borrow().secret.is_none(), "{:?}", credential.specifiers);
    }
}

#[tokio::test]
async fn a_move_interrupted_at_any_point_loses_nothing_and_can_be_repeated() {
    for start in [BackendKind::File, BackendKind::Keyring] {
        let to = if start == BackendKind::File { BackendKind::Keyring } else { BackendKind::File };
        let mut steps = 0;
        loop {
            let (home, (keyring, vault)) = (Home::new().await, keyring());
            sign_in(&home, &Store::persistent(home.path(), start, vault.clone()), FRESH).await;
            let broken = Store::persistent(home.path(), start, failing_after(&keyring, steps)).move_to(to).await;
            let healthy = Store::persistent(home.path(), start, vault);
            assert_eq!(refresh_token(&healthy).await.as_deref(), Some("rt_1"), "{start:?} {steps} {broken:?}");
            let again = healthy.move_to(to).await.unwrap();
            assert_eq!((again.accounts, again.left_over), (1, None));
            assert_eq!(refresh_token(&healthy).await.as_deref(), Some("rt_1"));
            if broken.is_ok_and(|moved| moved.left_over.is_none()) {
                break;
            }
            steps += 1;
        }
        assert!(steps > 2, "{start:?} {steps}");
    }
}

#[tokio::test]
async fn without_a_keyring_the_file_is_used() {
    let home = Home::new().await;
    let store = in_keyring(&home, &absent());
    assert_eq!(store.read().await.unwrap().ids().count(), 0);
    sign_in(&home, &store, EXPIRED).await;
    assert_eq!(store.location().await, Location::File(home.path()));
    accounts(&home, store).bearer().await.unwrap();
    assert_eq!(home.stored_refresh_token().await, home.issuer.newest_refresh_token());
    let error = in_keyring(&home, &absent()).move_to(BackendKind::Keyring).await.unwrap_err();
    assert!(error.to_string().contains("no session bus"), "{error}");
}

#[tokio::test]
async fn an_unavailable_keyring_is_reported_and_not_treated_as_signed_out() {
    let (home, (_, vault)) = (Home::new().await, keyring());
    sign_in(&home, &in_keyring(&home, &vault), FRESH).await;
    for preference in [BackendKind::Keyring, BackendKind::File] {
        let store = Store::persistent(home.path(), preference, absent());
        let error = store.read().await.unwrap_err();
        assert!(matches!(error, AuthError::Store { .. }) && error.to_string().contains("no session bus"), "{error}");
        assert!(error.to_string().contains("credentials.json.keyring"), "{error}");
    }
}

#[tokio::test]
async fn a_keyring_that_cannot_be_written_loses_no_token() {
    let (home, (keyring, vault)) = (Home::new().await, keyring());
    sign_in(&home, &in_keyring(&home, &vault), EXPIRED).await;
    let error = accounts(&home, in_keyring(&home, &failing_after(&keyring, 0))).bearer().await.unwrap_err();
    assert!(error.to_string().contains("the power went"), "{error}");
    assert_eq!(home.issuer.calls().len(), 0);
    assert_eq!(refresh_token(&in_keyring(&home, &vault)).await.as_deref(), Some("rt_1"));
}

#[tokio::test]
async fn a_token_that_could_not_be_stored_is_used_and_stored_later() {
    let (home, (keyring, vault)) = (Home::new().await, keyring());
    sign_in(&home, &in_keyring(&home, &vault), EXPIRED).await;
    // Enough changes for the write probe and its removal, but none after that.
    let mut changes = 0;
    let daemon = loop {
        let daemon = accounts(&home, in_keyring(&home, &failing_after(&keyring, changes)));
        if daemon.bearer().await.is_ok() {
            break daemon;
        }
        changes += 1;
    };
    assert_eq!((home.issuer.calls().len(), home.issuer.reused()), (1, 0));
    assert_eq!(refresh_token(&in_keyring(&home, &vault)).await.as_deref(), Some("rt_1"));
    daemon.bearer().await.unwrap();
    // Another process must not use the old token while the new one isn't stored.
    let other = tokio::time::timeout(Duration::from_millis(200), in_keyring(&home, &vault).lock()).await;
    assert!(other.is_err());
}

#[tokio::test]
async fn a_keyring_that_hangs_times_out_and_is_not_called_again_meanwhile() {
    let home = Home::new().await;
    let opened = Arc::new(AtomicU64::new(0));
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (counter, released) = (Arc::clone(&opened), Arc::new(std::sync::Mutex::new(released)));
    let vault = Keyring::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let _ = released.lock().unwrap().recv();
        Err(Error::PlatformFailure("late".into()))
    });
    let store = in_keyring(&home, &vault.with_timeout(Duration::from_millis(100)));
    for _ in 0..20 {
        let error = store.lock().await.unwrap().read().await.unwrap_err();
        assert!(error.to_string().contains("did not respond within 0.1 s"), "{error}");
    }
    assert_eq!(opened.load(Ordering::Relaxed), 1);
    drop(release);
}

#[tokio::test]
async fn a_locked_keyring_is_not_called_for_every_request() {
    let home = Home::new().await;
    let opened = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&opened);
    let vault = Keyring::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        let locked = mock::Store::new().unwrap();
        Ok(Arc::new(Locked(locked)))
    });
    let daemon = accounts(&home, in_keyring(&home, &vault));
    for _ in 0..20 {
        let error = daemon.bearer().await.unwrap_err();
        assert!(error.to_string().contains("unlock it"), "{error}");
    }
    assert_eq!(opened.load(Ordering::Relaxed), 1);
}

/// A keyring whose user dismisses the unlock dialog.
#[derive(Debug)]
struct Locked(Arc<mock::Store>);

impl CredentialStoreApi for Locked {
    fn vendor(&self) -> String {
        self.0.vendor()
    }

    fn id(&self) -> String {
        self.0.id()
    }

    fn build(&self, _: &str, _: &str, _: Option<&HashMap<&str, &str>>) -> keyring_core::Result<Entry> {
        Err(Error::NoStorageAccess("prompt dismissed".into()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[tokio::test]
async fn a_damaged_entry_is_never_overwritten_and_its_copy_can_be_restored() {
    let (home, (keyring, vault)) = (Home::new().await, keyring());
    let store = in_keyring(&home, &vault);
    sign_in(&home, &store, FRESH).await;
    let Location::Keyring(name) = store.location().await else { panic!("it lies in the keyring") };
    keyring.build("codex-proxy", &name, None).unwrap().set_secret(b"nonsense").unwrap();
    let fresh = in_keyring(&home, &vault);
    let error = fresh.read().await.unwrap_err();
    assert!(error.to_string().contains("accounts restore") && error.to_string().contains(&name), "{error}");
    assert!(fresh.lock().await.unwrap().read().await.is_err());
    assert_eq!(fresh.restore().await.unwrap().accounts, 1);
    assert_eq!(refresh_token(&in_keyring(&home, &vault)).await.as_deref(), Some("rt_1"));
    assert!(fresh.restore().await.is_err());
}
