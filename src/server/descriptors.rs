//! Raises the limit of open files, and derives the number of client connections from it.
//!
//! A process at its limit can't accept connections, call the backend or open files. Client connections therefore get
//! only a part of the limit.

/// The soft limit is raised to the hard one, but not beyond this, which is always enough.
#[cfg(unix)]
const MAX_SOFT_LIMIT: u64 = 65_536;
/// macOS refuses a soft limit above this, whatever the hard limit says.
#[cfg(unix)]
const MACOS_MAX_SOFT_LIMIT: u64 = 10_240;
/// Open files that are reserved for listeners, databases, logs, the credential file, idle backend connections and
/// background calls.
const RESERVED_FILES: u64 = 64;

/// Raises the soft limit of open files to the hard limit, or to as many files as are ever needed.
#[cfg(unix)]
pub fn raise() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let Some(soft) = limit.current else { return };
    for wanted in
        [MAX_SOFT_LIMIT, MACOS_MAX_SOFT_LIMIT].map(|wanted| limit.maximum.map_or(wanted, |hard| wanted.min(hard)))
    {
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        if wanted <= soft || setrlimit(Resource::Nofile, raised).is_ok() {
            return;
        }
    }
}

/// Does nothing: this system has no such limit.
#[cfg(not(unix))]
pub fn raise() {}

/// The maximum number of client connections: as configured, or fewer (with a warning) if the process may not open
/// enough files.
pub(super) fn max_connections(wanted: usize, concurrency: usize) -> usize {
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

/// The part of the open files for client connections: the rest after the reserve (at most half) and after one backend
/// connection for each concurrent request (at most half of what is left).
fn share(open_files: u64, concurrency: u64) -> u64 {
    let left = open_files - RESERVED_FILES.min(open_files / 2);
    // Half is enough, since each client connection has at most one request under way.
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
