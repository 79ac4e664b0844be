//! `codex-proxy status`: who is signed in, where the files are, and whether the daemon runs.
//!
//! Beside what the store knows it asks the backend whether the account is taken and how much of its
//! quota is used, within a few seconds, and renews a token that is about to end; `--offline` asks
//! nobody. Exit code 3: there is no sign-in that can be used; 1: there is, and its workspace is
//! disabled. The JSON form is stable, holds no token, and is described in `docs/status.md`.

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
use super::run_file::Running;
use crate::auth::{self, AccessToken, Given, Location, Place, Profile, State};
use crate::config::{Config, Environment};
use crate::net::HttpClient;
use crate::upstream::Quota;

/// How much of an answer is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Print JSON.
    pub(super) json: bool,
    /// Ask nobody.
    pub(super) offline: bool,
}

#[derive(Serialize)]
struct StatusReport {
    version: &'static str,
    signed_in: bool,
    access_token: Option<EnvironmentToken>,
    accounts: Vec<Profile>,
    check: Option<AccountCheck>,
    quota: Option<Quota>,
    store: CredentialStore,
    files: Files,
    daemon: Option<Running>,
}

/// The access token that the environment gives, which is used instead of the accounts.
#[derive(Serialize)]
struct EnvironmentToken {
    variable: &'static str,
    /// Why it can't be used.
    fault: Option<String>,
    /// What it says of itself; a workspace's token says nothing.
    account: Option<Profile>,
}

/// Where the accounts are kept.
#[derive(Serialize)]
struct CredentialStore {
    place: &'static str,
    setting: &'static str,
    /// The name of the entry, in a keyring.
    entry: Option<String>,
}

#[derive(Serialize)]
struct Files {
    config: PathBuf,
    credentials: PathBuf,
    catalogue: PathBuf,
    usage: PathBuf,
    run_file: PathBuf,
    /// What a daemon is set to log to; none: standard error.
    log: Option<PathBuf>,
}

pub(super) async fn run(options: Options, config: Config, environment: &Environment) -> Result<Exit, Failure> {
    let context = Context::of_daemon(&config);
    let given = env_token(environment);
    let chosen = config.auth.account.as_ref().map(|choice| choice.account_id.clone());
    let look = async || auth::status(&context.store, context.clock.as_ref(), chosen.as_deref()).await;
    let tokens = accounts(&context, &config, given.clone());
    let is_there = look().await.map_err(Failure::Auth)?.active().is_some() || given.is_some();
    let asked = async || progress::during("asking the backend", check_account(&context, &config, &tokens)).await;
    let found = if options.offline || !is_there { None } else { Some(asked().await) };
    let (check, quota) = found.map_or((None, None), |CheckResult { check, quota }| (Some(check), quota));
    // The check may have renewed it, or heard that nobody can.
    let status = look().await.map_err(Failure::Auth)?;
    let access_token = given.map(|given| EnvironmentToken::of(&given, context.clock.now()));
    let is_good = match &access_token {
        Some(token) => token.is_good(),
        None => status.active().is_some_and(|profile| profile.state != State::Ended),
    };
    let verdict = check.as_ref().map(|check| check.state);
    let signed_in = is_good && verdict != Some(Verdict::Refused);
    let files = Files {
        config: config.paths.config,
        credentials: config.auth.credentials,
        catalogue: config.paths.catalogue,
        usage: config.paths.usage,
        run_file: config.paths.run_file,
        log: config.log.file.map(|log| log.path),
    };
    let daemon = Running::find(&files.run_file, &context.http).await;
    let store = CredentialStore::of(&status.location, config.auth.store);
    let version = env!("CARGO_PKG_VERSION");
    let accounts = status.accounts;
    let report = StatusReport { version, signed_in, access_token, accounts, check, quota, store, files, daemon };
    let printed = if options.json {
        print_json(&report)
    } else {
        print(&text::told(&report, context.clock.now(), Coloring::of_stdout(environment)))
    };
    // A renewal that takes longer than the check may have spent the old token already.
    tokens.settle().await;
    printed?;
    Ok(match verdict {
        _ if !signed_in => Exit::SignedOut,
        Some(Verdict::Disabled) => Exit::Failed,
        _ => Exit::Done,
    })
}

/// Looks for the daemon and for nothing else; what looks after a container asks no more.
pub(super) async fn find_daemon(config: Config) -> Result<Exit, Failure> {
    let http = HttpClient::new(config.net);
    match Running::find(&config.paths.run_file, &http).await {
        Some(daemon) => print(&daemon.base_url).map(|()| Exit::Done),
        None => Ok(Exit::Failed),
    }
}

impl EnvironmentToken {
    fn of(given: &Given, now: SystemTime) -> Self {
        let credential = given.token.as_ref().ok().and_then(AccessToken::told);
        let account = credential.map(|credential| Profile::of(&credential, true, now));
        Self { variable: given.variable, fault: given.fault(), account }
    }

    fn is_good(&self) -> bool {
        let is_over = self.account.as_ref().is_some_and(|profile| profile.state == State::Ended);
        self.fault.is_none() && !is_over
    }
}

impl CredentialStore {
    fn of(location: &Location, setting: Place) -> Self {
        let (place, entry) = match location {
            Location::File(_) => ("file", None),
            Location::Keyring(name) => ("keyring", Some(name.clone())),
            Location::Memory => ("memory", None),
        };
        Self { place, setting: setting.name(), entry }
    }
}
