//! Finds the origin for an account's requests: workspaces that are bound to a region have a separate one.
//!
//! The origin is requested before an account's first request, and cached. For all accounts that aren't bound, the
//! default origin is right. A failure therefore doesn't stop a request (only a refused token can, see
//! [`OnRefusedToken`]): the default is used with a warning, and the origin is requested again later. Also requests the
//! other account documents.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::client::{self, HttpRequest};
use super::headers::RequestHeaders;
use crate::endpoint::{Endpoint, Trust};
use crate::error::{Fault, ProxyError};
use crate::net::HttpClient;
use crate::token_source::{Account, CredentialSource};

/// Time limit for a request of `accounts/check`.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;
/// How long the default origin is used before the origin is requested again.
const FALLBACK_TTL: Duration = Duration::from_secs(300);
/// Accounts whose origins are cached.
const MAX_ACCOUNTS: usize = 64;
/// The value of the routing members in `accounts/check` for accounts that are not bound to a region.
pub const UNBOUND_ORIGIN: &str = "NO_CONSTRAINT";

/// Where to send an account's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccountOrigin {
    /// Base URL of `/responses`.
    pub(super) endpoint: Endpoint,
    /// Value of the header `x-openai-account-routing-override`, if the account has one.
    pub(super) region: Option<&'static str>,
}

/// The reaction to a token that the backend refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnRefusedToken {
    /// Return the failure, so that the caller can replace the token.
    Report,
    /// Use the default origin, as after any other failure.
    FallBack,
}

/// The known origins, by account.
#[derive(Debug)]
pub(super) struct OriginCache {
    cells: Mutex<HashMap<Account, Arc<OnceCell<CachedOrigin>>>>,
    /// How long the default origin is used after the backend has refused to name another one.
    refusal_ttl: Duration,
}

#[derive(Debug)]
struct CachedOrigin {
    origin: AccountOrigin,
    /// Set if this is the default origin because of a failure.
    expires: Option<Instant>,
}

impl OriginCache {
    pub(super) fn new(credentials: CredentialSource) -> Self {
        let refusal_ttl = match credentials {
            CredentialSource::Store => FALLBACK_TTL,
            // A client may have named an account that isn't its own, whose origin its token can't request.
            CredentialSource::Client => Duration::ZERO,
        };
        Self { cells: Mutex::default(), refusal_ttl }
    }

    /// Returns the origin of the account of `headers`, and requests it if it isn't cached. Concurrent callers share one
    /// request.
    pub(super) async fn origin(
        &self,
        http: &HttpClient,
        headers: &RequestHeaders<'_>,
        on_refused: OnRefusedToken,
    ) -> Result<AccountOrigin, ProxyError> {
        let cell = self.cell(&headers.bearer.account);
        let cached = cell.get_or_try_init(|| self.discover(http, headers, on_refused)).await?;
        Ok(cached.origin.clone())
    }

    async fn discover(
        &self,
        http: &HttpClient,
        headers: &RequestHeaders<'_>,
        on_refused: OnRefusedToken,
    ) -> Result<CachedOrigin, ProxyError> {
        let base = &headers.settings.url;
        let (reason, ttl) = match fetch_account(http, headers, "accounts/check", TIMEOUT).await {
            Ok(body) => match parse_origin(base, &headers.bearer.account.id, &body) {
                Ok(origin) => return Ok(CachedOrigin { origin, expires: None }),
                Err(reason) => (reason, self.refusal_ttl),
            },
            Err(error) if on_refused == OnRefusedToken::Report && is_refused_token(&error) => return Err(error),
            Err(error @ ProxyError::Upstream(_)) => (error.loggable(), self.refusal_ttl),
            Err(error) => (error.loggable(), FALLBACK_TTL),
        };
        tracing::warn!(%reason, "workspace routing could not be requested: using the default origin");
        let origin = AccountOrigin { endpoint: base.clone(), region: None };
        Ok(CachedOrigin { origin, expires: Some(Instant::now() + ttl) })
    }

    fn cell(&self, account: &Account) -> Arc<OnceCell<CachedOrigin>> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if cells.len() == MAX_ACCOUNTS && !cells.contains_key(account) {
            cells.clear();
        }
        let cell = cells.entry(account.clone()).or_default();
        if cell.get().and_then(|cached| cached.expires).is_some_and(|expires| expires <= Instant::now()) {
            *cell = Arc::default();
        }
        Arc::clone(cell)
    }
}

/// Requests an account document: `accounts/check` or `usage`.
pub(super) async fn fetch_account(
    http: &HttpClient,
    headers: &RequestHeaders<'_>,
    document: &str,
    limit: Duration,
) -> Result<Bytes, ProxyError> {
    let url = &headers.settings.url;
    let request = HttpRequest {
        method: Method::GET,
        endpoint: &chatgpt_base(url),
        path: &account_path(url, document),
        headers: headers.account()?,
        accept_encoding: headers.settings.accept_encoding,
        body: Bytes::new(),
        limit: limit.min(headers.settings.first_event_timeout),
    };
    let (_, body) = client::fetch(http, request, MAX_DOCUMENT_BYTES).await?;
    Ok(body)
}

