//! Which account a request is for: its header says so, else its key, else nobody does.
//!
//! There is no rotation and no failover: a request that names an account which is not signed in is
//! refused, and never served by another.

use std::sync::Arc;

use http::request::Parts;

use super::gate::ClientKey;
use crate::bearer::{AuthError, Choice, TokenSource};
use crate::error::{ProxyError, Refusal};

const HEADER: &str = "x-proxy-account";

/// The account that a request's key is bound to.
#[derive(Clone, Debug)]
pub(super) struct KeyAccount(Choice);

/// The account of a key, if it is bound to one.
pub(super) fn of_key(key: &ClientKey) -> Option<KeyAccount> {
    let account_id = key.account.clone()?;
    Some(KeyAccount(Choice { account_id, by: format!("the client key '{}' (setting keys.account)", key.name) }))
}

/// Forgets which account a request's key is bound to.
pub(super) fn forget(request: &mut Parts) {
    request.extensions.remove::<KeyAccount>();
}

/// The tokens of the account that a request names; `None`: it names none.
pub(super) async fn tokens(
    request: &Parts,
    tokens: &dyn TokenSource,
) -> Result<Option<Arc<dyn TokenSource>>, ProxyError> {
    if let Some(choice) = of_header(request)? {
        return match tokens.choose(&choice).await {
            Err(error @ AuthError::UnknownAccount { .. }) => {
                Err(Refusal::coded("unknown_account", HEADER, error.to_string()))
            }
            chosen => chosen.map(Some).map_err(ProxyError::Auth),
        };
    }
    match request.extensions.get::<KeyAccount>() {
        Some(KeyAccount(choice)) => tokens.choose(choice).await.map(Some).map_err(ProxyError::Auth),
        None => Ok(None),
    }
}

fn of_header(request: &Parts) -> Result<Option<Choice>, ProxyError> {
    let Some(value) = request.headers.get(HEADER) else { return Ok(None) };
    let id = value.to_str().map_err(|_| Refusal::invalid(HEADER, format!("{HEADER} has to be an account's id")))?;
    let account_id = id.trim().to_owned();
    Ok((!account_id.is_empty()).then(|| Choice { account_id, by: format!("the header {HEADER}") }))
}
