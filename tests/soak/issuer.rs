//! An issuer for the soak test that records which process used which refresh token, and which process reused
//! one.
//!
//! A reused token is a loss if its first user was killed before it could store the successor, and a bug in any
//! other case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use codex_proxy::auth::{Credential, TokenResponse};
use codex_proxy::clock::Clock;
use codex_proxy::secret::Secret;
use serde_json::{Value, json};

use crate::{Dice, FastClock};

/// A token is due ten seconds of simulated time after it was issued.
const LIFETIME: Duration = Duration::from_secs(5 * 60 + 10);

#[derive(Clone)]
pub(crate) struct FakeIssuer {
    pub(crate) address: String,
    book: Arc<Mutex<Book>>,
    clock: FastClock,
}

pub(crate) struct Book {
    serial: u64,
    newest: String,
    /// Each used token, and the process that used it.
    spent: BTreeMap<String, u32>,
    dice: Dice,
    /// Processes with a call in progress: they hold the lock.
    pub(crate) asking: BTreeSet<u32>,
    pub(crate) killed: BTreeSet<u32>,
    pub(crate) renewals: u64,
    pub(crate) troubles: u64,
    /// Used tokens whose user was killed before it could store the successor.
    pub(crate) losses: BTreeSet<String>,
    /// Used tokens that were sent again although their first user is alive.
    pub(crate) faults: BTreeSet<String>,
}

enum Verdict {
    Granted(Value),
    Trouble,
    Reused,
}

impl FakeIssuer {
    pub(crate) async fn start(clock: FastClock, dice: Dice) -> Self {
        let book = Book {
            serial: 0,
            newest: String::new(),
            spent: BTreeMap::new(),
            dice,
            asking: BTreeSet::new(),
            killed: BTreeSet::new(),
            renewals: 0,
            troubles: 0,
            losses: BTreeSet::new(),
            faults: BTreeSet::new(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let issuer = Self { address, book: Arc::new(Mutex::new(book)), clock };
        let router = axum::Router::new().route("/oauth/token", post(token)).with_state(issuer.clone());
        crate::run(async move { axum::serve(listener, router).await.unwrap() });
        issuer
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new login, as if by a user.
    pub(crate) fn sign_in(&self) -> Credential {
        let members = self.grant(&mut self.book());
        let member = |name: &str| Some(Secret::new(members[name].as_str().unwrap()));
        let grant = TokenResponse {
            id_token: member("id_token"),
            access_token: member("access_token"),
            refresh_token: member("refresh_token"),
        };
        Credential::from_response(grant, self.clock.now()).unwrap()
    }

    pub(crate) fn newest(&self) -> String {
        self.book().newest.clone()
    }

    fn grant(&self, book: &mut Book) -> Value {
        book.serial += 1;
        book.newest = format!("rt_{}", book.serial);
        let end = (self.clock.now() + LIFETIME).duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"exp": end, "jti": book.serial, "email": "ann@example.com",
            "https://api.openai.com/auth": {"chatgpt_account_id": "acct-1", "chatgpt_plan_type": "plus"}});
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
        json!({"id_token": token, "access_token": token, "refresh_token": book.newest})
    }

    fn judge(&self, process: u32, sent: &str) -> Verdict {
        let mut book = self.book();
        if book.newest == sent {
            if book.dice.one_in(12) {
                book.troubles += 1;
                return Verdict::Trouble;
            }
            book.spent.insert(sent.to_owned(), process);
            book.renewals += 1;
            return Verdict::Granted(self.grant(&mut book));
        }
        let spender = book.spent.get(sent).copied();
        if spender.is_some_and(|spender| book.killed.contains(&spender)) {
            book.losses.insert(sent.to_owned());
        } else {
            book.faults.insert(format!("{sent}, spent by {spender:?}, sent again by {process}"));
        }
        Verdict::Reused
    }
}

async fn token(State(issuer): State<FakeIssuer>, headers: HeaderMap, body: Bytes) -> (StatusCode, String) {
    let process = headers["user-agent"].to_str().unwrap().trim_start_matches("soak/").parse().unwrap();
    let request: Value = serde_json::from_slice(&body).unwrap();
    let sent = request["refresh_token"].as_str().unwrap();
    let (before, after) = {
        let mut book = issuer.book();
        book.asking.insert(process);
        (book.dice.up_to(20), book.dice.up_to(30))
    };
    tokio::time::sleep(Duration::from_millis(before)).await;
    let verdict = issuer.judge(process, sent);
    tokio::time::sleep(Duration::from_millis(after)).await;
    issuer.book().asking.remove(&process);
    match verdict {
        Verdict::Granted(members) => (StatusCode::OK, members.to_string()),
        Verdict::Trouble => (StatusCode::SERVICE_UNAVAILABLE, "{}".to_owned()),
        Verdict::Reused => {
            (StatusCode::UNAUTHORIZED, json!({"error": {"code": "refresh_token_reused", "message": "m"}}).to_string())
        }
    }
}
