//! The authorization codes, device codes, access tokens and refresh tokens that have been issued.
//!
//! An authorization code can be exchanged once, with its PKCE verifier. A refresh token is invalid after one use, even
//! if the response is lost. Access tokens and device codes expire by the clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::claims::{self, Span};
use crate::clock::Clock;

/// Lifetime of an access token, unless it is issued with another one.
pub(in crate::demo) const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// The client of logins that are created without a sign-in.
const CLIENT_ID: &str = "demo";
/// Lifetime of a device code.
const DEVICE_CODE_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Everything issued in one run of the demo.
pub(in crate::demo) struct Sessions {
    issuer: String,
    clock: Arc<dyn Clock>,
    table: Mutex<SessionTable>,
}

#[derive(Default)]
struct SessionTable {
    /// The last number given to a code or token.
    serial: u64,
    /// Authorization codes.
    codes: HashMap<String, Grant>,
    /// Access tokens, and when they expire.
    access: HashMap<String, SystemTime>,
    refresh: HashMap<String, RefreshToken>,
    /// By device id.
    devices: HashMap<String, Device>,
}

/// A device code: the user code to enter, and whether it was entered.
struct Device {
    user_code: String,
    client_id: String,
    until: SystemTime,
    is_approved: bool,
}

/// The state of a device code, for a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeviceState {
    /// The code hasn't been entered.
    Pending,
    /// The code is unknown or expired, or a poll has already returned its approval.
    Gone,
    /// The code was entered.
    Approved {
        /// The client that requested it.
        client_id: String,
    },
}

/// The parameters of an authorize request, to which the code is bound.
pub(super) struct Grant {
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
}

struct RefreshToken {
    client_id: String,
    state: RefreshState,
}

#[derive(Clone, Copy)]
enum RefreshState {
    Good,
    Spent,
    Revoked,
}

/// The tokens that are issued together.
#[expect(clippy::struct_field_names, reason = "the names of the OAuth protocol")]
pub(in crate::demo) struct Tokens {
    pub(in crate::demo) id_token: String,
    pub(in crate::demo) access_token: String,
    pub(in crate::demo) refresh_token: String,
}

/// Why a token request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// The refresh token has been used before.
    Spent,
    /// The refresh token has been revoked.
    Revoked,
    /// The refresh token is unknown; or the code is, or was issued for another client, redirect URI or verifier.
    Unknown,
    /// This parameter is missing.
    Incomplete(&'static str),
    /// The grant type isn't supported.
    UnknownGrant,
}

/// The state of an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::demo) enum TokenState {
    /// Valid.
    Current,
    /// Expired.
    Expired,
    /// Never issued, or revoked.
    Unknown,
}

impl Sessions {
    pub(in crate::demo) fn new(issuer: String, clock: Arc<dyn Clock>) -> Self {
        Self { issuer, clock, table: Mutex::default() }
    }

    /// The current time.
    pub(in crate::demo) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Issues tokens without a sign-in; the access token expires after `left`.
    pub(in crate::demo) fn sign_in(&self, left: Duration) -> Tokens {
        self.issue(&mut self.table(), CLIENT_ID, left)
    }

    /// Issues an authorization code.
    pub(super) fn issue_code(&self, grant: Grant) -> String {
        let mut table = self.table();
        let code = format!("ac_demo_{}", table.next());
        table.codes.insert(code.clone(), grant);
        code
    }

    /// Exchanges an authorization code for tokens. The attempt invalidates the code, even if it fails.
    pub(super) fn exchange(
        &self,
        code: &str,
        client_id: &str,
        redirect_uri: &str,
        verifier: &str,
    ) -> Result<Tokens, Denial> {
        let mut table = self.table();
        let grant = table.codes.remove(code).ok_or(Denial::Unknown)?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        let known = grant.client_id == client_id && grant.redirect_uri == redirect_uri && grant.challenge == challenge;
        if !known {
            return Err(Denial::Unknown);
        }
        Ok(self.issue(&mut table, client_id, TOKEN_LIFETIME))
    }

    /// Issues a device code: returns its id, for polls, and the code that the user enters.
    pub(super) fn issue_device_code(&self, client_id: &str) -> (String, String) {
        let mut table = self.table();
        let serial = table.next();
        let (id, user_code) = (format!("deviceauth_demo_{serial}"), format!("DEMO-{serial:05}"));
        let (client_id, until) = (client_id.to_owned(), self.clock.now() + DEVICE_CODE_LIFETIME);
        table.devices.insert(id.clone(), Device { user_code: user_code.clone(), client_id, until, is_approved: false });
        (id, user_code)
    }

    /// Approves a user code; returns whether it is known and not expired.
    pub(super) fn approve(&self, user_code: &str) -> bool {
        let now = self.clock.now();
        let mut table = self.table();
        let mut typed = table.devices.values_mut();
        let device = typed.find(|device| device.user_code.eq_ignore_ascii_case(user_code) && now < device.until);
        device.map(|device| device.is_approved = true).is_some()
    }

    /// Returns the state of a device code. An approval is returned once.
    pub(super) fn device_state(&self, id: &str, user_code: &str) -> DeviceState {
        let mut table = self.table();
        match table.devices.get(id) {
            Some(device) if device.user_code != user_code || self.clock.now() >= device.until => DeviceState::Gone,
            Some(device) if !device.is_approved => DeviceState::Pending,
            Some(_) => table
                .devices
                .remove(id)
                .map_or(DeviceState::Gone, |device| DeviceState::Approved { client_id: device.client_id }),
            None => DeviceState::Gone,
        }
    }

