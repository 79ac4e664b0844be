//! `codex-proxy serve`: runs the daemon in the foreground.
//!
//! The daemon starts without a login, network or model catalog; requests then fail with an error that says what is
//! missing. It never starts a login. With `--demo`, backend and issuer are simulated in the process, and the credential
//! store is neither read nor written. The first signal stops the daemon once open responses are complete; a second one
//! stops it at once.

mod address;
mod storage;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::arguments::ServeArguments;
use super::context::{Context, accounts, env_token, upstream_settings};
use super::directories;
use super::exit::{Exit, Failure};
use super::notify::Notifier;
use super::output::eprint;
use super::port::{PortOwner, free_above};
use super::reload::{self, Exposure, Sources};
use super::run_file::{RunFile, RunningDaemon};
use super::signals::{SignalAction, Signals};
use crate::auth::{Accounts, ClientLogins, Credential, Issuer, Store};
use crate::clock::rfc3339;
use crate::command_hint::command;
use crate::config::Config;
use crate::demo::Demo;
use crate::endpoint::{Endpoint, Trust};
use crate::history::{CacheStats, Responses, UsageTotals};
use crate::net::HttpClient;
use crate::server::{self, Backend, BindError, Listen, Server, Services, Telemetry};
use crate::token_source::{CredentialSource, TokenSource};
use crate::upstream::Upstream;
use crate::upstream::cassette::{Player, Recorder};

use address::Address;

pub(super) use address::base_url;

/// How often the daemon checks whether the machine has slept.
const WAKE_INTERVAL: Duration = Duration::from_secs(15);

pub(super) async fn run(arguments: &ServeArguments, mut config: Config, sources: Sources) -> Result<Exit, Failure> {
    server::raise_open_file_limit();
    if config.credentials == CredentialSource::Client && config.auth.account.is_some() {
        let message =
            "No account can be selected, because each client signs in itself (upstream.credentials = \"client\").";
        return Err(Failure::Usage(message.to_owned()));
    }
    let notifier = Notifier::of(&sources.environment);
    // Before a demo or a replay changes them.
    let given_settings = config.clone();
    print_warnings(&config);
    let mut context = Context::of_daemon(&config);
    let backend = backend(arguments);
    // A replay simulates the issuer too, so that it makes no network request.
    let simulated = if backend == Backend::ChatGpt { None } else { Some(simulate(&mut config, &mut context).await?) };
    let cassettes = Cassettes::of(arguments, context.clock.now())?;
    // Before the run file is written: without handlers, a signal would leave the file behind.
    let mut signals = Signals::listen().map_err(|error| Failure::other(&error))?;
    let server = bind(arguments, &config, &context.http).await?;
    let address = Address::of(&config.server.listen, server.addresses());
    let started_at = rfc3339(context.clock.now());
    // The demo ignores an access token in the environment.
    let is_gateway = config.credentials == CredentialSource::Client;
    let env_token = if simulated.is_some() || is_gateway { None } else { env_token(&sources.environment) };
    let settings = reload::Settings::new(sources, given_settings);
    let accounts = accounts(&context, &config, env_token);
    let tokens: Arc<dyn TokenSource> = match config.credentials {
        CredentialSource::Store => Arc::new(accounts.clone()),
        CredentialSource::Client => Arc::new(ClientLogins),
    };
    let telemetry = config.telemetry.clone().map(|endpoint| Arc::new(Telemetry::new(endpoint, context.http.clone())));
    let upstream = Upstream::new(upstream_settings(&config), context.http, Arc::clone(&tokens));
    let upstream = Arc::new(cassettes.with(upstream));
    let instance = uuid::Uuid::new_v4().to_string();
    let _run_file = write_run_file(&config, &address, started_at, arguments, settings.log_file(), &instance);
    let history = storage::open_responses(&config, backend).await;
    let totals = storage::open_usage(&config, backend, &context.clock).await;
    let files = storage::open_files(&config, backend, &context.clock).await;
    print_banner(&address, arguments, tokens.as_ref()).await;
    if let Some(demo) = simulated.as_ref().filter(|_| is_gateway) {
        print_demo_login(demo);
    }
    report_log_file(settings.log_file(), &address);
    let exposure = exposure(server.addresses());
    let handler = SignalHandler { notifier: &notifier, settings: &settings, exposure, address: &address };
    let services = Services {
        upstream: Arc::clone(&upstream),
        tokens,
        history: Arc::clone(&history),
        files: files.clone(),
        totals: Arc::clone(&totals),
        conversations: Arc::new(CacheStats::default()),
        live: settings.live(),
        chat: Arc::new(config.chat),
        replayed: Arc::default(),
        replays_reasoning: config.history.replays_reasoning,
        responses: Arc::new(config.responses),
        telemetry: telemetry.clone(),
        backend,
        instance,
    };
    let stop = CancellationToken::new();
    handler.ready();
    tokio::select! {
        () = server.run(services, stop.clone()) => {}
        () = keep_login(&upstream, &accounts, config.credentials) => {}
        () = upstream.keep_connections() => {}
        () = files.delete_expired() => {}
        () = notifier.keep_watchdog_alive() => {}
        () = export_traces(telemetry.as_deref()) => {}
        () = handle_signals(&mut signals, &handler, &stop) => {}
    }
    drop(upstream);
    settle(&accounts, &history, &totals, telemetry.as_deref()).await;
    Ok(Exit::Done)
}

