//! `codex-proxy doctor`: everything that has to be right, looked at once.
//!
//! Each finding is a line, and what is not right ends in one command to run. What needs the network
//! is asked at the same time, each within a few seconds, and nothing of it costs quota. It changes
//! nothing, save that a token which is about to end is renewed, as any use does. The JSON form is
//! stable, holds no secret, and is described in `docs/doctor.md`.

mod finding;
mod machine;
mod quota;
mod reach;
mod rights;
mod session;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::charts::Paint;
use super::context::{Parts, accounts, given, upstream_settings};
use super::exit::{Exit, Failure};
use super::output::{answer, answer_json};
use super::progress;
use crate::config::{Config, Environment, Faults};
use crate::upstream::{self, Upstream};
use finding::{Check, Finding, Severity};
use reach::Reach;
use session::Session;

/// How long each thing that is asked for may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    healthy: bool,
    /// `None`: that could not be looked at.
    signed_in: Option<bool>,
    findings: Vec<Finding>,
}

pub(super) async fn run(
    json: bool,
    config: Result<Config, Faults>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let report = match config {
        Ok(config) => progress::told("asking the services", Box::pin(examine(&config, environment))).await,
        Err(faults) => Report::of(None, machine::faults(&faults)),
    };
    if json {
        answer_json(&report)?;
    } else {
        let (width, paint) = (finding::width_of_answer(), Paint::of(environment));
        let lines: Vec<_> = report.findings.iter().map(|finding| finding.told(width, paint)).collect();
        answer(&lines.join("\n"))?;
    }
    Ok(match (report.signed_in, report.healthy) {
        (Some(false), _) => Exit::SignedOut,
        (_, false) => Exit::Failed,
        (_, true) => Exit::Done,
    })
}

async fn examine(config: &Config, environment: &Environment) -> Report {
    let mut findings = machine::settings(config);
    // Before the store is read, which takes rights away that are too wide.
    findings.extend(machine::files(config, environment));
    let parts = Parts::of_daemon(config);
    let given = given(environment);
    let tokens = accounts(&parts, config, given.clone());
    let settings = upstream::Settings { catalogue_file: None, ..upstream_settings(config) };
    let upstream = Upstream::new(settings, parts.http.clone(), Arc::new(tokens.clone()));
    let session = Session::look(&parts, config, given.as_ref()).await;
    let (asked, catalogue, issuer, backend, port, noticed, network) = tokio::join!(
        session.ask(&parts, config, &tokens),
        session.catalogue(&upstream),
        Reach::of(&parts.http, &config.auth.authority, reach::ISSUER_PATH, &config.upstream.user_agent),
        Reach::of(&parts.http, &config.upstream.url, reach::BACKEND_PATH, &config.upstream.user_agent),
        machine::port(config, &parts.http),
        machine::noticed(config, &parts.http),
        reach::network(config, &parts.http, environment),
    );
    // A renewal that takes longer than the check may have spent the old token already.
    tokens.settle().await;
    let session = session.again(&parts, config).await;
    let (check, quota) = asked.map(|asked| (asked.check, asked.quota)).unzip();
    findings.extend(session.findings(check.as_ref()));
    findings.push(network);
    findings.push(reach::clock([&issuer, &backend]));
    findings.push(issuer.finding(Check::Issuer, &config.auth.authority));
    findings.push(backend.finding(Check::Backend, &config.upstream.url));
    findings.extend(session::workspace(check.as_ref()));
    findings.extend(catalogue.map(|outcome| session::catalogue(&outcome, &upstream, &config.rules)));
    findings.push(port);
    findings.extend(quota::finding(quota.flatten().as_ref(), parts.clock.now()));
    findings.extend(noticed);
    Report::of(session.is_signed_in(check.as_ref()), findings)
}

impl Report {
    fn of(signed_in: Option<bool>, findings: Vec<Finding>) -> Self {
        let healthy = findings.iter().all(|finding| finding.severity != Severity::Error);
        Self { version: env!("CARGO_PKG_VERSION"), healthy, signed_in, findings }
    }
}

/// Waits for something no longer than anything here may take.
async fn in_time<T>(work: impl Future<Output = T>) -> Option<T> {
    timeout(LIMIT, work).await.ok()
}
