//! `codex-proxy status`: who is signed in, where the files are, and whether the daemon runs.
//!
//! The JSON form is stable: `signed_in`, `access_token` (of the environment, null when it gives
//! none), `accounts` (without tokens), `files`, `daemon` (null when none runs) and `version`. Without a login that can be used the exit code is 3.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use super::exit::{Exit, Failure};
use super::output::answer;
use super::run_file::Running;
use super::terms::{Parts, given, span, timestamp};
use crate::auth::{self, AccessToken, Given, Profile, State};
use crate::config::{Config, Environment};

#[derive(Serialize)]
struct Report {
    version: &'static str,
    signed_in: bool,
    access_token: Option<FromEnvironment>,
    accounts: Vec<Profile>,
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

#[derive(Serialize)]
struct Files {
    config: PathBuf,
    credentials: PathBuf,
    catalogue: PathBuf,
    run_file: PathBuf,
}

pub(super) async fn run(json: bool, config: Config, environment: &Environment) -> Result<Exit, Failure> {
    let parts = Parts::of(&config);
    let chosen = config.auth.account.as_ref().map(|choice| choice.account_id.as_str());
    let status = auth::status(&parts.store, parts.clock.as_ref(), chosen).await.map_err(Failure::Auth)?;
    let access_token = given(environment).map(|given| from_environment(&given, parts.clock.now()));
    let signed_in = match &access_token {
        Some(token) => token.is_good(),
        None => status.active().is_some_and(|profile| profile.state != State::Ended),
    };
    let files = Files {
        config: config.paths.config,
        credentials: status.file,
        catalogue: config.paths.catalogue,
        run_file: config.paths.run_file,
    };
    let daemon = Running::find(&files.run_file, &parts.http).await;
    let version = env!("CARGO_PKG_VERSION");
    let report = Report { version, signed_in, access_token, accounts: status.accounts, files, daemon };
    if json {
        answer(&serde_json::to_string_pretty(&report).expect("texts and numbers always serialise"))?;
    } else {
        answer(&told(&report, parts.clock.now()))?;
    }
    Ok(if signed_in { Exit::Done } else { Exit::SignedOut })
}

fn told(report: &Report, now: SystemTime) -> String {
    let mut lines = Vec::new();
    if let Some(token) = &report.access_token {
        lines.extend(token.told(now));
    } else if report.accounts.is_empty() {
        lines.push("sign-in      nobody is signed in: run `codex-proxy login`".to_owned());
    } else if !report.accounts.iter().any(|profile| profile.is_active) {
        lines.push("sign-in      none of the accounts is in use: `codex-proxy accounts use ID` chooses one".to_owned());
    }
    report.accounts.iter().for_each(|profile| lines.extend(account(profile, now)));
    let files = &report.files;
    for (name, path) in
        [("config", &files.config), ("credentials", &files.credentials), ("catalogue", &files.catalogue)]
    {
        let absent = if path.exists() { "" } else { " (not there yet)" };
        lines.push(format!("{name:<12} {}{absent}", path.display()));
    }
    lines.push(match &report.daemon {
        Some(daemon) => {
            let kind = if daemon.demo { ", demo" } else { "" };
            let socket = daemon.socket.as_ref().map(|path| format!(" on the socket {}", path.display()));
            format!(
                "daemon       running at {}{} (process {}, since {}{kind})",
                daemon.base_url,
                socket.unwrap_or_default(),
                daemon.pid,
                daemon.started_at
            )
        }
        None => "daemon       not running: start it with `codex-proxy serve`".to_owned(),
    });
    lines.join("\n")
}

fn from_environment(given: &Given, now: SystemTime) -> FromEnvironment {
    let credential = given.token.as_ref().ok().and_then(AccessToken::told);
    let account = credential.map(|credential| Profile::of(&credential, true, now));
    FromEnvironment { variable: given.variable, fault: given.fault(), account }
}

impl FromEnvironment {
    fn is_good(&self) -> bool {
        let is_over = self.account.as_ref().is_some_and(|profile| profile.state == State::Ended);
        self.fault.is_none() && !is_over
    }

    fn told(&self, now: SystemTime) -> Vec<String> {
        let outranks = format!("the access token in {} is used, and no account of the store", self.variable);
        let mut lines = vec![format!("sign-in      {outranks}")];
        match (&self.fault, &self.account) {
            (Some(fault), _) => lines.push(format!("token        {fault}")),
            (None, Some(profile)) => lines.extend(account(profile, now)),
            (None, None) => lines.push("token        a workspace's, without a stated end".to_owned()),
        }
        lines
    }
}

fn account(profile: &Profile, now: SystemTime) -> Vec<String> {
    let active = if profile.is_active { "" } else { " (not in use)" };
    let name = profile.email.as_deref().unwrap_or("an account without an address");
    let plan = profile.plan.as_deref().unwrap_or("unknown");
    let mut lines = vec![
        format!("sign-in      {name}{active}"),
        format!("account      {} (plan {plan})", profile.account_id),
        format!("token        {}", token(profile, now)),
    ];
    if let Some(lender) = &profile.borrowed_from {
        lines.push(format!("borrowed     from {} ({})", lender.owner, lender.path.display()));
    }
    lines
}

fn token(profile: &Profile, now: SystemTime) -> String {
    let left = profile.expires_at.map(|end| match end.duration_since(now) {
        Ok(left) => format!("until {} (in {})", timestamp(end), span(left)),
        Err(_) => format!("ended at {}", timestamp(end)),
    });
    let left = left.unwrap_or_else(|| "without a stated end".to_owned());
    match profile.state {
        State::Fresh if !profile.is_renewable => format!("good {left}; nothing renews it"),
        State::Fresh => format!("good {left}"),
        State::Due => format!("good {left}; renewed at its next use"),
        State::Renewable => format!("{left}; renewed at its next use"),
        State::Ended => format!("{left}: run `codex-proxy login`"),
    }
}
