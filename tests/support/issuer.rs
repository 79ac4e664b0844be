//! A scripted issuer on loopback, with single-use rotating refresh tokens.
//!
//! Without a script it behaves like the real one: the newest refresh token gets new tokens, a used one gets
//! `refresh_token_reused`, and each call is recorded. A script replaces the responses to the next calls, in
//! order.
#![expect(clippy::unwrap_used, reason = "test helpers panic on failure")]

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use codex_proxy::auth::{BackendKind, Credential, Issuer, Settings, TokenResponse};
use codex_proxy::clock::Clock;
use codex_proxy::endpoint::{Endpoint, Trust};
use codex_proxy::net::{self, HttpClient};
use codex_proxy::secret::Secret;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::clock::ManualClock;

const USER_CODE: &str = "/api/accounts/deviceauth/usercode";
const POLL: &str = "/api/accounts/deviceauth/token";
const WHOAMI: &str = "/api/accounts/v1/user-auth-credential/whoami";
const LIFETIME: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// A running issuer. Clones share it.
#[derive(Clone)]
pub(crate) struct FakeIssuer {
    pub(crate) address: String,
    issuer: Arc<IssuerState>,
}

struct IssuerState {
    clock: Arc<ManualClock>,
    book: Mutex<Book>,
    /// One permit for each response that may be sent.
    gate: Semaphore,
}

#[derive(Default)]
struct Book {
    newest: String,
    spent: HashSet<String>,
    drawn: u32,
    script: VecDeque<Scripted>,
    calls: Vec<Call>,
    reused: usize,
}

/// A scripted response.
pub(crate) enum Scripted {
    /// This status and body; no token is used.
    Answer(u16, Value),
    /// The token is used, and the response has these members.
    Grant(Value),
    /// No response.
    Hang,
}

