//! `codex-proxy status`: who is signed in, where the files are, and which daemon runs.
//!
//! It asks the store and the daemon, not the network, and shows no token. With `--json` the answer
//! is for scripts: members are added, never renamed. Nobody signed in is exit code 3.

use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

use super::exit::{Exit, Failure};
use super::output::answer;
use super::run_file::Running;
use crate::auth::{Profile, State, Status, Store, status};
use crate::clock::SystemClock;
use crate::config::{Config, Paths};
use crate::net::HttpClient;

/// In which form the answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

#[derive(Serialize)]
struct Report<'r> {
    signed_in: bool,
    accounts: &'r [Profile],
    files: Files<'r>,
    daemon: Option<Running>,
}

#[derive(Serialize)]
struct Files<'r> {
    config: &'r Path,
    credentials: &'r Path,
    catalogue: &'r Path,
    run_file: &'r Path,
}

pub(super) async fn run(form: Form, config: &Config) -> Result<Exit, Failure> {
    let found = status(&Store::file(&config.auth.credentials), &SystemClock).await.map_err(Failure::Auth)?;
    let daemon = Running::find(&config.paths.run_file, &HttpClient::new(config.net.clone())).await;
    let is_signed_in = found.active().is_some_and(|profile| profile.state != State::Ended);
    match form {
        Form::Text => answer(&text(&found, daemon.as_ref(), &config.paths))?,
        Form::Json => {
            let files = Files::of(&config.paths);
            let report = Report { signed_in: is_signed_in, accounts: &found.accounts, files, daemon };
            answer(&serde_json::to_string_pretty(&report).map_err(|error| Failure::other(&error))?)?;
        }
    }
    Ok(if is_signed_in { Exit::Done } else { Exit::SignedOut })
}

impl<'r> Files<'r> {
    fn of(paths: &'r Paths) -> Self {
        Self {
            config: &paths.config,
            credentials: &paths.credentials,
            catalogue: &paths.catalogue,
            run_file: &paths.run_file,
        }
    }
}

fn text(status: &Status, daemon: Option<&Running>, paths: &Paths) -> String {
    let mut lines = Vec::new();
    for profile in &status.accounts {
        lines.push(("account", account(profile)));
        lines.push(("token", token(profile)));
    }
    if status.active().is_none() {
        lines.push(("account", "nobody is signed in: run `codex-proxy login`".to_owned()));
    }
    lines.push(("daemon", daemon.map_or_else(|| "not running".to_owned(), running)));
    lines.push(("config", file(&paths.config)));
    lines.push(("store", file(&paths.credentials)));
    let lines: Vec<_> = lines.iter().map(|(label, value)| format!("{label:<8} {value}")).collect();
    lines.join("\n")
}

fn account(profile: &Profile) -> String {
    let who = profile.email.as_deref().unwrap_or("(no e-mail address)");
    let plan = profile.plan.as_deref().unwrap_or("unknown");
    let active = if profile.is_active { "" } else { " (not in use)" };
    format!("{who}, plan {plan}, workspace {}{active}", profile.account_id)
}

fn token(profile: &Profile) -> String {
    let when = |time: Option<SystemTime>| {
        time.map_or_else(|| "an unknown time".to_owned(), |time| humantime::format_rfc3339_seconds(time).to_string())
    };
    let end = when(profile.expires_at);
    let state = match profile.state {
        State::Fresh => format!("good until {end}"),
        State::Due => format!("good until {end}, due for renewal"),
        State::Renewable => format!("ended at {end}; the next request renews it"),
        State::Ended => format!("ended at {end}: run `codex-proxy login`"),
    };
    match &profile.borrowed_from {
        Some(lender) => format!("{state}; borrowed from {} ({})", lender.owner, lender.path.display()),
        None => state,
    }
}

fn running(daemon: &Running) -> String {
    let demo = if daemon.demo { ", demo" } else { "" };
    format!("{} (pid {}, version {}, since {}{demo})", daemon.base_url, daemon.pid, daemon.version, daemon.started_at)
}

fn file(path: &Path) -> String {
    let absent = if path.exists() { "" } else { " (does not exist yet)" };
    format!("{}{absent}", path.display())
}
