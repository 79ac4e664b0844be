//! `codex-proxy serve`: the daemon, in the foreground.
//!
//! It always binds: with no login, no network and no catalogue, a request then says what is
//! missing. It never starts a login by itself. With `--demo` the backend and the issuer are
//! simulated inside the process, and nothing is read from or written to the store.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::arguments::ServeArguments;
use super::exit::{Exit, Failure};
use super::output::talk;
use super::run_file::{RunFile, Running};
use super::terms::{Parts, timestamp};
use crate::auth::{Authority, Credential, Store, Tokens};
use crate::bearer::TokenSource;
use crate::config::Config;
use crate::demo::Demo;
use crate::net::{Endpoint, Trust};
use crate::server::{Backend, Server, Services};
use crate::upstream::{self, Upstream};

pub(super) async fn run(arguments: &ServeArguments, mut config: Config) -> Result<Exit, Failure> {
    for warning in &config.warnings {
        talk(&format!("warning: {warning}"));
    }
    let mut parts = Parts::of(&config);
    let demo = if arguments.demo { Some(simulate(&mut config, &mut parts).await?) } else { None };
    // Before anybody is told that we run: a signal in between would kill us with the run file in place.
    let stop = stop_on_signal()?;
    let server = Server::bind(config.server.clone()).await.map_err(|error| Failure::other(&error))?;
    let base_url = base_url(server.addresses());
    let Parts { http, store, authority, clock } = parts;
    let started_at = timestamp(clock.now());
    let tokens = Tokens::new(store, authority, clock, None);
    let backend = if demo.is_some() { Backend::Demo } else { Backend::ChatGpt };
    let upstream = Arc::new(Upstream::new(upstream_settings(&config), http, Arc::new(tokens.clone())));
    let _run_file = announce(&config, &base_url, started_at, backend);
    introduce(&base_url, backend, &tokens).await;
    let services = Services {
        upstream: Arc::clone(&upstream),
        tokens: Arc::new(tokens.clone()),
        rules: Arc::new(config.rules),
        chat: Arc::new(config.chat),
        backend,
    };
    tokio::select! {
        () = server.run(services, stop) => {}
        () = upstream.keep_catalogue() => {}
    }
    // A refresh under way may have spent the old token already: its outcome has to be stored.
    tokens.settle().await;
    Ok(Exit::Done)
}

/// Puts the simulated services in the place of the real ones.
async fn simulate(config: &mut Config, parts: &mut Parts) -> Result<Demo, Failure> {
    let demo = Demo::start(Arc::clone(&parts.clock)).await.map_err(|error| Failure::other(&error))?;
    let endpoint = |url: String| Endpoint::parse(&url, Trust::KnownHosts).map_err(|error| Failure::other(&error));
    config.upstream.url = endpoint(demo.backend_url())?;
    config.upstream.catalogue_file = None;
    config.auth.authority = endpoint(demo.issuer_url())?;
    let login = demo.signed_in();
    let tokens = (login.id_token, login.access_token, login.refresh_token);
    let now = parts.clock.now();
    let credential = Credential::of_tokens(Some(login.account_id), Some(tokens.0), tokens.1, Some(tokens.2), Some(now));
    parts.store = Store::memory(&credential.map_err(|error| Failure::other(&error))?);
    parts.authority = Authority::new(parts.http.clone(), &config.auth);
    Ok(demo)
}

fn upstream_settings(config: &Config) -> upstream::Settings {
    let installed = || upstream::version::installed(config.search_path.as_deref()?);
    let settings = config.upstream.clone();
    upstream::Settings { client_version: settings.client_version.clone().or_else(installed), ..settings }
}

/// Without the run file the daemon still serves; other commands just won't find it.
fn announce(config: &Config, base_url: &str, started_at: String, backend: Backend) -> Option<RunFile> {
    let running = Running {
        pid: std::process::id(),
        base_url: base_url.to_owned(),
        started_at,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        demo: backend == Backend::Demo,
    };
    let path = &config.paths.run_file;
    match RunFile::write(path, running) {
        Ok(file) => Some(file),
        Err(error) => {
            talk(&format!(
                "warning: {} can't be written ({error}); `status` will not find this daemon",
                path.display()
            ));
            None
        }
    }
}

async fn introduce(base_url: &str, backend: Backend, tokens: &Tokens) {
    match backend {
        Backend::Demo => talk("demo: a simulated backend answers; no model is asked, no account is used"),
        Backend::ChatGpt => {
            if let Err(error) = tokens.check().await {
                talk(&format!("warning: {error}"));
            }
        }
    }
    talk(&format!(
        "codex-proxy {} is ready: {base_url} (the base URL for clients; Ctrl-C stops)",
        env!("CARGO_PKG_VERSION")
    ));
}

/// The address to paste into a client.
fn base_url(addresses: &[SocketAddr]) -> String {
    let reachable = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
        _ => address,
    };
    addresses.first().map(|address| format!("http://{}/v1", reachable(*address))).unwrap_or_default()
}

/// Cancelled by the first SIGINT or SIGTERM.
#[expect(clippy::disallowed_methods, reason = "signals come whatever the server is doing")]
fn stop_on_signal() -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let signal = stop_signal().map_err(|error| Failure::other(&error))?;
    tokio::spawn(async move {
        signal.await;
        stopped.cancel();
    });
    Ok(stop)
}

#[cfg(unix)]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler the process just ends on Ctrl-C, which is all that is left to do.
        let _ = tokio::signal::ctrl_c().await;
    })
}
