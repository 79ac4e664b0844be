//! Where an account's requests have to go: some workspaces are bound to a region.
//!
//! Asked once for each account before its first request, and remembered. The backend serves
//! everybody else at the default origin whether asked or not, so that a failure here never stops a
//! request: it falls back with a warning, and asks again after a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::client::{self, Call};
use super::headers::Caller;
use crate::endpoint::{Endpoint, Trust};
use crate::error::{Fault, ProxyError};
use crate::net::HttpClient;
use crate::token_source::Account;

/// How long the question may take.
pub(super) const LIMIT: Duration = Duration::from_secs(15);
const LIMIT_BYTES: usize = 1024 * 1024;
/// How long a fallback holds before the question is asked again.
const FALLBACK_HOLDS: Duration = Duration::from_secs(300);
const UNBOUND: &str = "NO_CONSTRAINT";

/// Where to send an account's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The base of `/responses`.
    pub(super) endpoint: Endpoint,
    /// Value of the routing header, for accounts that are bound to a region.
    pub(super) region: Option<&'static str>,
}

/// What to do when the token is refused here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnRefusedToken {
    /// Hand the refusal up: a fresh token may help.
    Report,
    /// Fall back like after any other failure.
    FallBack,
}

/// The routes that are known.
#[derive(Debug, Default)]
pub(super) struct Routing {
    cells: Mutex<HashMap<Account, Arc<OnceCell<Known>>>>,
}

#[derive(Debug)]
struct Known {
    route: Route,
    /// Set for a fallback.
    until: Option<Instant>,
}

impl Routing {
    /// The route of the caller's account; asks when it is not known. Callers at the same time share one question.
    pub(super) async fn find(
        &self,
        http: &HttpClient,
        caller: &Caller<'_>,
        refused: OnRefusedToken,
    ) -> Result<Route, ProxyError> {
        let cell = self.cell(&caller.bearer.account);
        let known = cell.get_or_try_init(|| discover(http, caller, refused)).await?;
        Ok(known.route.clone())
    }

    fn cell(&self, account: &Account) -> Arc<OnceCell<Known>> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = cells.entry(account.clone()).or_default();
        if cell.get().and_then(|known| known.until).is_some_and(|until| until <= Instant::now()) {
            *cell = Arc::default();
        }
        Arc::clone(cell)
    }
}

async fn discover(http: &HttpClient, caller: &Caller<'_>, refused: OnRefusedToken) -> Result<Known, ProxyError> {
    let base = &caller.settings.url;
    let reason = match ask(http, caller, "accounts/check", LIMIT).await {
        Ok(body) => match read(base, &caller.bearer.account.id, &body) {
            Ok(route) => return Ok(Known { route, until: None }),
            Err(reason) => reason,
        },
        Err(error) if refused == OnRefusedToken::Report && is_refused_token(&error) => return Err(error),
        Err(error) => error.loggable(),
    };
    tracing::warn!(%reason, "workspace routing could not be found out; the default address is used");
    let route = Route { endpoint: base.clone(), region: None };
    Ok(Known { route, until: Some(Instant::now() + FALLBACK_HOLDS) })
}

/// Asks something about the account: `accounts/check`, `usage`.
pub(super) async fn ask(
    http: &HttpClient,
    caller: &Caller<'_>,
    what: &str,
    limit: Duration,
) -> Result<Bytes, ProxyError> {
    let (base, path) = address(&caller.settings.url, what);
    let endpoint = Endpoint::parse(base, Trust::AnyHttpsHost).expect("a part of an address that tokens may go to");
    let call = Call {
        method: Method::GET,
        endpoint: &endpoint,
        path: &path,
        headers: caller.account()?,
        body: Bytes::new(),
        limit: limit.min(caller.settings.first_event_timeout),
    };
    let (_, body) = client::fetch(http, call, LIMIT_BYTES).await?;
    Ok(body)
}

/// The account endpoints stand beside the model endpoints.
fn address<'u>(url: &'u Endpoint, what: &str) -> (&'u str, String) {
    let base = url.as_str();
    let base = base.strip_suffix("/codex").unwrap_or(base);
    let area = if base.contains("/backend-api") { "/wham" } else { "/api/codex" };
    (base, format!("{area}/{what}"))
}

