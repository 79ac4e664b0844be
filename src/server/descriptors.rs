//! Open files: raises the process's limit, and divides it between client connections and the rest.
//!
//! A process that has reached its limit can't accept a connection, call the backend or open a file.
//! Client connections therefore get only a part of it.

/// The soft limit is raised to the hard one, but not beyond this.
#[cfg(unix)]
const ENOUGH: u64 = 65_536;
/// macOS refuses a soft limit above this, whatever the hard limit says.
#[cfg(unix)]
const OPEN_MAX: u64 = 10_240;
/// Kept for listeners, databases, logs, the credential file, idle connections to the backend and calls
/// that belong to no request.
const RESERVE: u64 = 64;

/// Raises the soft limit of open files to the hard one, or to as many as are ever needed.
#[cfg(unix)]
pub fn raise() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let Some(soft) = limit.current else { return };
    for wanted in [ENOUGH, OPEN_MAX].map(|wanted| limit.maximum.map_or(wanted, |hard| wanted.min(hard))) {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if wanted <= soft || setrlimit(Resource::Nofile, raised).is_ok() {
            return;
        }
    }
}

/// Raises nothing: this system has no such limit.
#[cfg(not(unix))]
pub fn raise() {}

/// How many client connections may be open: as many as the settings say, or fewer if the process may
/// not open enough files.
pub(super) fn connections(wanted: usize, concurrency: usize) -> usize {
    let Some(open_files) = open_files() else { return wanted };
    let share = usize::try_from(share(open_files, concurrency as u64)).unwrap_or(usize::MAX);
    if share < wanted {
        tracing::warn!(
            "limits.connections is {wanted}, but this process may open only {open_files} files: \
             {share} connections are served at a time. Raise the hard limit (ulimit -Hn, LimitNOFILE=)"
        );
    }
    wanted.min(share)
}

/// The connections' share of this many open files: what is left after the reserve and one connection
/// to the backend for each of the requests that may run at a time.
fn share(open_files: u64, concurrency: u64) -> u64 {
    let left = open_files - RESERVE.min(open_files / 2);
    // No connection has more than one request under way.
    (left - concurrency.min(left / 2)).max(1)
}

#[cfg(unix)]
fn open_files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(not(unix))]
fn open_files() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn connections_leave_room_for_their_calls_and_the_reserve() {
        let table = [(65_536, 256, 65_216), (1024, 256, 704), (256, 256, 96), (48, 256, 12), (2, 256, 1), (0, 1, 1)];
        for (open_files, concurrency, expected) in table {
            assert_eq!(share(open_files, concurrency), expected, "{open_files}");
        }
    }
}