/// Keeps the token fresh and the model catalog up to date, with the login of the store. Runs until dropped.
async fn keep_login(upstream: &Upstream, accounts: &Accounts, credentials: CredentialSource) {
    match credentials {
        CredentialSource::Store => tokio::select! {
            () = upstream.keep_catalogue() => {}
            () = accounts.renew_after_sleep(WAKE_INTERVAL) => {}
        },
        // The catalog is requested with the token of a request.
        CredentialSource::Client => std::future::pending().await,
    }
}

fn print_warnings(config: &Config) {
    for warning in &config.warnings {
        eprint(&format!("warning: {warning}"));
    }
    for exposed in directories::exposed(config) {
        eprint(&format!("warning: {exposed}: `{}`", exposed.command()));
    }
}

/// Prints the path of the log file, and begins the log in it with the version and the address.
fn report_log_file(log_file: Option<&Path>, address: &Address) {
    if let Some(file) = log_file {
        eprint(&format!("log file: {}", file.display()));
        tracing::info!(version = env!("CARGO_PKG_VERSION"), %address, "serving");
    }
}

/// Waits until all state is written.
async fn settle(accounts: &Accounts, history: &Responses, totals: &UsageTotals, telemetry: Option<&Telemetry>) {
    // A running refresh may have used the refresh token already, so the new one has to be stored.
    accounts.settle().await;
    history.settle().await;
    totals.settle().await;
    if let Some(telemetry) = telemetry {
        telemetry.flush().await;
    }
}

async fn bind(arguments: &ServeArguments, config: &Config, http: &HttpClient) -> Result<Server, Failure> {
    match Server::bind(config.server.clone()).await {
        Ok(server) => Ok(server),
        Err(error) => Err(bind_failure(&error, arguments, config, http).await),
    }
}

/// Explains why the address can't be bound, and names the command that fixes it.
async fn bind_failure(error: &BindError, arguments: &ServeArguments, config: &Config, http: &HttpClient) -> Failure {
    let (BindError::InUse(address), Listen::Tcp(wanted)) = (error, &config.server.listen) else {
        return Failure::other(error);
    };
    let port = address.port();
    let owner = match PortOwner::of(*address, config, http).await {
        PortOwner::ThisDaemon(daemon) => {
            let status = command("status");
            let (base_url, pid) = (daemon.base_url, daemon.pid);
            return Failure::Other(format!(
                "codex-proxy is already running at {base_url} (process {pid}). See `{status}`."
            ));
        }
        PortOwner::OtherDaemon { base_url } => format!("another codex-proxy at {base_url}"),
        PortOwner::Program(name) => name,
    };
    let kind = if arguments.demo { "serve --demo" } else { "serve" };
    let other = command(&format!("{kind} --port {}", free_above(wanted, port)));
    Failure::Other(format!("Port {port} on {} is in use by {owner}. Stop it, or run `{other}`.", address.ip()))
}

/// Exports traces, if an endpoint is configured. Runs until dropped.
async fn export_traces(telemetry: Option<&Telemetry>) {
    match telemetry {
        Some(telemetry) => telemetry.run().await,
        None => std::future::pending().await,
    }
}

/// Starts the simulated backend and issuer, and points the settings at them.
async fn simulate(config: &mut Config, context: &mut Context) -> Result<Demo, Failure> {
    let demo = Demo::start(Arc::clone(&context.clock)).await.map_err(|error| Failure::other(&error))?;
    let endpoint = |url: String| Endpoint::parse(&url, Trust::KnownHosts).map_err(|error| Failure::other(&error));
    config.upstream.url = endpoint(demo.backend_url())?;
    config.upstream.catalogue_file = None;
    // A prompt can use up the demo's quota for one request; a cached snapshot would refuse the next one too.
    config.upstream.quota_probe = Duration::ZERO;
    config.auth.issuer = endpoint(demo.issuer_url())?;
    let login = demo.signed_in();
    let tokens = (login.id_token, login.access_token, login.refresh_token);
    let now = context.clock.now();
    let credential =
        Credential::from_tokens(Some(login.account_id), Some(tokens.0), tokens.1, Some(tokens.2), Some(now));
    context.store = Store::memory(&credential.map_err(|error| Failure::other(&error))?);
    context.issuer = Issuer::new(context.http.clone(), &config.auth);
    Ok(demo)
}

