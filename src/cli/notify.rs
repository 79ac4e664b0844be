//! What the service manager is told (systemd's protocol: `NOTIFY_SOCKET`, `WATCHDOG_USEC`).
//!
//! One datagram a message, to a socket with a name in the file system or an abstract one. Nothing
//! is said where no manager asks, and a manager that can't be reached changes nothing. The watchdog
//! is fed by a task on the workers that serve requests: when they are stuck, it starves.

use std::time::Duration;

use crate::config::Environment;

/// The manager's socket, or nobody.
#[derive(Debug)]
pub(super) struct Manager {
    #[cfg(unix)]
    socket: Option<std::os::unix::net::UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Manager {
    pub(super) fn of(environment: &Environment) -> Self {
        Self {
            #[cfg(unix)]
            socket: connect(environment),
            watchdog: watchdog(environment),
        }
    }

    /// Requests are served from now on.
    pub(super) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The settings are about to be read again; [`ready`](Self::ready) says that it is done.
    pub(super) fn reloading(&self) {
        self.send(&format!("RELOADING=1{}", monotonic()));
    }

    /// The end has begun.
    pub(super) fn stopping(&self, status: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Feeds the watchdog twice in each of its periods, for as long as work gets done. Never ends.
    #[expect(clippy::disallowed_methods, reason = "a task that ends at once shows that the workers work")]
    pub(super) async fn keep_fed(&self) {
        let Some(period) = self.watchdog else { return std::future::pending().await };
        let mut beat = tokio::time::interval(period / 2);
        loop {
            beat.tick().await;
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
            tracing::debug!(%error, "the service manager can't be told");
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
    // A manager that does not read must not stop us.
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// A path, or the name of an abstract socket behind an `@`.
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

/// The watchdog's period, where it is meant for this process.
fn watchdog(environment: &Environment) -> Option<Duration> {
    let number = |name: &str| environment.get(name)?.to_str()?.parse::<u64>().ok();
    let is_ours =
        environment.get("WATCHDOG_PID").is_none_or(|_| number("WATCHDOG_PID") == Some(std::process::id().into()));
    let period = number("WATCHDOG_USEC").filter(|period| *period > 1 && is_ours)?;
    Some(Duration::from_micros(period))
}

/// The manager compares this time with its own, and so waits for the right readiness.
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
    fn a_watchdog_of_another_process_is_not_fed() {
        let own = std::process::id().to_string();
        let period = |pairs: &[(&str, &str)]| watchdog(&pairs.iter().copied().collect());
        assert_eq!(period(&[("WATCHDOG_USEC", "2000000")]), Some(Duration::from_secs(2)));
        assert_eq!(period(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", &own)]), Some(Duration::from_secs(2)));
        assert_eq!(period(&[("WATCHDOG_USEC", "2000000"), ("WATCHDOG_PID", "1")]), None);
        assert_eq!(period(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(period(&[]), None);
    }
}
