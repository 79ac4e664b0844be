//! Services that several commands use (HTTP client, credential store, issuer, clock), and formatting of durations.

use std::sync::Arc;
use std::time::Duration;

use super::exit::Failure;
use super::output::eprint;
use crate::auth::{self, AccessToken, Accounts, EnvToken, Issuer, Keyring, Store};
use crate::clock::{Clock, CorrectedClock, SystemClock};
use crate::config::{Config, Environment};
use crate::net::HttpClient;
use crate::token_source::{AuthError, CredentialSource};
use crate::upstream::{self, Upstream};

/// How long the daemon waits for a keyring that is locked or hangs.
const DAEMON_KEYRING_TIMEOUT: Duration = Duration::from_secs(10);

/// The services that a command uses, built from the settings.
pub(super) struct Context {
    pub(super) http: HttpClient,
    pub(super) store: Store,
    pub(super) issuer: Issuer,
    pub(super) clock: Arc<dyn Clock>,
}

impl Context {
    pub(super) fn of(config: &Config) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(CorrectedClock::new(Arc::new(SystemClock)));
        let http = HttpClient::new(config.net.clone()).with_clock(Arc::clone(&clock));
        let issuer = Issuer::new(http.clone(), &config.auth);
        let store = Store::persistent(&config.auth.credentials, config.auth.store, Keyring::platform());
        Self { http, store, issuer, clock }
    }

    /// Like [`Self::of`], but doesn't wait for a user to unlock the keyring. For the daemon and for status commands.
    pub(super) fn of_daemon(config: &Config) -> Self {
        let keyring = Keyring::platform().with_timeout(DAEMON_KEYRING_TIMEOUT);
        Self { store: Store::persistent(&config.auth.credentials, config.auth.store, keyring), ..Self::of(config) }
    }
}

/// Returns the access token from the environment: `CODEX_PROXY_ACCESS_TOKEN`, else `CODEX_ACCESS_TOKEN`. An unusable
/// token in the latter is ignored with a warning, because it may be meant for another program.
pub(super) fn env_token(environment: &Environment) -> Option<EnvToken> {
    let read = |variable: &'static str| {
        let text = environment.get(variable)?.to_str().unwrap_or("\u{fffd}").to_owned();
        (!text.trim().is_empty()).then(|| EnvToken { variable, token: AccessToken::parse(&text) })
    };
    if let Some(own) = read("CODEX_PROXY_ACCESS_TOKEN") {
        return Some(own);
    }
    let other = read("CODEX_ACCESS_TOKEN")?;
    match other.fault() {
        Some(fault) => {
            eprint(&format!("warning: ignored an access token: {fault}"));
            None
        }
        None => Some(other),
    }
}

/// Returns the token source of a command: `env_token`, or else the accounts of the store.
pub(super) fn accounts(context: &Context, config: &Config, env_token: Option<EnvToken>) -> Accounts {
    let (store, issuer, clock) = (context.store.clone(), context.issuer.clone(), Arc::clone(&context.clock));
    match env_token {
        Some(env_token) => Accounts::from_env(env_token, store, issuer, clock),
        None => Accounts::new(store, issuer, clock, config.auth.account.clone()),
    }
}

/// Fails if clients send their own logins, for commands that need a login here.
pub(super) fn require_own_login(config: &Config) -> Result<(), Failure> {
    match config.credentials {
        CredentialSource::Store => Ok(()),
        CredentialSource::Client => Err(Failure::Auth(AuthError::ByClient)),
    }
}

/// Returns the upstream settings. Unless configured, the client version is that of the installed Codex CLI.
pub(super) fn upstream_settings(config: &Config) -> upstream::Settings {
    let installed = || upstream::version::installed(config.search_path.as_deref()?);
    let settings = config.upstream.clone();
    // The file names the account, if only as a hash.
    let catalogue_file = settings.catalogue_file.clone().filter(|_| config.credentials == CredentialSource::Store);
    let client_version = settings.client_version.clone().or_else(installed);
    upstream::Settings { client_version, catalogue_file, ..settings }
}

/// Loads the saved model catalog, if it is that of the account in use. Makes no request.
pub(super) async fn load_saved_catalogue(
    upstream: &Upstream,
    context: &Context,
    config: &Config,
    env_token: Option<&EnvToken>,
) {
    if config.credentials == CredentialSource::Client || !config.paths.catalogue.exists() {
        return;
    }
    let account_id = if let Some(env_token) = env_token {
        env_token.token.as_ref().ok().and_then(AccessToken::own_credential).map(|credential| credential.account_id)
    } else {
        let chosen = config.auth.account.as_ref().map(|choice| choice.account_id.as_str());
        let status = auth::status(&context.store, context.clock.as_ref(), chosen).await.ok();
        status.and_then(|status| Some(status.active()?.account_id.clone()))
    };
    upstream.load_catalogue(account_id.as_deref()).await;
}

/// Formats a duration in its two largest units: `9 days 3 h`.
pub(super) fn span(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    let (days, hours) = (minutes / 1440, minutes / 60 % 24);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {} min", minutes % 60),
        (1, hours) => format!("1 day {hours} h"),
        (days, hours) => format!("{days} days {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::span;

    #[test]
    fn a_duration_is_shown_in_its_two_largest_units() {
        let of = |minutes: u64| span(Duration::from_secs(minutes * 60));
        assert_eq!(
            [of(0), of(59), of(61), of(1500), of(14_581)],
            ["0 min", "59 min", "1 h 1 min", "1 day 1 h", "10 days 3 h"]
        );
    }
}
