//! Notifies the service manager of the daemon's state (systemd's protocol: `NOTIFY_SOCKET`, `WATCHDOG_USEC`).
//!
//! Each message is a datagram to a Unix socket, which can be abstract. Without a manager nothing is sent; errors are
//! ignored. Watchdog messages come from a task on the threads that serve requests, so they stop if these are blocked.

use std::time::Duration;

use crate::config::Environment;

/// The connection to the service manager, if there is one.
#[derive(Debug)]
pub(super) struct Notifier {
    #[cfg(unix)]
    socket: Option<std::os::unix::net::UnixDatagram>,
    /// The watchdog's period; `None`: it is off.
    watchdog: Option<Duration>,
}

impl Notifier {
    pub(super) fn of(environment: &Environment) -> Self {
        Self {
            #[cfg(unix)]
            socket: connect(environment),
            watchdog: watchdog(environment),
        }
    }

    /// Reports that the daemon serves requests.
    pub(super) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// Reports that a reload begins; [`ready`](Self::ready) reports its end.
    pub(super) fn reloading(&self) {
        self.send(&format!("RELOADING=1{}", monotonic()));
    }

    /// Reports that the daemon is stopping.
    pub(super) fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Sends two watchdog messages per period, as long as the runtime runs tasks. Runs until dropped.
    #[expect(clippy::disallowed_methods, reason = "a spawned task shows that the worker threads aren't blocked")]
    pub(super) async fn keep_watchdog_alive(&self) {
        let Some(period) = self.watchdog else { return std::future::pending().await };
        let mut interval = tokio::time::interval(period / 2);
        loop {
            interval.tick().await;
            if tokio::spawn(std::future::ready(())).await.is_ok() {
                self.send("WATCHDOG=1");
            }
        }
    }

    fn send(&self, message: &str) {
        #[cfg(unix)]
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!(%error, "can't notify the service manager");
        }
        #[cfg(not(unix))]
        let _ = message;
    }
}

#[cfg(unix)]
fn connect(environment: &Environment) -> Option<std::os::unix::net::UnixDatagram> {
    use std::os::unix::net::UnixDatagram;
    let address = address(environment.get("NOTIFY_SOCKET")?)?;
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect_addr(&address).ok()?;
    // A manager that doesn't read must not block the daemon.
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// Parses a path, or the name of an abstract socket after an `@`.
#[cfg(unix)]
fn address(name: &std::ffi::OsStr) -> Option<std::os::unix::net::SocketAddr> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::SocketAddr;
    match name.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name).ok()
        }
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}

/// Returns the watchdog's period, if it is meant for this process.
fn watchdog(environment: &Environment) -> Option<Duration> {
    let number = |name: &str| environment.get(name)?.to_str()?.parse::<u64>().ok();
    let is_ours =
        environment.get("WATCHDOG_PID").is_none_or(|_| number("WATCHDOG_PID") == Some(std::process::id().into()));
    let period = number("WATCHDOG_USEC").filter(|period| *period > 1 && is_ours)?;
    Some(Duration::from_micros(period))
}

/// Returns the time of a reload message, which lets the manager ignore an older `READY=1`.
#[cfg(target_os = "linux")]
fn monotonic() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    format!("\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000)
}

#[cfg(not(target_os = "linux"))]
fn monotonic() -> String {
    String::new()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::watchdog;

    #[test]
    fn a_watchdog_for_another_process_is_ignored() {
        let own = std::process::id().to_string();
        let period = |pairs: &[(&str, &str)]| watchdog(&pairs.iter().copied().collect());
        assert_eq!(period(&[("WATCHDOG_USEC", "2000000")]), Some(Duration::from_secs(2)));
        assert_eq!(period(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", &own)]), Some(Duration::from_secs(2)));
        assert_eq!(period(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "1")]), None);
        assert_eq!(period(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(period(&[]), None);
    }
}
