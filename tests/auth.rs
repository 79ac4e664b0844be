//! Login and token refresh against a scripted issuer on loopback.
#![expect(clippy::unwrap_used, reason = "test helpers panic on failure")]

#[path = "auth/access_tokens.rs"]
mod access_tokens;
#[path = "auth/accounts.rs"]
mod accounts;
#[path = "support/clock.rs"]
mod clock;
#[path = "auth/devices.rs"]
mod devices;
#[path = "support/issuer.rs"]
mod fake_issuer;
#[path = "auth/files.rs"]
mod files;
#[path = "auth/imports.rs"]
mod imports;
#[path = "auth/keyrings.rs"]
mod keyrings;
#[cfg(unix)]
#[path = "auth/links.rs"]
mod links;
#[path = "auth/logins.rs"]
mod logins;
#[cfg(unix)]
#[path = "auth/permissions.rs"]
mod permissions;
#[path = "auth/refresh_errors.rs"]
mod refresh_errors;
#[path = "auth/refreshes.rs"]
mod refreshes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clock::ManualClock;
use codex_proxy::auth::{Accounts, Credential, Store};
use codex_proxy::clock::Clock;
use fake_issuer::FakeIssuer;

const EXPIRED: Duration = Duration::ZERO;
const EXPIRING: Duration = Duration::from_secs(120);
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// A signed-in machine: a store in its own directory, a clock and an issuer.
struct Home {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    issuer: FakeIssuer,
}

impl Home {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let issuer = FakeIssuer::start(&clock).await;
        Self { folder: tempfile::tempdir().unwrap(), clock, issuer }
    }

    /// A home whose account has an access token that expires this long after now.
    async fn with(lifetime: Duration) -> Self {
        let home = Self::new().await;
        home.put(&home.issuer.credential("acct-1", lifetime)).await;
        home
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("data").join("credentials.json")
    }

    fn store(&self) -> Store {
        Store::file(self.path())
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as Arc<dyn Clock>
    }

    /// The tokens of one daemon that uses this store.
    fn tokens(&self) -> Accounts {
        Accounts::new(self.store(), self.issuer.authority(), self.clock(), None)
    }

    async fn put(&self, credential: &Credential) {
        let held = self.store().lock().await.unwrap();
        let mut document = held.read().await.unwrap();
        document.put(credential);
        document.set_active(&credential.account_id);
        held.write(&document).await.unwrap();
    }

    async fn stored(&self, account: &str) -> Option<Credential> {
        self.store().read().await.unwrap().get(account).unwrap()
    }

    async fn stored_refresh_token(&self) -> String {
        let credential = self.stored("acct-1").await.expect("the account is stored");
        credential.refresh_token.expect("the file is readable").expose().to_owned()
    }
}
