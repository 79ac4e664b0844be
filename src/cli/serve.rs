//! `codex-proxy serve`: the daemon, in the foreground.
//!
//! It always binds: with no login, no network and no catalogue, a request then says what is
//! missing. It never starts a login by itself. With `--demo` the backend and the issuer are
//! simulated inside the process, and nothing is read from or written to the store. The first signal
//! lets open answers finish; a second one does not wait for them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::arguments::ServeArguments;
use super::context::{Context, accounts, env_token, timestamp, upstream_settings};
use super::directories;
use super::exit::{Exit, Failure};
use super::notify::Manager;
use super::output::eprint;
use super::port::{PortOwner, free_above};
use super::reload::{self, Exposure, Sources};
use super::run_file::{RunFile, Running};
use super::signals::{SignalAction, Signals};
use crate::auth::{Accounts, Authority, Credential, Store};
use crate::clock::{Clock, SystemClock};
use crate::command_hint::command;
use crate::config::Config;
use crate::demo::Demo;
use crate::endpoint::{Endpoint, Trust};
use crate::history::{Conversations, Responses, Totals, UsageStore};
use crate::net::HttpClient;
use crate::protocol::responses;
use crate::server::{self, Backend, BindError, Listen, Server, Services, Telemetry};
use crate::token_source::TokenSource;
use crate::upstream::Upstream;
use crate::upstream::cassette::{Player, Recorder};

/// How soon a sleep of the machine is noticed.
const WAKE_INTERVAL: Duration = Duration::from_secs(15);

pub(super) async fn run(arguments: &ServeArguments, mut config: Config, sources: Sources) -> Result<Exit, Failure> {
    server::raise_open_file_limit();
    let manager = Manager::of(&sources.environment);
    let given_settings = config.clone();
    for warning in &config.warnings {
        eprint(&format!("warning: {warning}"));
    }
    for exposed in directories::exposed(&config) {
        eprint(&format!("warning: {exposed}: `{}`", exposed.command()));
    }
    let mut context = Context::of_daemon(&config);
    let backend = backend(arguments);
    // Signing in is simulated for a replay, too: nobody else is asked for anything.
    let simulated = if backend == Backend::ChatGpt { None } else { Some(simulate(&mut config, &mut context).await?) };
    let cassettes = Cassettes::of(arguments, context.clock.now())?;
    // Before anybody is told that we run: a signal in between would kill us with the run file in place.
    let mut signals = Signals::listen().map_err(|error| Failure::other(&error))?;
    let server = bind(arguments, &config, &context.http).await?;
    let address = Address::of(&config.server.listen, server.addresses());
    let started_at = timestamp(context.clock.now());
    // The demo is nobody's account, whatever the environment holds.
    let given = if simulated.is_some() { None } else { env_token(&sources.environment) };
    let settings = reload::Settings::new(sources, given_settings);
    let tokens = accounts(&context, &config, given);
    let telemetry = config.telemetry.clone().map(|endpoint| Arc::new(Telemetry::new(endpoint, context.http.clone())));
    let upstream = Upstream::new(upstream_settings(&config), context.http, Arc::new(tokens.clone()));
    let upstream = Arc::new(cassettes.with(upstream));
    let instance = uuid::Uuid::new_v4().to_string();
    let _run_file = announce(&config, &address, started_at, arguments, settings.log_file(), &instance);
    let history = history(&config, backend).await;
    let totals = totals(&config, backend, &context.clock).await;
    introduce(&address, arguments, &tokens).await;
    if let Some(file) = settings.log_file() {
        eprint(&format!("the log goes to {}", file.display()));
        tracing::info!(version = env!("CARGO_PKG_VERSION"), %address, "serving");
    }
    let exposure = exposure(server.addresses());
    let control = Control { manager: &manager, settings: &settings, exposure, address: &address };
    let services = Services {
        upstream: Arc::clone(&upstream),
        tokens: Arc::new(tokens.clone()),
        history: Arc::clone(&history),
        totals: Arc::clone(&totals),
        conversations: Arc::new(Conversations::default()),
        live: settings.live(),
        chat: Arc::new(config.chat),
        reasoning: config.history.replays_reasoning.then(Arc::default),
        responses: Arc::new(config.responses),
        telemetry: telemetry.clone(),
        backend,
        instance,
    };
    let stop = CancellationToken::new();
    control.ready();
    tokio::select! {
        () = server.run(services, stop.clone()) => {}
        () = upstream.keep_catalogue() => {}
        () = upstream.keep_connections() => {}
        () = tokens.keep_awake(WAKE_INTERVAL) => {}
        () = manager.keep_fed() => {}
        () = trace(telemetry.as_deref()) => {}
        () = obey(&mut signals, &control, &stop) => {}
    }
    drop(upstream);
    settle(&tokens, &history, &totals, telemetry.as_deref()).await;
    Ok(Exit::Done)
}

