//! Selects the account of a request: the one its key is bound to, else the one named by the `x-proxy-account` header,
//! else the active one. A header that names another account than the key's is refused. (A request that continues a
//! stored response prefers that response's account to the active one; see `handler`.)
//!
//! There is no rotation and no failover: a request for an account that isn't signed in is refused. A key may be limited
//! to a share of the account's quota.

use std::sync::Arc;

use http::request::Parts;

use super::access::ClientKey;
use super::handler::key_name;
use crate::error::{ProxyError, Refusal};
use crate::token_source::{AccountChoice, AuthError, Bearer, TokenSource};
use crate::upstream::Upstream;

const HEADER: &str = "x-proxy-account";

/// The account that the key of a request is bound to.
#[derive(Clone, Debug)]
struct KeyAccount(AccountChoice);

fn bound_account(key: &ClientKey) -> Option<KeyAccount> {
    let account_id = key.account.clone()?;
    Some(KeyAccount(AccountChoice { account_id, by: format!("the client key '{}' (setting keys.account)", key.name) }))
}

/// The percentage of a quota window above which requests with this key are refused.
#[derive(Clone, Copy, Debug)]
struct KeyShare(u8);

/// Attaches the account and quota share of a key.
pub(super) fn attach_key(key: &ClientKey, request: &mut Parts) {
    bound_account(key).map(|account| request.extensions.insert(account));
    key.window_percent.map(|percent| request.extensions.insert(KeyShare(percent)));
}

/// Removes what [`attach_key`] attached.
pub(super) fn detach_key(request: &mut Parts) {
    request.extensions.remove::<KeyAccount>();
    request.extensions.remove::<KeyShare>();
}

/// Refuses a request while a quota window of the account is used beyond the share of the request's key.
pub(super) async fn check_share(request: &Parts, upstream: &Upstream, bearer: &Bearer) -> Result<(), ProxyError> {
    let Some(KeyShare(percent)) = request.extensions.get() else { return Ok(()) };
    upstream.check_reserve(bearer, key_name(request).unwrap_or_default(), *percent).await
}

/// The tokens of the account that the request's key or header selects; `None`: neither selects one.
pub(super) async fn tokens(
    request: &Parts,
    tokens: &dyn TokenSource,
) -> Result<Option<Arc<dyn TokenSource>>, ProxyError> {
    let bound = request.extensions.get::<KeyAccount>();
    if let Some(choice) = header_choice(request)? {
        if bound.is_some_and(|KeyAccount(bound)| bound.account_id != choice.account_id) {
            let message = format!(
                "this client key is bound to another account (setting keys.account); send the request without the \
                 header {HEADER}"
            );
            return Err(Refusal::forbidden("account_bound", Some(HEADER), message));
        }
        return match tokens.choose(&choice).await {
            Err(error @ AuthError::UnknownAccount { .. }) => {
                Err(Refusal::coded("unknown_account", HEADER, error.to_string()))
            }
            chosen => chosen.map(Some).map_err(ProxyError::Auth),
        };
    }
    match bound {
        Some(KeyAccount(choice)) => tokens.choose(choice).await.map(Some).map_err(ProxyError::Auth),
        None => Ok(None),
    }
}

fn header_choice(request: &Parts) -> Result<Option<AccountChoice>, ProxyError> {
    let Some(value) = request.headers.get(HEADER) else { return Ok(None) };
    let id = value.to_str().map_err(|_| Refusal::invalid(HEADER, format!("{HEADER} must be an account id")))?;
    let account_id = id.trim().to_owned();
    Ok((!account_id.is_empty()).then(|| AccountChoice { account_id, by: format!("the header {HEADER}") }))
}