/// Returns the base URL of the endpoints beside the model endpoints, such as the account documents.
pub(super) fn chatgpt_base(url: &Endpoint) -> Endpoint {
    let base = url.as_str();
    let base = base.strip_suffix("/codex").unwrap_or(base);
    Endpoint::parse(base, Trust::AnyHttpsHost).expect("a prefix of an endpoint is one")
}

/// Returns the path of an account document below [`chatgpt_base`].
pub(super) fn account_path(url: &Endpoint, document: &str) -> String {
    let prefix = if url.as_str().contains("/backend-api") { "/wham" } else { "/api/codex" };
    format!("{prefix}/{document}")
}

pub(super) fn is_refused_token(error: &ProxyError) -> bool {
    matches!(error, ProxyError::Upstream(failure) if failure.fault == Fault::Unauthorized)
}

/// Finds an account in the `accounts/check` document, whose `accounts` is a list or a map. The error is the reason.
pub(super) fn find_account(account_id: &str, body: &[u8]) -> Result<Value, String> {
    let document: Value = serde_json::from_slice(body).map_err(|_| "the response is not JSON".to_owned())?;
    let is_requested = |account: &&Value| [&account["id"], &account["account_id"]].iter().any(|id| *id == account_id);
    let mut found = match &document["accounts"] {
        Value::Array(list) => list.iter().filter(is_requested).collect::<Vec<_>>(),
        Value::Object(map) => {
            map.values().map(|entry| entry.get("account").unwrap_or(entry)).filter(is_requested).collect()
        }
        _ => Vec::new(),
    };
    match (found.pop(), found.is_empty()) {
        (Some(account), true) => Ok(account.clone()),
        _ => Err("the response does not list the account exactly once".to_owned()),
    }
}

fn parse_origin(base: &Endpoint, account_id: &str, body: &[u8]) -> Result<AccountOrigin, String> {
    let account = find_account(account_id, body)?;
    let endpoint = match account["workspace_backend_origin"].as_str() {
        None => return Err("the response has no workspace_backend_origin".to_owned()),
        Some(UNBOUND_ORIGIN) => base.clone(),
        Some(origin) => base.with_origin(origin).map_err(|error| error.to_string())?,
    };
    let region = matches!(account["account_routing_override"].as_str(), Some("us" | "us_cr")).then_some("us");
    Ok(AccountOrigin { endpoint, region })
}

#[cfg(test)]
mod tests {
    use super::{account_path, chatgpt_base, parse_origin};
    use crate::endpoint::{Endpoint, Trust};

    fn base() -> Endpoint {
        Endpoint::parse("https://chatgpt.com/backend-api/codex", Trust::KnownHosts).unwrap()
    }

    fn origin(body: &str) -> Result<(String, Option<&'static str>), String> {
        parse_origin(&base(), "acct-1", body.as_bytes()).map(|origin| (origin.endpoint.to_string(), origin.region))
    }

    #[test]
    fn both_forms_of_the_document_are_parsed() {
        let bound = Ok(("https://us.chatgpt.com/backend-api/codex".to_owned(), Some("us")));
        let list = r#"{"accounts":[{"id":"acct-0","workspace_backend_origin":"NO_CONSTRAINT"},
            {"id":"acct-1","workspace_backend_origin":"https://us.chatgpt.com","account_routing_override":"us_cr"}]}"#;
        assert_eq!(origin(list), bound);
        let map = r#"{"accounts":{"acct-1":{"account":{"account_id":"acct-1",
            "workspace_backend_origin":"https://us.chatgpt.com","account_routing_override":"us"}}}}"#;
        assert_eq!(origin(map), bound);
        let free = r#"{"accounts":[{"id":"acct-1","workspace_backend_origin":"NO_CONSTRAINT",
            "account_routing_override":"NO_CONSTRAINT"}]}"#;
        assert_eq!(origin(free), Ok(("https://chatgpt.com/backend-api/codex".to_owned(), None)));
    }

    #[test]
    fn invalid_documents_are_errors() {
        let invalid = [
            "",
            "[]",
            r#"{"accounts":[]}"#,
            r#"{"accounts":[{"id":"acct-1"}]}"#,
            r#"{"accounts":[{"id":"acct-1","workspace_backend_origin":"https://elsewhere.invalid"}]}"#,
            r#"{"accounts":[{"id":"acct-1","workspace_backend_origin":"http://127.0.0.1:9"}]}"#,
            r#"{"accounts":[{"id":"acct-1","workspace_backend_origin":"NO_CONSTRAINT"},
                {"id":"acct-1","workspace_backend_origin":"NO_CONSTRAINT"}]}"#,
        ];
        for body in invalid {
            assert!(origin(body).is_err(), "{body}");
        }
    }

    #[test]
    fn account_endpoints_are_siblings_of_model_endpoints() {
        let url = |url: &Endpoint| (chatgpt_base(url).to_string(), account_path(url, "usage"));
        assert_eq!(url(&base()), ("https://chatgpt.com/backend-api".to_owned(), "/wham/usage".to_owned()));
        let relay = Endpoint::parse("http://127.0.0.1:9/codex", Trust::KnownHosts).unwrap();
        assert_eq!(url(&relay), ("http://127.0.0.1:9".to_owned(), "/api/codex/usage".to_owned()));
    }
}
