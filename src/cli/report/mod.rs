//! `codex-proxy report`: writes a file for a bug report, without private data.
//!
//! It contains versions, settings, files and their permissions, the state of the login, the counters of the daemon, the
//! last warnings and errors of the log, and the latest cassette. Only allow-listed values are included, and cassettes
//! are redacted a second time. The only request is to the daemon on this machine; nothing is uploaded.

mod redaction;

use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::value::RawValue;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{eprint, print};
use super::run_file::{Health, RunningDaemon};
use crate::auth::{self, TokenState};
use crate::clock::rfc3339;
use crate::config::{Config, EffectiveSetting, Environment, ValueSource};
use crate::fs::{AtomicFile, Existing};
use crate::upstream::cassette;

/// Maximum number of log lines to include.
const MAX_LOG_LINES: usize = 200;
/// How much of the end of the log is searched.
const LOG_BYTES: u64 = 4 * 1024 * 1024;
/// Variables that are listed if they are set; their values are not.
const VARIABLES: &[&str] = &[
    "ALL_PROXY",
    "CODEX_ACCESS_TOKEN",
    "CODEX_CA_CERTIFICATE",
    "CODEX_HOME",
    "CODEX_PROXY_ACCESS_TOKEN",
    "CODEX_PROXY_API_KEYS",
    "CODEX_PROXY_HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_COLOR",
    "NO_PROXY",
    "SSL_CERT_FILE",
];

#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) out: Option<PathBuf>,
    pub(super) log: Option<PathBuf>,
    pub(super) cassettes: Option<PathBuf>,
}

#[derive(Serialize)]
struct BugReport {
    schema: u32,
    at: String,
    version: &'static str,
    system: &'static str,
    processor: &'static str,
    settings: Vec<Setting>,
    warnings: usize,
    variables: Vec<&'static str>,
    files: Vec<FileState>,
    sign_in: SignIn,
    daemon: Option<Daemon>,
    log: Vec<String>,
    cassette: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct Setting {
    key: String,
    value: String,
    source: &'static str,
}

/// A file of this program.
#[derive(Serialize)]
struct FileState {
    what: &'static str,
    exists: bool,
    size_bytes: Option<u64>,
    rights: Option<String>,
}

#[derive(Serialize)]
struct SignIn {
    /// Why there are no accounts: the store can't be read.
    fault: Option<&'static str>,
    accounts: Vec<Account>,
}

/// An account, without anything that identifies the user.
#[derive(Serialize)]
struct Account {
    is_active: bool,
    plan: Option<String>,
    state: TokenState,
    renewal: Renewal,
    expires_at: Option<String>,
}

/// How an account's token is refreshed.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Renewal {
    /// By this program.
    #[serde(rename = "ours")]
    Own,
    /// By the program that owns the imported login.
    Borrowed,
    /// The issuer refused.
    Refused,
    /// It has no refresh token.
    #[serde(rename = "nobody")]
    Impossible,
}

#[derive(Serialize)]
struct Daemon {
    version: String,
    started_at: String,
    has_socket: bool,
    health: Health,
}

pub(super) async fn run(options: Options, config: Config, environment: &Environment) -> Result<Exit, Failure> {
    let context = Context::of_daemon(&config);
    let found = RunningDaemon::find_with_health(&config.paths.run_file, &context.http).await;
    let recording = found.as_ref().and_then(|(running, _)| running.recording.clone());
    let at = rfc3339(context.clock.now());
    let report = BugReport {
        schema: 1,
        at: at.clone(),
        version: env!("CARGO_PKG_VERSION"),
        system: std::env::consts::OS,
        processor: std::env::consts::ARCH,
        settings: config.effective.iter().map(setting).collect(),
        warnings: config.warnings.len(),
        variables: VARIABLES.iter().copied().filter(|name| environment.get(name).is_some()).collect(),
        files: files(&config),
        sign_in: sign_in(&context).await,
        daemon: found.map(|(running, health)| daemon(&running, health)),
        log: options.log.or_else(|| log_file(&config)).map(|path| warnings_and_errors(&path)).unwrap_or_default(),
        cassette: options.cassettes.or(recording).map(|directory| latest_cassette(&directory)).unwrap_or_default(),
    };
    let path =
        options.out.unwrap_or_else(|| PathBuf::from(format!("codex-proxy-report-{}.json", at.replace(':', "-"))));
    write(&path, &report).map_err(|error| Failure::Other(format!("Can't write {}: {error}", path.display())))?;
    print(&path.display().to_string())?;
    summarize(&report);
    Ok(Exit::Done)
}

