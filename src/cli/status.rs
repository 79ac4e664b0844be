//! `codex-proxy status`: who is signed in, where the files are, and whether the daemon runs.
//!
//! The JSON form is stable: `signed_in`, `accounts` (without tokens), `files`, `daemon` (null when
//! none runs) and `version`. Without a login that can be used the exit code is 3.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use super::exit::{Exit, Failure};
use super::output::answer;
use super::run_file::Running;
use super::terms::{Parts, span, timestamp};
use crate::auth::{self, Profile, State};
use crate::config::Config;

#[derive(Serialize)]
struct Report {
    version: &'static str,
    signed_in: bool,
    accounts: Vec<Profile>,
    files: Files,
    daemon: Option<Running>,
}

#[derive(Serialize)]
struct Files {
    config: PathBuf,
    credentials: PathBuf,
    catalogue: PathBuf,
    run_file: PathBuf,
}

pub(super) async fn run(json: bool, config: Config) -> Result<Exit, Failure> {
    let parts = Parts::of(&config);
    let status = auth::status(&parts.store, parts.clock.as_ref()).await.map_err(Failure::Auth)?;
    let signed_in = status.active().is_some_and(|profile| profile.state != State::Ended);
    let files = Files {
        config: config.paths.config,
        credentials: status.file,
        catalogue: config.paths.catalogue,
        run_file: config.paths.run_file,
    };
    let daemon = Running::find(&files.run_file, &parts.http).await;
    let report = Report { version: env!("CARGO_PKG_VERSION"), signed_in, accounts: status.accounts, files, daemon };
    if json {
        answer(&serde_json::to_string_pretty(&report).expect("texts and numbers always serialise"))?;
    } else {
        answer(&told(&report, parts.clock.now()))?;
    }
    Ok(if signed_in { Exit::Done } else { Exit::SignedOut })
}

fn told(report: &Report, now: SystemTime) -> String {
    let mut lines = Vec::new();
    if report.accounts.is_empty() {
        lines.push("sign-in      nobody is signed in: run `codex-proxy login`".to_owned());
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
            format!(
                "daemon       running at {} (process {}, since {}{kind})",
                daemon.base_url, daemon.pid, daemon.started_at
            )
        }
        None => "daemon       not running: start it with `codex-proxy serve`".to_owned(),
    });
    lines.join("\n")
}

fn account(profile: &Profile, now: SystemTime) -> Vec<String> {
    let active = if profile.is_active { "" } else { " (not the active account)" };
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
        State::Fresh => format!("good {left}"),
        State::Due => format!("good {left}; renewed at its next use"),
        State::Renewable => format!("{left}; renewed at its next use"),
        State::Ended => format!("{left}: run `codex-proxy login`"),
    }
}
