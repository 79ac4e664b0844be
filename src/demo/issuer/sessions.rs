//! Who is signed in: the codes, access tokens and refresh tokens that are out.
//!
//! A refresh token is good for one refresh, which spends it whatever becomes of the answer. An
//! access token ends by the clock. A code is good for one exchange by whoever knows the verifier.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::claims::{self, Span};
use crate::clock::Clock;

/// How long an access token is good for.
pub(super) const TOKEN_LIFE: Duration = Duration::from_secs(3600);
const CLIENT_ID: &str = "demo";
/// How long a device's code is good for.
const CODE_LIFE: Duration = Duration::from_secs(15 * 60);

/// All sign-ins of one run.
pub(in crate::demo) struct Sessions {
    issuer: String,
    clock: Arc<dyn Clock>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    serial: u64,
    codes: HashMap<String, Grant>,
    access: HashMap<String, SystemTime>,
    refresh: HashMap<String, Refresh>,
    devices: HashMap<String, Device>,
}

/// A code that waits to be typed.
struct Device {
    user_code: String,
    client_id: String,
    until: SystemTime,
    is_approved: bool,
}

/// What became of a device's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeviceState {
    /// Nobody has typed it.
    Pending,
    /// It is unknown or too old.
    Gone,
    /// It was typed; the client may go on.
    Approved {
        /// Who asked for it.
        client_id: String,
    },
}

/// What a code was given out for.
pub(super) struct Grant {
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
}

struct Refresh {
    client_id: String,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Good,
    Spent,
    Revoked,
}

/// The tokens of one sign-in.
#[expect(clippy::struct_field_names, reason = "the names that the protocol uses")]
pub(in crate::demo) struct Tokens {
    pub(in crate::demo) id_token: String,
    pub(in crate::demo) access_token: String,
    pub(in crate::demo) refresh_token: String,
}

/// Why no tokens are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// The refresh token has been used before.
    Spent,
    /// The refresh token has been revoked.
    Revoked,
    /// No such code or token, or not for this client, address or verifier.
    Unknown,
    /// A member is missing.
    Incomplete(&'static str),
    /// A grant type that is not served.
    UnknownGrant,
}

/// What an access token is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::demo) enum Standing {
    /// It is current.
    Current,
    /// It was, but its time is over.
    Ended,
    /// It was never given out, or has been revoked.
    Unknown,
}

impl Sessions {
    pub(in crate::demo) fn new(issuer: String, clock: Arc<dyn Clock>) -> Self {
        Self { issuer, clock, book: Mutex::default() }
    }

    /// The time by which tokens end.
    pub(in crate::demo) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Tokens whose access token has `left` to live.
    pub(in crate::demo) fn sign_in(&self, left: Duration) -> Tokens {
        self.issue(&mut self.book(), CLIENT_ID, left)
    }

    /// A code for an exchange.
    pub(super) fn grant(&self, grant: Grant) -> String {
        let mut book = self.book();
        let code = format!("ac_demo_{}", book.next());
        book.codes.insert(code.clone(), grant);
        code
    }

    /// Tokens for a code, which is spent by the attempt.
    pub(super) fn exchange(
        &self,
        code: &str,
        client_id: &str,
        redirect_uri: &str,
        verifier: &str,
    ) -> Result<Tokens, Denial> {
        let mut book = self.book();
        let grant = book.codes.remove(code).ok_or(Denial::Unknown)?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        let known = grant.client_id == client_id && grant.redirect_uri == redirect_uri && grant.challenge == challenge;
        if !known {
            return Err(Denial::Unknown);
        }
        Ok(self.issue(&mut book, client_id, TOKEN_LIFE))
    }

    /// A device's id, and the code that has to be typed for it.
    pub(super) fn device(&self, client_id: &str) -> (String, String) {
        let mut book = self.book();
        let serial = book.next();
        let (id, user_code) = (format!("deviceauth_demo_{serial}"), format!("DEMO-{serial:05}"));
        let (client_id, until) = (client_id.to_owned(), self.clock.now() + CODE_LIFE);
        book.devices.insert(id.clone(), Device { user_code: user_code.clone(), client_id, until, is_approved: false });
        (id, user_code)
    }

    /// Somebody has typed a code; says whether there is such a one.
    pub(super) fn approve(&self, user_code: &str) -> bool {
        let now = self.clock.now();
        let mut book = self.book();
        let mut typed = book.devices.values_mut();
        let device = typed.find(|device| device.user_code.eq_ignore_ascii_case(user_code) && now < device.until);
        device.map(|device| device.is_approved = true).is_some()
    }