/// Waits for what is still to be written.
async fn settle(tokens: &Accounts, history: &Responses, totals: &Totals, telemetry: Option<&Telemetry>) {
    // A refresh under way may have spent the old token already: its outcome has to be stored.
    tokens.settle().await;
    history.settle().await;
    totals.settle().await;
    if let Some(telemetry) = telemetry {
        telemetry.flush().await;
    }
}

async fn bind(arguments: &ServeArguments, config: &Config, http: &HttpClient) -> Result<Server, Failure> {
    match Server::bind(config.server.clone()).await {
        Ok(server) => Ok(server),
        Err(error) => Err(unbound(&error, arguments, config, http).await),
    }
}

/// Why there is nothing to listen on, and the command that helps.
async fn unbound(error: &BindError, arguments: &ServeArguments, config: &Config, http: &HttpClient) -> Failure {
    let (BindError::InUse(address), Listen::Tcp(wanted)) = (error, &config.server.listen) else {
        return Failure::other(error);
    };
    let port = address.port();
    let holder = match PortOwner::of(*address, config, http).await {
        PortOwner::ThisDaemon(daemon) => {
            let status = command("status");
            let (base_url, pid) = (daemon.base_url, daemon.pid);
            return Failure::Other(format!("the daemon runs already, at {base_url} (process {pid}): `{status}`"));
        }
        PortOwner::OtherDaemon { base_url } => format!("another daemon of this program, at {base_url}"),
        PortOwner::Program(name) => name,
    };
    let kind = if arguments.demo { "serve --demo" } else { "serve" };
    let other = command(&format!("{kind} --port {}", free_above(wanted, port)));
    Failure::Other(format!("port {port} on {} is held by {holder}; stop it, or run `{other}`", address.ip()))
}

/// Sends traces to whom the owner has named; runs until dropped.
async fn trace(telemetry: Option<&Telemetry>) {
    match telemetry {
        Some(telemetry) => telemetry.run().await,
        None => std::future::pending().await,
    }
}

/// Where answers are kept. Without the file the daemon still serves, and remembers while it runs.
async fn history(config: &Config, backend: Backend) -> Arc<Responses> {
    // What nobody has said is nothing to keep.
    if config.responses.store != responses::Store::Disk || backend != Backend::ChatGpt {
        return Arc::default();
    }
    match Responses::on_disk(config.paths.responses.clone(), Arc::new(SystemClock)).await {
        Ok((history, notice)) => {
            if let Some(notice) = notice {
                eprint(&format!("warning: {notice}"));
            }
            Arc::new(history)
        }
        Err(error) => {
            eprint(&format!("warning: {error}; answers are kept in memory"));
            Arc::default()
        }
    }
}

/// Where what is used is added up. Without the file the daemon still serves, and counts while it runs.
async fn totals(config: &Config, backend: Backend, clock: &Arc<dyn Clock>) -> Arc<Totals> {
    let (store, keep_days) = (config.history.usage_store, config.history.usage_keep_days);
    // The demo writes nothing.
    if store == UsageStore::Disk && backend == Backend::ChatGpt {
        match Totals::on_disk(config.paths.usage.clone(), keep_days, Arc::clone(clock)).await {
            Ok((totals, notice)) => {
                if let Some(notice) = notice {
                    eprint(&format!("warning: {notice}"));
                }
                return Arc::new(totals);
            }
            Err(error) => eprint(&format!("warning: {error}; usage is counted in memory")),
        }
    }
    Arc::new(Totals::in_memory(store, keep_days, Arc::clone(clock)))
}

/// Puts the simulated services in the place of the real ones.
async fn simulate(config: &mut Config, context: &mut Context) -> Result<Demo, Failure> {
    let demo = Demo::start(Arc::clone(&context.clock)).await.map_err(|error| Failure::other(&error))?;
    let endpoint = |url: String| Endpoint::parse(&url, Trust::KnownHosts).map_err(|error| Failure::other(&error));
    config.upstream.url = endpoint(demo.backend_url())?;
    config.upstream.catalogue_file = None;
    // A word in a prompt spends the demo's quota, and the next prompt finds it full again.
    config.upstream.quota_probe = Duration::ZERO;
    config.auth.authority = endpoint(demo.issuer_url())?;
    let login = demo.signed_in();
    let tokens = (login.id_token, login.access_token, login.refresh_token);
    let now = context.clock.now();
    let credential = Credential::of_tokens(Some(login.account_id), Some(tokens.0), tokens.1, Some(tokens.2), Some(now));
    context.store = Store::memory(&credential.map_err(|error| Failure::other(&error))?);
    context.authority = Authority::new(context.http.clone(), &config.auth);
    Ok(demo)
}