fn is_refused_token(error: &ProxyError) -> bool {
    matches!(error, ProxyError::Upstream(failure) if failure.fault == Fault::Unauthorized)
}

/// One account's entry in the answer, in either of its forms.
pub(super) fn find(account_id: &str, body: &[u8]) -> Result<Value, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "the answer is not JSON".to_owned())?;
    let is_ours = |account: &&Value| [&account["id"], &account["account_id"]].iter().any(|id| *id == account_id);
    let mut ours = match &answer["accounts"] {
        Value::Array(list) => list.iter().filter(is_ours).collect::<Vec<_>>(),
        Value::Object(map) => map.values().map(|entry| entry.get("account").unwrap_or(entry)).filter(is_ours).collect(),
        _ => Vec::new(),
    };
    match (ours.pop(), ours.is_empty()) {
        (Some(account), true) => Ok(account.clone()),
        _ => Err("the answer does not name the account exactly once".to_owned()),
    }
}

/// Reads the route of one account from the answer, in either of its forms.
fn read(base: &Endpoint, account_id: &str, body: &[u8]) -> Result<Route, String> {
    let account = find(account_id, body)?;
    let endpoint = match account["workspace_backend_origin"].as_str() {
        None => return Err("the answer names no origin".to_owned()),
        Some(UNBOUND) => base.clone(),
        Some(origin) => base.with_origin(origin).map_err(|error| error.to_string())?,
    };
    let region = matches!(account["account_routing_override"].as_str(), Some("us" | "us_cr")).then_some("us");
    Ok(Route { endpoint, region })
}

#[cfg(test)]
mod tests {
    use super::{address, read};
    use crate::endpoint::{Endpoint, Trust};

    fn base() -> Endpoint {
        Endpoint::parse("https://chatgpt.com/backend-api/codex", Trust::KnownHosts).unwrap()
    }

    fn route(body: &str) -> Result<(String, Option<&'static str>), String> {
        read(&base(), "acct-1", body.as_bytes()).map(|route| (route.endpoint.to_string(), route.region))
    }

    #[test]
    fn both_forms_of_the_answer_are_read() {
        let bound = Ok(("https://us.chatgpt.com/backend-api/codex".to_owned(), Some("us")));
        let list = r#"{"accounts":[{"id":"acct-0","workspace_backend_origin":"NO_CONSTRAINT"},
            {"id":"acct-1","workspace_backend_origin":"https://us.chatgpt.com","account_routing_override":"us_cr"}]}"#;
        assert_eq!(route(list), bound);
        let map = r#"{"accounts":{"acct-1":{"account":{"account_id":"acct-1",
            "workspace_backend_origin":"https://us.chatgpt.com","account_routing_override":"us"}}}}"#;
        assert_eq!(route(map), bound);
        let free = r#"{"accounts":[{"id":"acct-1","workspace_backend_origin":"NO_CONSTRAINT",
            "account_routing_override":"NO_CONSTRAINT"}]}"#;
        assert_eq!(route(free), Ok(("https://chatgpt.com/backend-api/codex".to_owned(), None)));
    }

    #[test]
    fn doubtful_answers_are_no_route() {
        let doubtful = [
            "",
            "[]",
            r#"{"accounts":[]}"#,
            r#"{"accounts":[{"id":"acct-1"}]}"#,
            r#"{"accounts":[{"id":"acct-1","workspace_backend_origin":"https://elsewhere.invalid"}]}"#,
            r#"{"accounts":[{"id":"acct-1","workspace_backend_origin":"http://127.0.0.1:9"}]}"#,
            r#"{"accounts":[{"id":"acct-1","workspace_backend_origin":"NO_CONSTRAINT"},
                {"id":"acct-1","workspace_backend_origin":"NO_CONSTRAINT"}]}"#,
        ];
        for body in doubtful {
            assert!(route(body).is_err(), "{body}");
        }
    }

    #[test]
    fn the_account_endpoint_stands_beside_the_models() {
        assert_eq!(address(&base(), "usage"), ("https://chatgpt.com/backend-api", "/wham/usage".to_owned()));
        let relay = Endpoint::parse("http://127.0.0.1:9/codex", Trust::KnownHosts).unwrap();
        assert_eq!(address(&relay, "accounts/check"), ("http://127.0.0.1:9", "/api/codex/accounts/check".to_owned()));
    }
}
