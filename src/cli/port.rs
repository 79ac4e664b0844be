//! Finds out which program uses a port, and a free port instead.

use std::net::{SocketAddr, TcpListener};

use super::run_file::{Health, RunningDaemon};
use super::serve::base_url;
use crate::config::Config;
use crate::net::HttpClient;
use crate::socket_owner;

/// Size of the range of ports that [`free_above`] searches.
const SEARCHED_PORTS: u16 = 100;
/// Ports up to this one require privileges.
const LAST_RESERVED: u16 = 1023;

/// The program that uses a port.
pub(super) enum PortOwner {
    /// The daemon of the run file.
    ThisDaemon(RunningDaemon),
    /// A daemon that the run file of these settings doesn't describe.
    OtherDaemon { base_url: String },
    /// Another program: its name and process id, if the system reports them.
    Program(String),
}

impl PortOwner {
    pub(super) async fn of(address: SocketAddr, config: &Config, http: &HttpClient) -> Self {
        let base_url = base_url(&[address]);
        if let Some(running) = RunningDaemon::find(&config.paths.run_file, http).await
            && port_of(&running.base_url) == port_of(&base_url)
        {
            return Self::ThisDaemon(running);
        }
        if Health::at(&base_url, http).await.is_some() {
            return Self::OtherDaemon { base_url };
        }
        let port = address.port();
        let program = tokio::task::spawn_blocking(move || socket_owner::listener_on(port)).await.ok().flatten();
        Self::Program(program.unwrap_or_else(|| "another program".to_owned()))
    }
}

fn port_of(base_url: &str) -> Option<&str> {
    base_url.trim_end_matches("/v1").rsplit(':').next()
}

/// Returns the first port above `wanted` that is free at all addresses; 0 (any port) if there is none.
pub(super) fn free_above(addresses: &[SocketAddr], wanted: u16) -> u16 {
    let first = wanted.max(LAST_RESERVED).saturating_add(1);
    let is_free = |port: &u16| {
        addresses.iter().all(|address| match TcpListener::bind(SocketAddr::new(address.ip(), *port)) {
            Ok(_) => true,
            // Not every machine has an IPv6 loopback address.
            Err(error) => error.kind() == std::io::ErrorKind::AddrNotAvailable,
        })
    };
    (first..=first.saturating_add(SEARCHED_PORTS)).find(is_free).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};

    use super::free_above;

    #[test]
    fn the_suggested_port_is_free() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let before = address.port() - 1;
        let free = free_above(&[address], before);
        assert_ne!(free, address.port());
        assert!(free > before, "{free}");
        TcpListener::bind(SocketAddr::new(address.ip(), free)).unwrap();
        assert!(free_above(&[address], 80) > 1023);
    }
}
