//! Selects the account of a request: the one its key is bound to, else the one named by the `x-proxy-account` header,
//! else the active one. A header that names another account than the key's is refused. (A request that continues a
//! stored response prefers that response's account to the active one; see `handler`.) With `upstream.credentials =
//! "client"` it is the account of the access token in the request's headers.
//!
//! There is no rotation and no failover: a request for an account that isn't signed in is refused. A key may be limited
//! to a share of the account's quota.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Extensions, HeaderMap};

use super::Services;
use super::access::ClientKey;
use super::handler::key_name;
use crate::auth::ClientLogin;
use crate::error::{ProxyError, Refusal};
use crate::history::ResponseOwner;
use crate::token_source::{AccountChoice, AuthError, Bearer, CredentialSource, TokenSource};
use crate::upstream::Upstream;

pub(super) const HEADER: &str = "x-proxy-account";

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

/// The percentage of a quota window above which the lines of batches wait.
#[derive(Clone, Copy, Debug)]
struct BatchShare(u8);

/// Attaches the quota share of batches.
pub(super) fn attach_batch_share(percent: u8, extensions: &mut Extensions) {
    extensions.insert(BatchShare(percent));
}

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

/// Refuses a request while a quota window of the account is used beyond the share of the request's key, or of batches.
pub(super) async fn check_share(request: &Parts, upstream: &Upstream, bearer: &Bearer) -> Result<(), ProxyError> {
    if let Some(KeyShare(percent)) = request.extensions.get() {
        upstream.check_reserve(bearer, Some(key_name(request).unwrap_or_default()), *percent).await?;
    }
    match request.extensions.get() {
        Some(BatchShare(percent)) => upstream.check_reserve(bearer, None, *percent).await,
        None => Ok(()),
    }
}

/// The tokens of the account that the request's key or header selects, or that the client itself is signed in with;
/// `None`: the request selects none. Requests the model catalog of a client's account if it is due.
pub(super) async fn tokens(request: &Parts, services: &Services) -> Result<Option<Arc<dyn TokenSource>>, ProxyError> {
    let tokens = services.tokens.as_ref();
    if tokens.credentials() == CredentialSource::Client {
        let login = client_login(request)?;
        services.upstream.refresh_catalogue_of(login.bearer()).await?;
        return Ok(Some(Arc::new(login)));
    }
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

/// The tokens for requests of our own on behalf of a request that needs none, such as one for the quota: those of the
/// client if it sends them, else those of the active account.
pub(super) fn optional_tokens(headers: &HeaderMap, services: &Services) -> Arc<dyn TokenSource> {
    let stored = || Arc::clone(&services.tokens);
    match services.tokens.credentials() {
        CredentialSource::Store => stored(),
        CredentialSource::Client => login_of_headers(headers).map_or_else(|_| stored(), |login| Arc::new(login) as _),
    }
}

/// Requests the model catalog of the client's account if it is due and the client sends its login. Otherwise, the
/// catalog is refreshed in the background.
///
/// # Errors
/// If the backend refuses the client's token.
pub(super) async fn refresh_catalogue(headers: &HeaderMap, services: &Services) -> Result<(), ProxyError> {
    match login_of_headers(headers) {
        Ok(login) if services.tokens.credentials() == CredentialSource::Client => {
            services.upstream.refresh_catalogue_of(login.bearer()).await
        }
        _ => Ok(()),
    }
}

/// The account of the login that the client sends; `None`: it sends none, or doesn't sign in itself.
pub(super) fn of_client(headers: &HeaderMap, services: &Services) -> Option<String> {
    match services.tokens.credentials() {
        CredentialSource::Store => None,
        CredentialSource::Client => Some(login_of_headers(headers).ok()?.bearer().account.id.clone()),
    }
}

/// Adds the account of the client's login to the owner of stored responses: another account must not continue them.
pub(super) fn attach_login(request: &mut Parts) {
    if let Ok(login) = login_of_headers(&request.headers) {
        let owner = request.extensions.remove::<ResponseOwner>().unwrap_or_default();
        request.extensions.insert(owner.with_login(&login.bearer().account.id));
    }
}

/// The login that a client sends itself.
fn client_login(request: &Parts) -> Result<ClientLogin, ProxyError> {
    if request.headers.contains_key(HEADER) {
        let message = format!(
            "clients sign in themselves (setting upstream.credentials = \"client\"), so no account can be selected; send \
             the request without the header {HEADER}"
        );
        return Err(Refusal::coded("account_not_selectable", HEADER, message));
    }
    login_of_headers(&request.headers).map_err(ProxyError::Auth)
}

fn login_of_headers(headers: &HeaderMap) -> Result<ClientLogin, AuthError> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    ClientLogin::of_headers(text(AUTHORIZATION.as_str()), text("chatgpt-account-id"))
}

fn header_choice(request: &Parts) -> Result<Option<AccountChoice>, ProxyError> {
    let Some(value) = request.headers.get(HEADER) else { return Ok(None) };
    let id = value.to_str().map_err(|_| Refusal::invalid(HEADER, format!("{HEADER} must be an account id")))?;
    let account_id = id.trim().to_owned();
    Ok((!account_id.is_empty()).then(|| AccountChoice { account_id, by: format!("the header {HEADER}") }))
}