    /// What became of a device's code; an approval is told once.
    pub(super) fn device_state(&self, id: &str, user_code: &str) -> DeviceState {
        let mut book = self.book();
        match book.devices.get(id) {
            Some(device) if device.user_code != user_code || self.clock.now() >= device.until => DeviceState::Gone,
            Some(device) if !device.is_approved => DeviceState::Pending,
            Some(_) => book
                .devices
                .remove(id)
                .map_or(DeviceState::Gone, |device| DeviceState::Approved { client_id: device.client_id }),
            None => DeviceState::Gone,
        }
    }

    /// The address of this service.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Tokens for a refresh token, which is spent by it.
    pub(super) fn refresh(&self, token: &str) -> Result<Tokens, Denial> {
        let mut book = self.book();
        let held = book.refresh.get_mut(token).ok_or(Denial::Unknown)?;
        match held.state {
            State::Good => held.state = State::Spent,
            State::Spent => return Err(Denial::Spent),
            State::Revoked => return Err(Denial::Revoked),
        }
        let client_id = held.client_id.clone();
        Ok(self.issue(&mut book, &client_id, TOKEN_LIFE))
    }

    /// Ends a token of either kind; one that is unknown is as good as ended.
    pub(super) fn revoke(&self, token: &str) {
        let mut book = self.book();
        book.access.remove(token);
        if let Some(held) = book.refresh.get_mut(token) {
            held.state = State::Revoked;
        }
    }

    /// What an access token is worth now.
    pub(in crate::demo) fn standing(&self, access_token: &str) -> Standing {
        match self.book().access.get(access_token) {
            Some(until) if self.clock.now() < *until => Standing::Current,
            Some(_) => Standing::Ended,
            None => Standing::Unknown,
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn issue(&self, book: &mut Book, client_id: &str, left: Duration) -> Tokens {
        let until = self.clock.now() + left;
        let from = until.checked_sub(TOKEN_LIFE).unwrap_or(UNIX_EPOCH);
        let serial = book.next();
        let span = Span { from: unix(from), until: unix(until), serial };
        let tokens = Tokens {
            id_token: claims::id_token(&self.issuer, client_id, span),
            access_token: claims::access_token(&self.issuer, span),
            refresh_token: format!("rt_demo_{serial}"),
        };
        book.access.insert(tokens.access_token.clone(), until);
        let held = Refresh { client_id: client_id.to_owned(), state: State::Good };
        book.refresh.insert(tokens.refresh_token.clone(), held);
        tokens
    }
}

impl Book {
    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

/// Whole seconds since 1970.
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
    fn a_refresh_token_is_good_for_one_refresh() {
        let (_, sessions) = sessions();
        let first = sessions.sign_in(TOKEN_LIFE);
        let second = sessions.refresh(&first.refresh_token).ok().unwrap();
        assert_ne!(first.refresh_token, second.refresh_token);
        assert_ne!(first.access_token, second.access_token);
        assert_eq!(denial(sessions.refresh(&first.refresh_token)), Denial::Spent);
        assert!(sessions.refresh(&second.refresh_token).is_ok());
    }

    #[test]
    fn an_access_token_ends_by_the_clock() {
        let (clock, sessions) = sessions();
        let tokens = sessions.sign_in(Duration::from_secs(60));
        assert_eq!(sessions.standing(&tokens.access_token), Standing::Current);
        clock.0.store(60, Ordering::Relaxed);
        assert_eq!(sessions.standing(&tokens.access_token), Standing::Ended);
        assert_eq!(sessions.standing("eyJ.eyJ.x"), Standing::Unknown);
    }

    #[test]
    fn a_code_needs_its_verifier_and_works_once() {
        let (_, sessions) = sessions();
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest("verifier"));
        let code = |challenge: &str| {
            sessions.grant(Grant {
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
    fn a_revoked_token_is_refused_as_revoked() {
        let (_, sessions) = sessions();
        let tokens = sessions.sign_in(TOKEN_LIFE);
        sessions.revoke(&tokens.refresh_token);
        sessions.revoke(&tokens.access_token);
        assert_eq!(denial(sessions.refresh(&tokens.refresh_token)), Denial::Revoked);
        assert_eq!(sessions.standing(&tokens.access_token), Standing::Unknown);
    }
}