/// Prints what the report contains, so that the user can decide whether to send it.
fn summarize(report: &BugReport) {
    let (settings, accounts) = (report.settings.len(), report.sign_in.accounts.len());
    let counted = |count: usize, what: &str| match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let daemon = if report.daemon.is_some() { "counters of the running daemon" } else { "no running daemon" };
    let cassette = match report.cassette.len() {
        0 => "no cassette (record one with `codex-proxy serve --record DIR`)".to_owned(),
        lines => format!("the latest cassette in {lines} lines"),
    };
    eprint(&format!(
        "Contents: versions, {settings} settings (private values are hidden), files and their permissions, the state of \
         {} without names, {daemon}, {}, {cassette}. It contains no tokens, keys, addresses, ids or texts of yours, and \
         wasn't sent anywhere.",
        counted(accounts, "login"),
        counted(report.log.len(), "log line"),
    ));
}

fn setting(shown: &EffectiveSetting) -> Setting {
    let source = match shown.source {
        ValueSource::Flag(_) => "flag",
        ValueSource::Variable(_) => "environment",
        ValueSource::File { .. } => "file",
        ValueSource::Default => "default",
    };
    Setting { key: shown.key.to_string(), value: redaction::redact_setting(shown.key, &shown.value), source }
}

fn files(config: &Config) -> Vec<FileState> {
    let paths = &config.paths;
    let all = [
        ("config", &paths.config),
        ("credentials", &config.auth.credentials),
        ("catalogue", &paths.catalogue),
        ("usage", &paths.usage),
        ("run_file", &paths.run_file),
    ];
    all.into_iter().map(|(what, path)| file(what, path)).collect()
}

fn file(what: &'static str, path: &Path) -> FileState {
    let metadata = fs::metadata(path).ok();
    let size_bytes = metadata.as_ref().map(fs::Metadata::len);
    FileState { what, exists: metadata.is_some(), size_bytes, rights: metadata.as_ref().and_then(rights) }
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "other platforms have no such permissions")]
fn rights(metadata: &fs::Metadata) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    Some(format!("{:03o}", metadata.permissions().mode() & 0o777))
}

#[cfg(not(unix))]
fn rights(_metadata: &fs::Metadata) -> Option<String> {
    None
}

async fn sign_in(context: &Context) -> SignIn {
    let Ok(status) = auth::status(&context.store, context.clock.as_ref(), None).await else {
        return SignIn { fault: Some("the store can't be read"), accounts: Vec::new() };
    };
    let account = |account: auth::AccountStatus| Account {
        is_active: account.is_active,
        plan: account.plan.map(|plan| redaction::redact_word(&plan)),
        state: account.state,
        renewal: match (account.refusal, account.borrowed_from, account.is_renewable) {
            (Some(_), ..) => Renewal::Refused,
            (None, Some(_), _) => Renewal::Borrowed,
            (None, None, true) => Renewal::Own,
            (None, None, false) => Renewal::Impossible,
        },
        expires_at: account.expires_at.map(rfc3339),
    };
    SignIn { fault: None, accounts: status.accounts.into_iter().map(account).collect() }
}

fn daemon(running: &RunningDaemon, health: Health) -> Daemon {
    Daemon {
        version: redaction::redact_line(&health.version),
        started_at: redaction::redact_line(&running.started_at),
        has_socket: running.socket.is_some(),
        health: Health {
            version: redaction::redact_line(&health.version),
            drift: redaction::redact_drift(health.drift),
            omitted: redaction::redact_omitted(health.omitted),
            ..health
        },
    }
}

/// Returns the configured log file.
fn log_file(config: &Config) -> Option<PathBuf> {
    let shown = config.effective.iter().find(|shown| shown.key == "log.file")?;
    let text: String = serde_json::from_str(&shown.value).ok()?;
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// Returns the last warnings and errors of a log, redacted.
fn warnings_and_errors(path: &Path) -> Vec<String> {
    let Ok(mut file) = fs::File::open(path) else { return vec!["(the log can't be read)".to_owned()] };
    let start = file.metadata().map_or(0, |metadata| metadata.len()).saturating_sub(LOG_BYTES);
    if file.seek(SeekFrom::Start(start)).is_err() {
        return Vec::new();
    }
    let lines = BufReader::new(file.take(LOG_BYTES)).split(b'\n').map_while(Result::ok);
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    let lines: Vec<_> = lines.filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    let skipped = lines.len().saturating_sub(MAX_LOG_LINES);
    lines.iter().skip(skipped).map(|line| redaction::redact_line(line)).collect()
}

/// Returns the lines of the newest cassette, redacted a second time.
fn latest_cassette(directory: &Path) -> Vec<Box<RawValue>> {
    let Some(path) = cassette::latest(directory) else { return Vec::new() };
    cassette::read_redacted(&path).unwrap_or_else(|reason| {
        eprint(&format!("warning: {} is left out: {reason}", path.display()));
        Vec::new()
    })
}

/// Writes the report to a new private file. Fails if the file exists.
fn write(path: &Path, report: &BugReport) -> std::io::Result<()> {
    let mut file = AtomicFile::create(path, Existing::Keep)?;
    file.write_all(&serde_json::to_vec_pretty(report)?)?;
    file.write_all(b"\n")?;
    file.commit()
}