/// A recorded call.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl FakeIssuer {
    pub(crate) async fn start(clock: &Arc<ManualClock>) -> Self {
        let issuer = Arc::new(IssuerState {
            clock: Arc::clone(clock),
            book: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        let router = Router::new()
            .route("/oauth/token", post(answer))
            .route("/oauth/revoke", post(answer))
            .route(USER_CODE, post(answer))
            .route(POLL, post(answer))
            .route(WHOAMI, get(answer))
            .with_state(Arc::clone(&issuer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        run(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, issuer }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            issuer: Endpoint::parse(&self.address, Trust::KnownHosts).unwrap(),
            client_id: "app_test".to_owned(),
            redirect_host: "localhost".to_owned(),
            scopes: ["openid", "profile", "email", "offline_access"].map(str::to_owned).to_vec(),
            account: None,
            store: BackendKind::File,
            credentials: "credentials.json".into(),
            originator: "codex_proxy".to_owned(),
            user_agent: "codex-proxy/test".to_owned(),
        }
    }

    /// Our client for this issuer, with a short timeout for each call.
    pub(crate) fn authority(&self) -> Issuer {
        Issuer::new(http_client(), &self.settings()).with_timeout(Duration::from_millis(1500))
    }

    /// Creates a login for an account, with an access token that expires this long after now.
    pub(crate) fn credential(&self, account: &str, lifetime: Duration) -> Credential {
        self.credential_ending(account, self.issuer.clock.now() + lifetime)
    }

    /// Creates a login for an account, with an access token that expires at a time.
    pub(crate) fn credential_ending(&self, account: &str, end: SystemTime) -> Credential {
        let mut book = self.book();
        book.drawn += 1;
        book.newest = format!("rt_{}", book.drawn);
        let grant = TokenResponse {
            id_token: Some(Secret::new(jwt(account, end, 0))),
            access_token: Some(Secret::new(jwt(account, end, book.drawn))),
            refresh_token: Some(Secret::new(book.newest.clone())),
        };
        Credential::from_response(grant, self.issuer.clock.now() - Duration::from_secs(3600)).unwrap()
    }

    /// Scripts the responses to the next calls.
    pub(crate) fn script(&self, answers: impl IntoIterator<Item = Scripted>) {
        self.book().script.extend(answers);
    }

    /// Holds responses back until [`FakeIssuer::open`].
    pub(crate) fn shut(&self) {
        self.issuer.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn open(&self) {
        self.issuer.gate.add_permits(1000);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.book().calls.clone()
    }

    /// How often a used refresh token was sent.
    pub(crate) fn reused(&self) -> usize {
        self.book().reused
    }

    pub(crate) fn newest_refresh_token(&self) -> String {
        self.book().newest.clone()
    }

    /// Waits until this many calls have arrived.
    pub(crate) async fn arrived(&self, count: usize) {
        until(|| self.book().calls.len() >= count).await;
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.issuer.book()
    }
}

impl IssuerState {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refreshed(&self, spent: &str) -> (u16, Value) {
        let mut book = self.book();
        if book.newest != spent {
            book.reused += usize::from(book.spent.contains(spent));
            return (401, json!({"error": {"message": "used", "type": "x", "code": "refresh_token_reused"}}));
        }
        book.spent.insert(spent.to_owned());
        (200, self.grant(&mut book))
    }

    fn grant(&self, book: &mut Book) -> Value {
        book.drawn += 1;
        book.newest = format!("rt_{}", book.drawn);
        let end = self.clock.now() + LIFETIME;
        json!({
            "id_token": jwt("acct-1", end, 0),
            "access_token": jwt("acct-1", end, book.drawn),
            "refresh_token": book.newest,
        })
    }
}

async fn answer(
    State(issuer): State<Arc<IssuerState>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let (status, answer) = respond(&issuer, uri.path(), headers, &body).await;
    (StatusCode::from_u16(status).unwrap(), answer.to_string())
}

async fn respond(issuer: &IssuerState, path: &str, headers: HeaderMap, body: &[u8]) -> (u16, Value) {
    let body = String::from_utf8(body.to_vec()).unwrap();
    let scripted = {
        let mut book = issuer.book();
        book.calls.push(Call { path: path.to_owned(), headers, body: body.clone() });
        book.script.pop_front()
    };
    let request: Value = serde_json::from_str(&body).unwrap_or_default();
    let spent = request["refresh_token"].as_str();
    let answer = match scripted {
        Some(Scripted::Hang) => std::future::pending().await,
        Some(Scripted::Answer(status, body)) => (status, body),
        Some(Scripted::Grant(members)) => {
            issuer.book().spent.extend(spent.map(str::to_owned));
            (200, members)
        }
        None if path == "/oauth/revoke" => (200, json!({})),
        None if path == USER_CODE => {
            (200, json!({"device_auth_id": "deviceauth_1", "user_code": "ABCD-12345", "interval": "1"}))
        }
        None if path == POLL => (403, json!({"error": {"code": "deviceauth_authorization_unknown"}})),
        None if path == WHOAMI => (401, json!({})),
        None => match spent {
            Some(spent) => issuer.refreshed(spent),
            None if body.contains("code=ac_good") => (200, issuer.grant(&mut issuer.book())),
            None => (400, json!({"error": "invalid_grant", "error_description": "bad code"})),
        },
    };
    issuer.gate.acquire().await.unwrap().forget();
    answer
}

/// A token as the issuer creates it; the serial number makes it unique.
pub(crate) fn jwt(account: &str, end: SystemTime, serial: u32) -> String {
    let payload = json!({
        "exp": end.duration_since(UNIX_EPOCH).unwrap().as_secs(),
        "jti": serial.to_string(),
        "email": "ann@example.com",
        "https://api.openai.com/auth": {"chatgpt_account_id": account, "chatgpt_plan_type": "plus"},
    });
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload.to_string()))
}

pub(crate) fn http_client() -> HttpClient {
    let connect_timeout = Duration::from_secs(2);
    HttpClient::new(net::Settings { connect_timeout, ca_file: None, proxy: None })
}

/// Waits for a condition, and fails if it doesn't occur.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the condition occurs in time");
}

#[expect(clippy::disallowed_methods, reason = "tests run tasks concurrently")]
pub(crate) fn run<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work)
}
