//! `codex-proxy doctor`: checks the installation and reports problems.
//!
//! Each problem ends with the command that fixes it. Network checks run concurrently, each with a timeout of five
//! seconds, and use no quota. Nothing is changed, except that a token that is about to expire is refreshed. The JSON
//! form is stable, contains no secret, and is documented in `docs/doctor.md`.

mod connectivity;
mod finding;
mod machine;
mod permissions;
mod quota;
mod session;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use super::color::Coloring;
use super::context::{Context, accounts, env_token, upstream_settings};
use super::exit::{Exit, Failure};
use super::output::{print, print_json};
use super::progress;
use crate::config::{Config, ConfigErrors, Environment};
use crate::token_source::CredentialSource;
use crate::upstream::{self, Upstream};
use connectivity::Probe;
use finding::{Check, Finding, Severity};
use session::Session;

/// Time limit of each network check.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The result of all checks.
#[derive(Debug, Serialize)]
struct Diagnosis {
    version: &'static str,
    /// Whether no finding is an error.
    healthy: bool,
    /// `None`: it couldn't be determined.
    signed_in: Option<bool>,
    findings: Vec<Finding>,
}

pub(super) async fn run(
    json: bool,
    config: Result<Config, ConfigErrors>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let report = match config {
        Ok(config) => progress::during("checking", Box::pin(examine(&config, environment))).await,
        Err(faults) => Diagnosis::of(None, machine::faults(&faults)),
    };
    if json {
        print_json(&report)?;
    } else {
        let (width, coloring) = (finding::output_width(), Coloring::of_stdout(environment));
        let lines: Vec<_> = report.findings.iter().map(|finding| finding.format(width, coloring)).collect();
        print(&lines.join("\n"))?;
    }
    Ok(match (report.signed_in, report.healthy) {
        (Some(false), _) => Exit::SignedOut,
        (_, false) => Exit::Failed,
        (_, true) => Exit::Done,
    })
}

async fn examine(config: &Config, environment: &Environment) -> Diagnosis {
    let mut findings = machine::settings(config);
    // Before the store is read, because reading makes its file private.
    findings.extend(machine::files(config, environment));
    let context = Context::of_daemon(config);
    let env_token = if config.credentials == CredentialSource::Client { None } else { env_token(environment) };
    let tokens = accounts(&context, config, env_token.clone());
    let settings = upstream::Settings { catalogue_file: None, ..upstream_settings(config) };
    let upstream = Upstream::new(settings, context.http.clone(), Arc::new(tokens.clone()));
    let session = Session::load(&context, config, env_token.as_ref()).await;
    let (checked, catalogue, issuer, backend, port, observations, network) = tokio::join!(
        session.check(&context, config, &tokens),
        session.catalogue(&upstream),
        Probe::of(&context.http, &config.auth.issuer, connectivity::ISSUER_PATH, &config.upstream.user_agent),
        Probe::of(&context.http, &config.upstream.url, connectivity::BACKEND_PATH, &config.upstream.user_agent),
        machine::port(config, &context.http),
        machine::daemon_observations(config, &context.http),
        connectivity::network(config, &context.http, environment),
    );
    // A refresh may still be running; the new token has to be stored.
    tokens.settle().await;
    let session = session.reload(&context, config).await;
    let (check, quota) = checked.map(|checked| (checked.check, checked.quota)).unzip();
    findings.extend(session.findings(check.as_ref()));
    findings.push(network);
    findings.push(connectivity::clock([&issuer, &backend]));
    if config.credentials == CredentialSource::Store {
        findings.push(issuer.finding(Check::Issuer, &config.auth.issuer));
    }
    findings.push(backend.finding(Check::Backend, &config.upstream.url));
    findings.extend(session::workspace(check.as_ref()));
    findings.extend(catalogue.map(|outcome| session::catalogue(&outcome, &upstream, &config.rules)));
    findings.push(port);
    findings.extend(quota::finding(quota.flatten().as_ref(), context.clock.now()));
    findings.extend(observations);
    Diagnosis::of(session.is_signed_in(check.as_ref()), findings)
}

impl Diagnosis {
    fn of(signed_in: Option<bool>, findings: Vec<Finding>) -> Self {
        let healthy = findings.iter().all(|finding| finding.severity != Severity::Error);
        Self { version: env!("CARGO_PKG_VERSION"), healthy, signed_in, findings }
    }
}

/// Awaits `work` for at most [`TIMEOUT`].
async fn in_time<T>(work: impl Future<Output = T>) -> Option<T> {
    timeout(TIMEOUT, work).await.ok()
}