    /// The base URL of this service.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Exchanges a refresh token for new tokens, which invalidates it.
    pub(super) fn refresh(&self, token: &str) -> Result<Tokens, Denial> {
        let mut table = self.table();
        let held = table.refresh.get_mut(token).ok_or(Denial::Unknown)?;
        match held.state {
            RefreshState::Good => held.state = RefreshState::Spent,
            RefreshState::Spent => return Err(Denial::Spent),
            RefreshState::Revoked => return Err(Denial::Revoked),
        }
        let client_id = held.client_id.clone();
        Ok(self.issue(&mut table, &client_id, TOKEN_LIFETIME))
    }

    /// Revokes an access or refresh token. Unknown tokens are ignored.
    pub(super) fn revoke(&self, token: &str) {
        let mut table = self.table();
        table.access.remove(token);
        if let Some(held) = table.refresh.get_mut(token) {
            held.state = RefreshState::Revoked;
        }
    }

    /// The state of an access token.
    pub(in crate::demo) fn token_state(&self, access_token: &str) -> TokenState {
        match self.table().access.get(access_token) {
            Some(until) if self.clock.now() < *until => TokenState::Current,
            Some(_) => TokenState::Expired,
            None => TokenState::Unknown,
        }
    }

    fn table(&self) -> MutexGuard<'_, SessionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issue(&self, table: &mut SessionTable, client_id: &str, left: Duration) -> Tokens {
        let until = self.clock.now() + left;
        let from = until.checked_sub(TOKEN_LIFETIME).unwrap_or(UNIX_EPOCH);
        let serial = table.next();
        let span = Span { from: unix(from), until: unix(until), serial };
        let tokens = Tokens {
            id_token: claims::id_token(&self.issuer, client_id, span),
            access_token: claims::access_token(&self.issuer, span),
            refresh_token: format!("rt_demo_{serial}"),
        };
        table.access.insert(tokens.access_token.clone(), until);
        let held = RefreshToken { client_id: client_id.to_owned(), state: RefreshState::Good };
        table.refresh.insert(tokens.refresh_token.clone(), held);
        tokens
    }
}

impl SessionTable {
    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// Converts to Unix time in seconds.
pub(in crate::demo) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug, Default)]
    struct ManualClock(AtomicU64);

    impl Clock for ManualClock {
        fn now(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_secs(1_790_000_000 + self.0.load(Ordering::Relaxed))
        }
    }

    fn sessions() -> (Arc<ManualClock>, Sessions) {
        let clock = Arc::<ManualClock>::default();
        (Arc::clone(&clock), Sessions::new("http://127.0.0.1:1".to_owned(), clock))
    }

    fn denial(outcome: Result<Tokens, Denial>) -> Denial {
        outcome.err().expect("no tokens are given")
    }

    #[test]
    fn a_refresh_token_is_valid_for_one_refresh() {
        let (_, sessions) = sessions();
        let first = sessions.sign_in(TOKEN_LIFETIME);
        let second = sessions.refresh(&first.refresh_token).ok().unwrap();
        assert_ne!(first.refresh_token, second.refresh_token);
        assert_ne!(first.access_token, second.access_token);
        assert_eq!(denial(sessions.refresh(&first.refresh_token)), Denial::Spent);
        assert!(sessions.refresh(&second.refresh_token).is_ok());
    }

    #[test]
    fn an_access_token_expires_by_the_clock() {
        let (clock, sessions) = sessions();
        let tokens = sessions.sign_in(Duration::from_secs(60));
        assert_eq!(sessions.token_state(&tokens.access_token), TokenState::Current);
        clock.0.store(60, Ordering::Relaxed);
        assert_eq!(sessions.token_state(&tokens.access_token), TokenState::Expired);
        assert_eq!(sessions.token_state("eyJ.eyJ.x"), TokenState::Unknown);
    }

    #[test]
    fn a_code_needs_its_verifier_and_works_once() {
        let (_, sessions) = sessions();
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest("verifier"));
        let code = |challenge: &str| {
            sessions.issue_code(Grant {
                client_id: "app".to_owned(),
                redirect_uri: "http://localhost:1455/auth/callback".to_owned(),
                challenge: challenge.to_owned(),
            })
        };
        let exchange = |code: &str, verifier: &str| {
            sessions.exchange(code, "app", "http://localhost:1455/auth/callback", verifier)
        };
        assert_eq!(denial(exchange(&code(&challenge), "guess")), Denial::Unknown);
        let code = code(&challenge);
        assert!(exchange(&code, "verifier").is_ok());
        assert_eq!(denial(exchange(&code, "verifier")), Denial::Unknown);
    }

    #[test]
    fn a_revoked_token_is_rejected_as_revoked() {
        let (_, sessions) = sessions();
        let tokens = sessions.sign_in(TOKEN_LIFETIME);
        sessions.revoke(&tokens.refresh_token);
        sessions.revoke(&tokens.access_token);
        assert_eq!(denial(sessions.refresh(&tokens.refresh_token)), Denial::Revoked);
        assert_eq!(sessions.token_state(&tokens.access_token), TokenState::Unknown);
    }
}