/// Writes the run file. If that fails, the daemon still serves, but other commands don't find it.
fn write_run_file(
    config: &Config,
    address: &Address,
    started_at: String,
    arguments: &ServeArguments,
    log_file: Option<&Path>,
    instance: &str,
) -> Option<RunFile> {
    let running = RunningDaemon {
        pid: std::process::id(),
        base_url: address.base_url.clone(),
        socket: address.socket.clone(),
        started_at,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        demo: arguments.demo,
        log_file: log_file.map(Path::to_owned),
        recording: arguments.record.as_ref().and_then(|directory| std::path::absolute(directory).ok()),
        instance: Some(instance.to_owned()),
    };
    let path = &config.paths.run_file;
    match RunFile::write(path, running) {
        Ok(file) => Some(file),
        Err(error) => {
            eprint(&format!(
                "warning: can't write {} ({}), so `status` won't find this daemon; run `{}`",
                path.display(),
                error.kind(),
                command("doctor")
            ));
            None
        }
    }
}

fn backend(arguments: &ServeArguments) -> Backend {
    match (&arguments.replay, arguments.demo) {
        (Some(_), _) => Backend::Replay,
        (None, true) => Backend::Demo,
        (None, false) => Backend::ChatGpt,
    }
}

/// Whether traffic with the backend is recorded or replayed.
enum Cassettes {
    Off,
    Recording(Recorder),
    Playing(Player),
}

impl Cassettes {
    fn of(arguments: &ServeArguments, now: SystemTime) -> Result<Self, Failure> {
        if let Some(directory) = &arguments.replay {
            let failure = |error| Failure::Other(format!("Can't replay recordings: {error}"));
            return Player::load(directory).map(Self::Playing).map_err(failure);
        }
        let Some(directory) = &arguments.record else { return Ok(Self::Off) };
        let failure = |error| Failure::Other(format!("Can't record to {}: {error}", directory.display()));
        Recorder::start(directory.clone(), now).map(Self::Recording).map_err(failure)
    }

    fn with(self, upstream: Upstream) -> Upstream {
        match self {
            Self::Off => upstream,
            Self::Recording(recorder) => upstream.recording(recorder),
            Self::Playing(player) => upstream.playing(player),
        }
    }
}

/// Prints the mode, warnings about the login, and the line that says that the daemon is ready.
async fn print_banner(address: &Address, arguments: &ServeArguments, tokens: &dyn TokenSource) {
    if let Some(directory) = &arguments.record {
        eprint(&format!(
            "recording: traffic with the backend is written to {}, with private data removed",
            directory.display()
        ));
    }
    match backend(arguments) {
        Backend::Replay => eprint("replay: responses are recordings; no model and no account is used"),
        Backend::Demo => eprint("demo: responses come from a simulated backend; no model and no account is used"),
        Backend::ChatGpt => {
            let warning = tokens.check().await.map_or_else(|error| Some(error.to_string()), |state| state.warning());
            if let Some(warning) = warning {
                eprint(&format!("warning: {warning}"));
            }
        }
    }
    if tokens.credentials() == CredentialSource::Client {
        eprint(
            "warning: upstream.credentials is \"client\": requests use the ChatGPT login that each client sends in \
             Authorization; it is passed on and not stored, and logins of this machine aren't used. A client key \
             belongs in x-api-key",
        );
    }
    let version = env!("CARGO_PKG_VERSION");
    let hint = match &address.socket {
        Some(socket) => format!("curl --unix-socket {} {}/models", socket.display(), address.base_url),
        None => "the base URL for clients".to_owned(),
    };
    let replays = if arguments.replay.is_some() { "; it replays recordings" } else { "" };
    eprint(&format!("codex-proxy {version} is ready: {address} ({hint}{replays}; Ctrl-C stops)"));
}

/// Prints a login that the demo accepts from clients.
fn print_demo_login(demo: &Demo) {
    let login = demo.client_login();
    eprint(&format!("demo: a login for clients, in the form of the Codex CLI's auth.json: {login}"));
}

fn exposure(addresses: &[SocketAddr]) -> Exposure {
    let is_local = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
    if is_local { Exposure::LocalOnly } else { Exposure::Remote }
}

/// State that [`handle_signals`] uses to reload and to notify the service manager.
struct SignalHandler<'a> {
    notifier: &'a Notifier,
    settings: &'a reload::Settings,
    exposure: Exposure,
    address: &'a Address,
}

impl SignalHandler<'_> {
    fn ready(&self) {
        self.notifier.ready(&format!("serving at {}", self.address));
    }

    #[cfg(unix)]
    fn reload(&self) {
        self.notifier.reloading();
        self.settings.reload(self.exposure);
        self.ready();
    }
}

/// Reloads and stops on signals. The first one to stop cancels `stop`; returns at the second one.
async fn handle_signals(signals: &mut Signals, handler: &SignalHandler<'_>, stop: &CancellationToken) {
    let mut has_stopped = false;
    loop {
        match signals.next().await {
            #[cfg(unix)]
            SignalAction::Reload if !has_stopped => handler.reload(),
            #[cfg(unix)]
            SignalAction::Reload => {}
            SignalAction::Stop if has_stopped => return,
            SignalAction::Stop => {
                has_stopped = true;
                eprint("stopping once open responses are complete; press Ctrl-C again to stop now");
                handler.notifier.stopping("waiting for open responses");
                stop.cancel();
            }
        }
    }
}