/// Without the run file the daemon still serves; other commands just won't find it.
fn announce(
    config: &Config,
    address: &Address,
    started_at: String,
    arguments: &ServeArguments,
    log_file: Option<&Path>,
    instance: &str,
) -> Option<RunFile> {
    let running = Running {
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
                "warning: {} can't be written ({}); `status` will not find this daemon: `{}`",
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

/// What exchanges are written to, or read from.
enum Cassettes {
    Off,
    Recording(Recorder),
    Playing(Player),
}

impl Cassettes {
    fn of(arguments: &ServeArguments, now: SystemTime) -> Result<Self, Failure> {
        if let Some(directory) = &arguments.replay {
            return Player::load(directory).map(Self::Playing).map_err(|error| Failure::other(&error));
        }
        let Some(directory) = &arguments.record else { return Ok(Self::Off) };
        let told = |error| Failure::other(&format!("{}: {error}", directory.display()));
        Recorder::start(directory.clone(), now).map(Self::Recording).map_err(told)
    }

    fn with(self, upstream: Upstream) -> Upstream {
        match self {
            Self::Off => upstream,
            Self::Recording(recorder) => upstream.recording(recorder),
            Self::Playing(player) => upstream.playing(player),
        }
    }
}

async fn introduce(address: &Address, arguments: &ServeArguments, tokens: &Accounts) {
    if let Some(directory) = &arguments.record {
        eprint(&format!(
            "recording: exchanges are written to {}, without what is private in them",
            directory.display()
        ));
    }
    match backend(arguments) {
        Backend::Replay => eprint("replay: what was recorded answers; no model is asked, no account is used"),
        Backend::Demo => eprint("demo: a simulated backend answers; no model is asked, no account is used"),
        Backend::ChatGpt => {
            let warning = tokens.check().await.map_or_else(|error| Some(error.to_string()), |state| state.warning());
            if let Some(warning) = warning {
                eprint(&format!("warning: {warning}"));
            }
        }
    }
    let version = env!("CARGO_PKG_VERSION");
    let hint = match &address.socket {
        Some(socket) => format!("curl --unix-socket {} {}/models", socket.display(), address.base_url),
        None => "the base URL for clients".to_owned(),
    };
    let replays = if arguments.replay.is_some() { "; it replays what was recorded" } else { "" };
    eprint(&format!("codex-proxy {version} is ready: {address} ({hint}{replays}; Ctrl-C stops)"));
}

/// Where clients find the daemon.
struct Address {
    base_url: String,
    socket: Option<PathBuf>,
}

impl Address {
    fn of(listen: &Listen, bound: &[SocketAddr]) -> Self {
        match listen {
            Listen::Tcp(_) => Self { base_url: base_url(bound), socket: None },
            #[cfg(unix)]
            Listen::Unix(path) => Self { base_url: "http://localhost/v1".to_owned(), socket: Some(path.clone()) },
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base_url)?;
        self.socket.as_ref().map_or(Ok(()), |socket| write!(f, " on the socket {}", socket.display()))
    }
}

/// The address to paste into a client.
pub(super) fn base_url(addresses: &[SocketAddr]) -> String {
    let reachable = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
        _ => address,
    };
    addresses.first().map(|address| format!("http://{}/v1", reachable(*address))).unwrap_or_default()
}

fn exposure(addresses: &[SocketAddr]) -> Exposure {
    let is_local = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
    if is_local { Exposure::LocalOnly } else { Exposure::Remote }
}

/// What answers to signals while the daemon serves.
struct Control<'a> {
    manager: &'a Manager,
    settings: &'a reload::Settings,
    exposure: Exposure,
    address: &'a Address,
}

impl Control<'_> {
    fn ready(&self) {
        self.manager.ready(&format!("serving at {}", self.address));
    }

    #[cfg(unix)]
    fn reload(&self) {
        self.manager.reloading();
        self.settings.reload(self.exposure);
        self.ready();
    }
}

/// Passes the first signal to stop on, and ends with the second.
async fn obey(signals: &mut Signals, control: &Control<'_>, stop: &CancellationToken) {
    let mut has_stopped = false;
    loop {
        match signals.next().await {
            #[cfg(unix)]
            SignalAction::Reload if !has_stopped => control.reload(),
            #[cfg(unix)]
            SignalAction::Reload => {}
            SignalAction::Stop if has_stopped => return,
            SignalAction::Stop => {
                has_stopped = true;
                eprint("stopping: open answers may finish; a second signal cuts them");
                control.manager.stopping("open answers may finish");
                stop.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::base_url;

    #[test]
    fn the_base_url_can_be_reached_from_this_machine() {
        assert_eq!(base_url(&["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()]), "http://127.0.0.1:1/v1");
        assert_eq!(base_url(&["0.0.0.0:2".parse().unwrap()]), "http://127.0.0.1:2/v1");
        assert_eq!(base_url(&["[::]:3".parse().unwrap()]), "http://[::1]:3/v1");
    }
}
