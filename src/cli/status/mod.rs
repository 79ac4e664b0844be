//! `codex-proxy status`: shows the login, the quota, the files and the running daemon.
//!
//! Checks with the backend whether it accepts the account and how much quota is used, for five seconds at most, and
//! refreshes a token that is about to expire. `--offline` does neither, and neither happens if clients send their own
//! logins. Exit code 3: no usable login; 1: the workspace is disabled. The JSON form is stable, contains no token, and
//! is documented in `docs/status.md`.

mod check;
mod quota;
mod text;

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

pub(super) use self::check::{AccountCheck, CheckResult, Verdict, check_account};
pub(super) use self::text::token as describe_token;
use super::color::Coloring;
use super::context::{Context, accounts, env_token};
use super::exit::{Exit, Failure};
use super::output::{print, print_json};
use super::progress;
use super::run_file::RunningDaemon;
use crate::auth::{self, AccessToken, AccountStatus, BackendKind, EnvToken, Location, TokenState};
use crate::config::{Config, Environment};
use crate::net::HttpClient;
use crate::token_source::CredentialSource;
use crate::upstream::Quota;

#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) json: bool,
    /// Make no request and refresh no token.
    pub(super) offline: bool,
}

#[derive(Serialize)]
struct StatusReport {
    version: &'static str,
    signed_in: bool,
    /// Whose login requests use: `store` or `client` (`upstream.credentials`).
    credentials: &'static str,
    access_token: Option<EnvironmentToken>,
    accounts: Vec<AccountStatus>,
    check: Option<AccountCheck>,
    quota: Option<Quota>,
    store: CredentialStore,
    files: Files,
    daemon: Option<RunningDaemon>,
}

/// The access token from the environment, used instead of the accounts.
#[derive(Serialize)]
struct EnvironmentToken {
    variable: &'static str,
    /// Why it can't be used.
    fault: Option<String>,
    /// The account in its claims; a workspace's token has none.
    account: Option<AccountStatus>,
}

/// Where the accounts are stored.
#[derive(Serialize)]
struct CredentialStore {
    /// Where they are: `file`, `keyring` or `memory`.
    place: &'static str,
    /// Where new logins are stored (`auth.store`).
    setting: &'static str,
    /// Name of the keyring entry.
    entry: Option<String>,
}

#[derive(Serialize)]
struct Files {
    config: PathBuf,
    credentials: PathBuf,
    catalogue: PathBuf,
    usage: PathBuf,
    run_file: PathBuf,
    /// The configured log file; `None`: standard error.
    log: Option<PathBuf>,
}

pub(super) async fn run(options: Options, config: Config, environment: &Environment) -> Result<Exit, Failure> {
    let context = Context::of_daemon(&config);
    let is_by_client = config.credentials == CredentialSource::Client;
    let env_token = if is_by_client { None } else { env_token(environment) };
    let chosen = config.auth.account.as_ref().map(|choice| choice.account_id.clone());
    let read_status = async || auth::status(&context.store, context.clock.as_ref(), chosen.as_deref()).await;
    let tokens = accounts(&context, &config, env_token.clone());
    let has_login =
        !is_by_client && (read_status().await.map_err(Failure::Auth)?.active().is_some() || env_token.is_some());
    let check = async || progress::during("checking the account", check_account(&context, &config, &tokens)).await;
    let result = if options.offline || !has_login { None } else { Some(check().await) };
    let (check, quota) = result.map_or((None, None), |CheckResult { check, quota }| (Some(check), quota));
    // Read again: the check may have refreshed the token, or stored that the issuer refused.
    let status = read_status().await.map_err(Failure::Auth)?;
    let access_token = env_token.map(|env_token| EnvironmentToken::of(&env_token, context.clock.now()));
    let is_good = match &access_token {
        Some(token) => token.is_good(),
        None => status.active().is_some_and(|account| account.state != TokenState::Ended),
    };
    let verdict = check.as_ref().map(|check| check.state);
    let signed_in = (is_good || is_by_client) && verdict != Some(Verdict::Refused);
    let files = Files {
        config: config.paths.config,
        credentials: config.auth.credentials,
        catalogue: config.paths.catalogue,
        usage: config.paths.usage,
        run_file: config.paths.run_file,
        log: config.log.file.map(|log| log.path),
    };
    let daemon = RunningDaemon::find(&files.run_file, &context.http).await;
    let store = CredentialStore::of(&status.location, config.auth.store);
    let version = env!("CARGO_PKG_VERSION");
    let accounts = if is_by_client { Vec::new() } else { status.accounts };
    let credentials = if is_by_client { "client" } else { "store" };
    let report =
        StatusReport { version, signed_in, credentials, access_token, accounts, check, quota, store, files, daemon };
    let printed = if options.json {
        print_json(&report)
    } else {
        print(&text::format(&report, context.clock.now(), Coloring::of_stdout(environment)))
    };
    // A refresh may still be running; the new token has to be stored.
    tokens.settle().await;
    printed?;
    Ok(match verdict {
        _ if !signed_in => Exit::SignedOut,
        Some(Verdict::Disabled) => Exit::Failed,
        _ => Exit::Done,
    })
}

/// Prints the base URL of the running daemon, for health checks of containers.
pub(super) async fn find_daemon(config: Config) -> Result<Exit, Failure> {
    let http = HttpClient::new(config.net);
    match RunningDaemon::find(&config.paths.run_file, &http).await {
        Some(daemon) => print(&daemon.base_url).map(|()| Exit::Done),
        None => Ok(Exit::Failed),
    }
}

impl EnvironmentToken {
    fn of(env_token: &EnvToken, now: SystemTime) -> Self {
        let credential = env_token.token.as_ref().ok().and_then(AccessToken::own_credential);
        let account = credential.map(|credential| AccountStatus::new(&credential, true, now));
        Self { variable: env_token.variable, fault: env_token.fault(), account }
    }

    fn is_good(&self) -> bool {
        let is_over = self.account.as_ref().is_some_and(|account| account.state == TokenState::Ended);
        self.fault.is_none() && !is_over
    }
}

impl CredentialStore {
    fn of(location: &Location, setting: BackendKind) -> Self {
        let (place, entry) = match location {
            Location::File(_) => ("file", None),
            Location::Keyring(name) => ("keyring", Some(name.clone())),
            Location::Memory => ("memory", None),
        };
        Self { place, setting: setting.name(), entry }
    }
}
