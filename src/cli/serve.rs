//! `codex-proxy serve`: the daemon, in the foreground.
//!
//! It always binds: with no credential, no network and no catalogue. It binds before it says that it
//! is ready, and never starts a login by itself. The first signal lets open answers finish; a second
//! one does not wait for them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Failure};
use super::output::talk;
use super::run_file::{RunFile, Running};
use super::signals::Signals;
use crate::auth::{self, Authority, Credential, Store, Tokens};
use crate::bearer::TokenSource;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::demo::Demo;
use crate::net::{Endpoint, HttpClient, Trust};
use crate::server::{Backend, Server, Services};
use crate::upstream::{self, Upstream, version};

/// The services that are called, real or simulated.
struct Outside {
    auth: auth::Settings,
    upstream: upstream::Settings,
    store: Store,
    /// Runs as long as it is held.
    _demo: Option<Demo>,
}

pub(super) async fn run(config: Config, backend: Backend) -> Result<Exit, Failure> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let server = Server::bind(config.server.clone()).await.map_err(|error| Failure::other(&error))?;
    let mut signals = Signals::listen().map_err(|error| Failure::other(&error))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let outside = match backend {
        Backend::ChatGpt => Outside::real(&config),
        Backend::Demo => Outside::simulated(&config, &clock).await?,
    };
    let http = HttpClient::new(config.net.clone());
    let authority = Authority::new(http.clone(), &outside.auth);
    let tokens = Tokens::new(outside.store, authority, Arc::clone(&clock), None);
    let upstream = Arc::new(Upstream::new(outside.upstream, http, Arc::new(tokens.clone())));
    let base_url = base_url(server.addresses());
    let _run_file = announce(&config, &base_url, backend, clock.as_ref());
    if let Err(error) = tokens.check().await {
        talk(&error.to_string());
    }
    let services = Services {
        upstream: Arc::clone(&upstream),
        tokens: Arc::new(tokens.clone()),
        rules: Arc::new(config.rules),
        chat: Arc::new(config.chat),
        backend,
    };
    let stop = CancellationToken::new();
    tokio::select! {
        () = server.run(services, stop.clone()) => {}
        () = upstream.keep_catalogue() => {}
        () = stopped(&mut signals, &stop) => talk("stopped at once"),
    }
    tokens.settle().await;
    Ok(Exit::Done)
}

/// Passes the first signal on, and ends with the second.
async fn stopped(signals: &mut Signals, stop: &CancellationToken) {
    signals.next().await;
    tracing::info!("stopping: open answers may finish; a second signal cuts them");
    stop.cancel();
    signals.next().await;
}

impl Outside {
    fn real(config: &Config) -> Self {
        let mut upstream = config.upstream.clone();
        let installed = || version::installed(config.search_path.as_deref()?);
        upstream.client_version = upstream.client_version.or_else(installed);
        let store = Store::file(&config.auth.credentials);
        Self { auth: config.auth.clone(), upstream, store, _demo: None }
    }

    /// The simulator on loopback, and a login of its own that is written nowhere.
    async fn simulated(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        let demo = Demo::start(Arc::clone(clock)).await.map_err(|error| Failure::other(&error))?;
        let endpoint = |url: String| Endpoint::parse(&url, Trust::KnownHosts).map_err(|error| Failure::other(&error));
        let auth = auth::Settings { authority: endpoint(demo.issuer_url())?, ..config.auth.clone() };
        let url = endpoint(demo.backend_url())?;
        let upstream = upstream::Settings { url, catalogue_file: None, ..config.upstream.clone() };
        let login = demo.signed_in();
        let credential = Credential::of_tokens(
            Some(login.account_id),
            Some(login.id_token),
            login.access_token,
            Some(login.refresh_token),
            Some(clock.now()),
        );
        let store = Store::memory(&credential.map_err(|error| Failure::other(&error))?);
        Ok(Self { auth, upstream, store, _demo: Some(demo) })
    }
}

/// Writes the run file and the ready line. Without the file, only other commands miss something.
fn announce(config: &Config, base_url: &str, backend: Backend, clock: &dyn Clock) -> Option<RunFile> {
    let running = Running {
        pid: std::process::id(),
        base_url: base_url.to_owned(),
        started_at: humantime::format_rfc3339_seconds(clock.now()).to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        demo: backend == Backend::Demo,
    };
    let file = RunFile::write(&config.paths.run_file, running);
    let warn = |error: &io::Error| {
        tracing::warn!(%error, path = %config.paths.run_file.display(), "the run file can't be written");
    };
    talk(&format!("codex-proxy {} is ready: {base_url}", env!("CARGO_PKG_VERSION")));
    if backend == Backend::Demo {
        talk("this is a demo: a simulated backend answers, and no model speaks");
    }
    file.inspect_err(warn).ok()
}

/// The address to paste into a client on this machine.
fn base_url(addresses: &[SocketAddr]) -> String {
    let mut address = addresses.first().copied().unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}/v1")
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
