//! The report of `status`, for people.

use std::path::Path;
use std::time::SystemTime;

use super::super::bars::Paint;
use super::super::terms::{span, timestamp};
use super::check::{Check, Verdict};
use super::{FromEnvironment, Report, quota};
use crate::auth::{Profile, State};

/// The report as a person reads it.
pub(super) fn told(report: &Report, now: SystemTime, paint: Paint) -> String {
    let mut lines = Vec::new();
    if let Some(token) = &report.access_token {
        lines.extend(token.told(now));
    } else if report.accounts.is_empty() {
        lines.push("sign-in      nobody is signed in: run `codex-proxy login`".to_owned());
    } else if !report.accounts.iter().any(|profile| profile.is_active) {
        lines.push("sign-in      none of the accounts is in use: `codex-proxy accounts use ID` chooses one".to_owned());
    }
    let verdict = report.check.as_ref().map(|check| check.state);
    for profile in &report.accounts {
        let is_checked = profile.is_active && report.access_token.is_none();
        lines.extend(account(profile, verdict.filter(|_| is_checked), now));
    }
    lines.extend(report.check.as_ref().map(|check| format!("check        {}", checked(check))));
    lines.extend(report.quota.iter().flat_map(|told| quota::lines(told, now, paint)));
    let files = &report.files;
    lines.push(file("config", &files.config));
    lines.push(match &report.store.entry {
        Some(entry) => format!("credentials  in the keyring (codex-proxy, {entry})"),
        None => file("credentials", &files.credentials),
    });
    if report.store.place != report.store.setting && !report.accounts.is_empty() {
        let (place, setting) = (report.store.place, report.store.setting);
        lines.push(format!(
            "             auth.store is \"{setting}\": set it to \"{place}\", or run `codex-proxy accounts move --to {setting}`"
        ));
    }
    lines.push(file("catalogue", &files.catalogue));
    lines.push(file("usage", &files.usage));
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

impl FromEnvironment {
    fn told(&self, now: SystemTime) -> Vec<String> {
        let outranks = format!("the access token in {} is used, and no account of the store", self.variable);
        let mut lines = vec![format!("sign-in      {outranks}")];
        match (&self.fault, &self.account) {
            (Some(fault), _) => lines.push(format!("token        {fault}")),
            (None, Some(profile)) => lines.extend(account(profile, None, now)),
            (None, None) => lines.push("token        a workspace's, without a stated end".to_owned()),
        }
        lines
    }
}

fn file(name: &str, path: &Path) -> String {
    let absent = if path.exists() { "" } else { " (not there yet)" };
    format!("{name:<12} {}{absent}", path.display())
}

fn checked(check: &Check) -> String {
    let message = check.message.as_deref().unwrap_or_default();
    match check.state {
        Verdict::Good => "the backend takes it".to_owned(),
        Verdict::Refused => format!("refused: {message}"),
        Verdict::Disabled => {
            format!("{message}: its administrator can enable it; `codex-proxy accounts use ID` chooses another account")
        }
        Verdict::Unreachable => format!("could not be made ({message}); the rest is what is known here"),
        Verdict::Unclear => format!("without a result ({message}); the rest is what is known here"),
    }
}

fn account(profile: &Profile, verdict: Option<Verdict>, now: SystemTime) -> Vec<String> {
    let active = if profile.is_active { "" } else { " (not in use)" };
    let name = profile.email.as_deref().unwrap_or("an account without an address");
    let plan = profile.plan.as_deref().unwrap_or("unknown");
    let mut lines = vec![
        format!("sign-in      {name}{active}"),
        format!("account      {} (plan {plan})", profile.account_id),
        format!("token        {}", token(profile, verdict, now)),
    ];
    if let Some(lender) = &profile.borrowed_from {
        lines.push(format!("borrowed     from {} ({})", lender.owner, lender.path.display()));
    }
    lines
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
        format!("the issuer refused{at} to renew it ({}): run `codex-proxy login`", refusal.reason)
    });
    match (profile.state, refusal) {
        (State::Fresh | State::Due, refusal) if verdict == Some(Verdict::Refused) => {
            let refusal = refusal.unwrap_or_else(|| "run `codex-proxy login`".to_owned());
            format!("no longer good, though it was granted {left}; {refusal}")
        }
        (State::Fresh | State::Due, Some(refusal)) => format!("good {left}, and not after that: {refusal}"),
        (State::Renewable | State::Ended, Some(refusal)) => format!("{left}; {refusal}"),
        (State::Fresh, None) if !profile.is_renewable => format!("good {left}; nothing renews it"),
        (State::Fresh, None) => format!("good {left}"),
        (State::Due, None) => format!("good {left}; renewed at its next use"),
        (State::Renewable, None) => format!("{left}; renewed at its next use"),
        (State::Ended, None) => format!("{left}: run `codex-proxy login`"),
    }
}
