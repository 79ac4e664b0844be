//! The text form of `status`.

use std::path::Path;
use std::time::SystemTime;

use super::super::color::Coloring;
use super::super::context::span;
use super::super::service::service_log;
use super::super::table::{WIDTH, wrap};
use super::check::{AccountCheck, Verdict};
use super::{EnvironmentToken, StatusReport, quota};
use crate::auth::{AccountStatus, TokenState};
use crate::clock::rfc3339;
use crate::command_hint::{command, unset};

/// Width of the row names.
const NAME_WIDTH: usize = 13;

/// Formats the report as rows of a name and a text.
pub(super) fn format(report: &StatusReport, now: SystemTime, coloring: Coloring) -> String {
    let mut lines = Vec::new();
    if report.credentials == "client" {
        let message = "by the client (upstream.credentials = \"client\"): each request uses the login that it brings";
        lines.push(row("sign-in", message));
    } else if let Some(token) = &report.access_token {
        lines.extend(token.rows(now));
    } else if report.accounts.is_empty() {
        lines.push(row("sign-in", &format!("not signed in: run `{}`", command("login"))));
    } else if !report.accounts.iter().any(|account| account.is_active) {
        let choose = command("accounts use ID");
        lines.push(row("sign-in", &format!("no account is active: choose one with `{choose}`")));
    }
    let verdict = report.check.as_ref().map(|check| check.state);
    for account in &report.accounts {
        let is_checked = account.is_active && report.access_token.is_none();
        lines.extend(account_rows(account, verdict.filter(|_| is_checked), &command("login"), now));
    }
    lines.extend(report.check.as_ref().map(|check| row("check", &describe_check(check))));
    lines.extend(report.quota.iter().flat_map(|quota| quota::lines(quota, now, coloring)));
    let files = &report.files;
    lines.push(file_row("config", &files.config));
    lines.push(match &report.store.entry {
        Some(entry) => format!("credentials  in the keyring (codex-proxy, {entry})"),
        None => file_row("credentials", &files.credentials),
    });
    if report.store.place != report.store.setting && !report.accounts.is_empty() {
        let (place, setting) = (report.store.place, report.store.setting);
        let move_there = command(&format!("accounts move --to {setting}"));
        lines.push(row("", &format!("auth.store is \"{setting}\": set it to \"{place}\", or run `{move_there}`")));
    }
    lines.push(file_row("catalogue", &files.catalogue));
    lines.push(file_row("usage", &files.usage));
    lines.push(format!("{:<NAME_WIDTH$}{}", "log", log(report)));
    lines.push(row(
        "daemon",
        &match &report.daemon {
            Some(daemon) => {
                let kind = if daemon.demo { ", demo" } else { "" };
                let socket = daemon.socket.as_ref().map(|path| format!(" on the Unix socket {}", path.display()));
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
    fn rows(&self, now: SystemTime) -> Vec<String> {
        let message = format!("the access token in {} is used instead of the stored accounts", self.variable);
        let mut lines = vec![row("sign-in", &message)];
        match (&self.fault, &self.account) {
            (Some(fault), _) => lines.push(row("token", fault)),
            (None, Some(account)) => lines.extend(account_rows(account, None, &unset(self.variable), now)),
            (None, None) => lines.push(row("token", "a workspace's token; its expiry isn't known")),
        }
        lines
    }
}

/// Formats a row. Long texts are wrapped.
fn row(name: &str, text: &str) -> String {
    let separator = format!("\n{:NAME_WIDTH$}", "");
    format!("{name:<NAME_WIDTH$}{}", wrap(text, WIDTH - NAME_WIDTH).join(&separator))
}

fn file_row(name: &str, path: &Path) -> String {
    let absent = if path.exists() { "" } else { " (not created yet)" };
    format!("{name:<NAME_WIDTH$}{}{absent}", path.display())
}

/// The log of the running daemon, or the log of the next one.
fn log(report: &StatusReport) -> String {
    let file = match &report.daemon {
        Some(daemon) => daemon.log_file.as_deref(),
        None => report.files.log.as_deref(),
    };
    match file {
        Some(file) => file.display().to_string(),
        None => service_log().unwrap_or_else(|| "standard error of the daemon (set log.file for a file)".to_owned()),
    }
}

fn describe_check(check: &AccountCheck) -> String {
    let message = check.message.as_deref().unwrap_or_default();
    match check.state {
        Verdict::Good => "the backend accepts the account".to_owned(),
        Verdict::Refused => format!("refused: {message}"),
        Verdict::Disabled => {
            let choose = command("accounts use ID");
            format!("{message}; ask its administrator to enable it, or choose another account with `{choose}`")
        }
        Verdict::Unreachable => {
            let doctor = command("doctor");
            format!("failed ({message}); the rest is local information. Find the cause with `{doctor}`")
        }
        Verdict::Unclear => format!("no clear result ({message}); the rest is local information"),
    }
}

/// Rows of an account. If its token is unusable, they name the command that fixes it.
fn account_rows(account: &AccountStatus, verdict: Option<Verdict>, help: &str, now: SystemTime) -> Vec<String> {
    let active = if account.is_active { "" } else { " (not active)" };
    let name = account.email.as_deref().unwrap_or("an account without an e-mail address");
    let plan = account.plan.as_deref().unwrap_or("unknown");
    let mut lines = vec![
        row("sign-in", &format!("{name}{active}")),
        row("account", &format!("{} (plan {plan})", account.account_id)),
        row("token", &with_help(token(account, verdict, now), account, verdict, help)),
    ];
    if let Some(source) = &account.borrowed_from {
        lines.push(format!("imported     from {} ({})", source.owner, source.path.display()));
    }
    lines
}

/// Adds the command that fixes an unusable token, or one that can't be refreshed any more.
fn with_help(text: String, account: &AccountStatus, verdict: Option<Verdict>, help: &str) -> String {
    let is_over = verdict == Some(Verdict::Refused) || account.state == TokenState::Ended || account.refusal.is_some();
    if is_over { format!("{text}: run `{help}`") } else { text }
}

/// Describes the validity of an account's token.
pub(in crate::cli) fn token(account: &AccountStatus, verdict: Option<Verdict>, now: SystemTime) -> String {
    let left = account.expires_at.map(|end| match end.duration_since(now) {
        Ok(left) => format!("until {} (in {})", rfc3339(end), span(left)),
        Err(_) => format!("expired at {}", rfc3339(end)),
    });
    let left = left.unwrap_or_else(|| "with unknown expiry".to_owned());
    let refusal = account.refusal.as_ref().map(|refusal| {
        let at = refusal.at.map(|at| format!(" at {}", rfc3339(at))).unwrap_or_default();
        format!("the sign-in service refused{at} to refresh it ({})", refusal.reason)
    });
    let is_refused = verdict == Some(Verdict::Refused) || account.refused_at.is_some();
    let is_expired = account.expires_at.is_some_and(|end| end <= now);
    match (account.state, refusal) {
        (_, refusal) if is_refused && !is_expired => {
            let refusal = refusal.map(|refusal| format!("; {refusal}")).unwrap_or_default();
            format!("no longer accepted, although issued {left}{refusal}")
        }
        (TokenState::Fresh | TokenState::Due, Some(refusal)) => format!("valid {left}, but not longer: {refusal}"),
        (TokenState::Renewable | TokenState::Ended, Some(refusal)) => format!("{left}; {refusal}"),
        (TokenState::Fresh, None) if !account.is_renewable => format!("valid {left}; it can't be refreshed"),
        (TokenState::Fresh, None) => format!("valid {left}"),
        (TokenState::Due, None) => format!("valid {left}; refreshed at its next use"),
        (TokenState::Renewable, None) => format!("{left}; refreshed at its next use"),
        (TokenState::Ended, None) => left,
    }
}
