//! `codex-proxy report`: one file for a bug report, with nothing in it that is private.
//!
//! It holds what a maintainer asks for first: versions, settings, files and their rights, the state
//! of the sign-in, the daemon and what it counted, the last troubles of the log, the latest
//! cassette. Everything is taken over by allow-lists, and what was written without secrets before is
//! redacted again. Nobody is asked but the daemon on this machine, and nothing is sent anywhere.

mod redaction;

use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::value::RawValue;

use super::context::{Context, timestamp};
use super::exit::{Exit, Failure};
use super::output::{eprint, print};
use super::run_file::{Health, Running};
use crate::auth::{self, State};
use crate::config::{Config, Environment, Shown, Source};
use crate::fs::{AtomicFile, Existing};
use crate::upstream::cassette;

/// How many lines of the log are taken.
const LOG_LINES: usize = 200;
/// How much of its end is looked at.
const LOG_BYTES: u64 = 4 * 1024 * 1024;
/// Variables of which it matters whether they are set.
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

/// Where to take things from, and where to put them.
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

/// One of our files.
#[derive(Serialize)]
struct FileState {
    what: &'static str,
    exists: bool,
    size_bytes: Option<u64>,
    rights: Option<String>,
}

#[derive(Serialize)]
struct SignIn {
    /// Why the store can't be read, in a word.
    fault: Option<&'static str>,
    accounts: Vec<Account>,
}

/// An account, without what tells whose it is.
#[derive(Serialize)]
struct Account {
    is_active: bool,
    plan: Option<String>,
    state: State,
    renewal: Renewal,
    expires_at: Option<String>,
}

/// Who renews an account's token.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Renewal {
    Ours,
    /// The program that the login is borrowed from.
    Borrowed,
    /// The issuer has refused to.
    Refused,
    Nobody,
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
    let found = Running::look(&config.paths.run_file, &context.http).await;
    let recording = found.as_ref().and_then(|(running, _)| running.recording.clone());
    let at = timestamp(context.clock.now());
    let report = BugReport {
        schema: 1,
        at: at.clone(),
        version: env!("CARGO_PKG_VERSION"),
        system: std::env::consts::OS,
        processor: std::env::consts::ARCH,
        settings: config.shown.iter().map(setting).collect(),
        warnings: config.warnings.len(),
        variables: VARIABLES.iter().copied().filter(|name| environment.get(name).is_some()).collect(),
        files: files(&config),
        sign_in: sign_in(&context).await,
        daemon: found.map(|(running, health)| daemon(&running, health)),
        log: options.log.or_else(|| log_file(&config)).map(|path| troubles(&path)).unwrap_or_default(),
        cassette: options.cassettes.or(recording).map(|folder| latest(&folder)).unwrap_or_default(),
    };
    let path =
        options.out.unwrap_or_else(|| PathBuf::from(format!("codex-proxy-report-{}.json", at.replace(':', "-"))));
    write(&path, &report).map_err(|error| Failure::other(&format!("{}: {error}", path.display())))?;
    print(&path.display().to_string())?;
    tell(&report);
    Ok(Exit::Done)
}

/// What is inside, so that a person can decide whether to send it.
fn tell(report: &BugReport) {
    let (settings, accounts) = (report.settings.len(), report.sign_in.accounts.len());
    let counted = |count: usize, what: &str| if count == 0 { format!("no {what}") } else { format!("{count} {what}") };
    let daemon = if report.daemon.is_some() { "what the running daemon counted" } else { "no running daemon" };
    let cassette = match report.cassette.len() {
        0 => "no cassette (`codex-proxy serve --record DIR` makes some)".to_owned(),
        lines => format!("the latest cassette in {lines} lines"),
    };
    eprint(&format!(
        "inside: versions, {settings} settings (only harmless values), files and rights, the state of {} without \
         names, {daemon}, {}, {cassette}; no token, key, address, id or text of yours. It was sent to nobody.",
        counted(accounts, "sign-ins"),
        counted(report.log.len(), "lines of the log"),
    ));
}

fn setting(shown: &Shown) -> Setting {
    let source = match shown.source {
        Source::Flag(_) => "flag",
        Source::Variable(_) => "environment",
        Source::File { .. } => "file",
        Source::Default => "default",
    };
    Setting { key: shown.key.to_string(), value: redaction::setting(shown.key, &shown.value), source }
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
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there are no such rights")]
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
    let account = |profile: auth::Profile| Account {
        is_active: profile.is_active,
        plan: profile.plan.map(|plan| redaction::word(&plan)),
        state: profile.state,
        renewal: match (profile.refusal, profile.borrowed_from, profile.is_renewable) {
            (Some(_), ..) => Renewal::Refused,
            (None, Some(_), _) => Renewal::Borrowed,
            (None, None, true) => Renewal::Ours,
            (None, None, false) => Renewal::Nobody,
        },
        expires_at: profile.expires_at.map(timestamp),
    };
    SignIn { fault: None, accounts: status.accounts.into_iter().map(account).collect() }
}

fn daemon(running: &Running, health: Health) -> Daemon {
    Daemon {
        version: redaction::line(&health.version),
        started_at: redaction::line(&running.started_at),
        has_socket: running.socket.is_some(),
        health: Health {
            version: redaction::line(&health.version),
            drift: redaction::drift(health.drift),
            omitted: redaction::omitted(health.omitted),
            ..health
        },
    }
}

/// The file that the daemon's log goes to, if it goes to one.
fn log_file(config: &Config) -> Option<PathBuf> {
    let shown = config.shown.iter().find(|shown| shown.key == "log.file")?;
    let text: String = serde_json::from_str(&shown.value).ok()?;
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// The last warnings and errors of a log.
fn troubles(path: &Path) -> Vec<String> {
    let Ok(mut file) = fs::File::open(path) else { return vec!["(the log can't be read)".to_owned()] };
    let start = file.metadata().map_or(0, |metadata| metadata.len()).saturating_sub(LOG_BYTES);
    if file.seek(SeekFrom::Start(start)).is_err() {
        return Vec::new();
    }
    let lines = BufReader::new(file.take(LOG_BYTES)).split(b'\n').map_while(Result::ok);
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    let troubles: Vec<_> = lines.filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    let skipped = troubles.len().saturating_sub(LOG_LINES);
    troubles.iter().skip(skipped).map(|line| redaction::line(line)).collect()
}

/// The lines of the newest cassette, redacted again.
fn latest(folder: &Path) -> Vec<Box<RawValue>> {
    let Some(path) = cassette::latest(folder) else { return Vec::new() };
    cassette::copy(&path).unwrap_or_else(|reason| {
        eprint(&format!("warning: {}: {reason}; it is left out", path.display()));
        Vec::new()
    })
}

/// Writes the report, its owner's alone, over nothing that is there.
fn write(path: &Path, report: &BugReport) -> std::io::Result<()> {
    let mut file = AtomicFile::create(path, Existing::Keep)?;
    file.write_all(&serde_json::to_vec_pretty(report)?)?;
    file.write_all(b"\n")?;
    file.commit()
}
