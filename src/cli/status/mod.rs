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

pub(super) use self::check::{Check, Found, Verdict, make as ask};
pub(super) use self::text::token as told_of_token;
use super::charts::Paint;
use super::context::{Parts, accounts, given};
use super::exit::{Exit, Failure};
use super::output::{answer, answer_json};
use super::progress;
use super::run_file::Running;
use crate::auth::{self, AccessToken, Given, Location, Place, Profile, State};
use crate::config::{Config, Environment};
use crate::net::HttpClient;
use crate::upstream::Quota;

/// How much of an answer is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Print JSON.
    pub(super) json: bool,
    /// Ask nobody.
    pub(super) offline: bool,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    signed_in: bool,
    access_token: Option<FromEnvironment>,
    accounts: Vec<Profile>,
    check: Option<Check>,
    quota: Option<Quota>,
    store: Kept,
    files: Files,
    daemon: Option<Running>,
}

/// The access token that the environment gives, which is used instead of the accounts.
#[derive(Serialize)]
struct FromEnvironment {
    variable: &'static str,
    /// Why it can't be used.
    fault: Option<String>,
    /// What it says of itself; a workspace's token says nothing.
    account: Option<Profile>,
}

/// Where the accounts are kept.
#[derive(Serialize)]
struct Kept {
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

pub(super) async fn run(wish: Wish, config: Config, environment: &Environment) -> Result<Exit, Failure> {
    let parts = Parts::of_daemon(&config);
    let given = given(environment);
    let chosen = config.auth.account.as_ref().map(|choice| choice.account_id.clone());
    let look = async || auth::status(&parts.store, parts.clock.as_ref(), chosen.as_deref()).await;
    let tokens = accounts(&parts, &config, given.clone());
    let is_there = look().await.map_err(Failure::Auth)?.active().is_some() || given.is_some();
    let asked = async || progress::told("asking the backend", check::make(&parts, &config, &tokens)).await;
    let found = if wish.offline || !is_there { None } else { Some(asked().await) };
    let (check, quota) = found.map_or((None, None), |Found { check, quota }| (Some(check), quota));
    // The check may have renewed it, or heard that nobody can.
    let status = look().await.map_err(Failure::Auth)?;
    let access_token = given.map(|given| FromEnvironment::of(&given, parts.clock.now()));
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
    let daemon = Running::find(&files.run_file, &parts.http).await;
    let store = Kept::of(&status.location, config.auth.store);
    let version = env!("CARGO_PKG_VERSION");
    let accounts = status.accounts;
    let report = Report { version, signed_in, access_token, accounts, check, quota, store, files, daemon };
    let printed = if wish.json {
        answer_json(&report)
    } else {
        answer(&text::told(&report, parts.clock.now(), Paint::of(environment)))
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
        Some(daemon) => answer(&daemon.base_url).map(|()| Exit::Done),
        None => Ok(Exit::Failed),
    }
}

impl FromEnvironment {
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

impl Kept {
    fn of(location: &Location, setting: Place) -> Self {
        let (place, entry) = match location {
            Location::File(_) => ("file", None),
            Location::Keyring(name) => ("keyring", Some(name.clone())),
            Location::Memory => ("memory", None),
        };
        Self { place, setting: setting.name(), entry }
    }
}
