//! The report of `status`, for people.

use std::path::Path;
use std::time::SystemTime;

use super::super::color::Coloring;
use super::super::context::{span, timestamp};
use super::super::service::where_the_log_is;
use super::super::table::{WIDTH, wrap};
use super::check::{AccountCheck, Verdict};
use super::{EnvironmentToken, StatusReport, quota};
use crate::auth::{Profile, State};
use crate::command_hint::{command, unset};

/// The room for what a line is about.
const NAME: usize = 13;

/// The report as a person reads it.
pub(super) fn told(report: &StatusReport, now: SystemTime, coloring: Coloring) -> String {
    let mut lines = Vec::new();
    if let Some(token) = &report.access_token {
        lines.extend(token.told(now));
    } else if report.accounts.is_empty() {
        lines.push(row("sign-in", &format!("nobody is signed in: run `{}`", command("login"))));
    } else if !report.accounts.iter().any(|profile| profile.is_active) {
        let choose = command("accounts use ID");
        lines.push(row("sign-in", &format!("none of the accounts is in use: `{choose}` chooses one")));
    }
    let verdict = report.check.as_ref().map(|check| check.state);
    for profile in &report.accounts {
        let is_checked = profile.is_active && report.access_token.is_none();
        lines.extend(account(profile, verdict.filter(|_| is_checked), &command("login"), now));
    }
    lines.extend(report.check.as_ref().map(|check| row("check", &checked(check))));
    lines.extend(report.quota.iter().flat_map(|told| quota::lines(told, now, coloring)));
    let files = &report.files;
    lines.push(file("config", &files.config));
    lines.push(match &report.store.entry {
        Some(entry) => format!("credentials  in the keyring (codex-proxy, {entry})"),
        None => file("credentials", &files.credentials),
    });
    if report.store.place != report.store.setting && !report.accounts.is_empty() {
        let (place, setting) = (report.store.place, report.store.setting);
        let move_there = command(&format!("accounts move --to {setting}"));
        lines.push(row("", &format!("auth.store is \"{setting}\": set it to \"{place}\", or run `{move_there}`")));
    }
    lines.push(file("catalogue", &files.catalogue));
    lines.push(file("usage", &files.usage));
    lines.push(format!("{:<NAME$}{}", "log", log(report)));
    lines.push(row(
        "daemon",
        &match &report.daemon {
            Some(daemon) => {
                let kind = if daemon.demo { ", demo" } else { "" };
                let socket = daemon.socket.as_ref().map(|path| format!(" on the socket {}", path.display()));
                format!(
                    "running at {}{} (process {}, since {}{kind})",
                    daemon.base_url,
                    socket.unwrap_or_default(),
                    daemon.pid,
                    daemon.started_at
                )
            }
            None => format!("not running: start it with `{}`", command("serve")),
        },
    ));
    lines.join("\n")
}

impl EnvironmentToken {
    fn told(&self, now: SystemTime) -> Vec<String> {
        let outranks = format!("the access token in {} is used, and no account of the store", self.variable);
        let mut lines = vec![row("sign-in", &outranks)];
        match (&self.fault, &self.account) {
            (Some(fault), _) => lines.push(row("token", fault)),
            (None, Some(profile)) => lines.extend(account(profile, None, &unset(self.variable), now)),
            (None, None) => lines.push(row("token", "a workspace's, without a stated end")),
        }
        lines
    }
}

/// A line, and further ones below where it is too long.
fn row(name: &str, text: &str) -> String {
    let below = format!("\n{:NAME$}", "");
    format!("{name:<NAME$}{}", wrap(text, WIDTH - NAME).join(&below))
}

fn file(name: &str, path: &Path) -> String {
    let absent = if path.exists() { "" } else { " (not there yet)" };
    format!("{name:<NAME$}{}{absent}", path.display())
}

/// Where the log of the running daemon is, or of the next one.
fn log(report: &StatusReport) -> String {
    let file = match &report.daemon {
        Some(daemon) => daemon.log_file.as_deref(),
        None => report.files.log.as_deref(),
    };
    match file {
        Some(file) => file.display().to_string(),
        None => where_the_log_is().unwrap_or_else(|| "on the daemon's standard error (log.file keeps it)".to_owned()),
    }
}

fn checked(check: &AccountCheck) -> String {
    let message = check.message.as_deref().unwrap_or_default();
    match check.state {
        Verdict::Good => "the backend takes it".to_owned(),
        Verdict::Refused => format!("refused: {message}"),
        Verdict::Disabled => {
            let choose = command("accounts use ID");
            format!("{message}: its administrator can enable it; `{choose}` chooses another account")
        }
        Verdict::Unreachable => {
            let doctor = command("doctor");
            format!("could not be made ({message}); the rest is what is known here; what to do: `{doctor}`")
        }
        Verdict::Unclear => format!("without a result ({message}); the rest is what is known here"),
    }
}

/// An account, and where its token is of no use, the command that helps.
fn account(profile: &Profile, verdict: Option<Verdict>, help: &str, now: SystemTime) -> Vec<String> {
    let active = if profile.is_active { "" } else { " (not in use)" };
    let name = profile.email.as_deref().unwrap_or("an account without an address");
    let plan = profile.plan.as_deref().unwrap_or("unknown");
    let mut lines = vec![
        row("sign-in", &format!("{name}{active}")),
        row("account", &format!("{} (plan {plan})", profile.account_id)),
        row("token", &advised(token(profile, verdict, now), profile, verdict, help)),
    ];
    if let Some(lender) = &profile.borrowed_from {
        lines.push(format!("borrowed     from {} ({})", lender.owner, lender.path.display()));
    }
    lines
}

/// With the command that helps where the token will not, or no longer, do.
fn advised(told: String, profile: &Profile, verdict: Option<Verdict>, help: &str) -> String {
    let is_over = verdict == Some(Verdict::Refused) || profile.state == State::Ended || profile.refusal.is_some();
    if is_over { format!("{told}: run `{help}`") } else { told }
}

/// What the token of an account is worth.
pub(in crate::cli) fn token(profile: &Profile, verdict: Option<Verdict>, now: SystemTime) -> String {
    let left = profile.expires_at.map(|end| match end.duration_since(now) {
        Ok(left) => format!("until {} (in {})", timestamp(end), span(left)),
        Err(_) => format!("ended at {}", timestamp(end)),
    });
    let left = left.unwrap_or_else(|| "without a stated end".to_owned());
    let refusal = profile.refusal.as_ref().map(|refusal| {
        let at = refusal.at.map(|at| format!(" at {}", timestamp(at))).unwrap_or_default();
        format!("the issuer refused{at} to renew it ({})", refusal.reason)
    });
    let is_refused = verdict == Some(Verdict::Refused) || profile.refused_at.is_some();
    let is_expired = profile.expires_at.is_some_and(|end| end <= now);
    match (profile.state, refusal) {
        (_, refusal) if is_refused && !is_expired => {
            let refusal = refusal.map(|refusal| format!("; {refusal}")).unwrap_or_default();
            format!("no longer good, though it was granted {left}{refusal}")
        }
        (State::Fresh | State::Due, Some(refusal)) => format!("good {left}, and not after that: {refusal}"),
        (State::Renewable | State::Ended, Some(refusal)) => format!("{left}; {refusal}"),
        (State::Fresh, None) if !profile.is_renewable => format!("good {left}; nothing renews it"),
        (State::Fresh, None) => format!("good {left}"),
        (State::Due, None) => format!("good {left}; renewed at its next use"),
        (State::Renewable, None) => format!("{left}; renewed at its next use"),
        (State::Ended, None) => left,
    }
}
