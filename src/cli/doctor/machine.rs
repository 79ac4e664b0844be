//! What can be seen on this machine: settings, files and their rights, the port.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::super::run_file::Running;
use super::finding::{Check, Finding};
use crate::config::{Config, Environment, Fault, Faults, Source, client_key};
use crate::net::HttpClient;
use crate::server::Listen;

/// The settings can't be used, and nothing can be looked at that depends on them.
pub(super) fn faults(faults: &Faults) -> Vec<Finding> {
    let wrong = |fault: &Fault| {
        let message = fault.to_string().replace('\n', " ");
        Finding::error(Check::Settings, message, "codex-proxy config check")
    };
    let mut findings: Vec<_> = faults.0.iter().map(wrong).collect();
    findings.push(Finding::unknown(Check::Settings, "the rest can be looked at when the settings can be used"));
    findings
}

pub(super) fn settings(config: &Config) -> Vec<Finding> {
    let warned = |warning: &String| Finding::warning(Check::Settings, warning, "codex-proxy config show");
    let mut findings: Vec<_> = config.warnings.iter().map(warned).collect();
    let file = config.paths.config.display();
    let state = if config.paths.config.exists() { "is used" } else { "does not exist; the defaults hold" };
    findings.push(Finding::ok(Check::Settings, format!("{file} {state}")));
    findings
}

/// Whether our files can be read by others, and written by us.
pub(super) fn files(config: &Config, environment: &Environment) -> Vec<Finding> {
    let mut private = vec![config.auth.credentials.as_path()];
    let is_in_file = |shown: &&crate::config::Shown| matches!(shown.source, Source::File { .. });
    let keys = config.shown.iter().find(|shown| shown.key == "keys").filter(is_in_file);
    if keys.is_some() && client_key(config, environment, "").is_some() {
        private.push(&config.paths.config);
    }
    let mut findings: Vec<_> = private.into_iter().filter_map(open_to_others).collect();
    let folders = [config.auth.credentials.as_path(), &config.paths.run_file, &config.paths.catalogue];
    let mut folders: Vec<_> = folders.iter().filter_map(|file| file.parent()).collect();
    folders.dedup();
    findings.extend(folders.into_iter().filter_map(unwritable));
    if findings.is_empty() {
        findings.push(Finding::ok(Check::Files, "private where they have to be, and their folders can be written"));
    }
    findings
}

#[cfg(unix)]
fn open_to_others(file: &Path) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o777;
    let message = format!("{} can be read by others (rights {mode:03o})", file.display());
    (mode & 0o077 != 0).then(|| Finding::warning(Check::Files, message, format!("chmod 600 {}", quoted(file))))
}

#[cfg(not(unix))]
fn open_to_others(_file: &Path) -> Option<Finding> {
    None
}

/// The folder, or where it does not exist yet, the one in which it would be made.
fn unwritable(folder: &Path) -> Option<Finding> {
    let folder = folder.ancestors().find(|folder| folder.exists())?;
    let error = tempfile::NamedTempFile::new_in(folder).err()?;
    let message = format!("{} can't be written ({})", folder.display(), error.kind());
    Some(Finding::error(Check::Files, message, format!("ls -ld {}", quoted(folder))))
}

fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if is_plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Whether the daemon runs, or could.
pub(super) async fn port(config: &Config, http: &HttpClient) -> Finding {
    if let Some((running, health)) = Running::look(&config.paths.run_file, http).await {
        let place = match &running.socket {
            Some(socket) => format!("on the socket {}", socket.display()),
            None => format!("at {}", running.base_url),
        };
        return if health.replay {
            let message = format!("what was recorded answers {place}, and no model: stop it, and run");
            Finding::warning(Check::Port, message, "codex-proxy serve")
        } else if running.demo {
            let message = format!("a demo answers {place}, and no model: stop it, and run");
            Finding::warning(Check::Port, message, "codex-proxy serve")
        } else {
            Finding::ok(Check::Port, format!("the daemon answers {place} (process {})", running.pid))
        };
    }
    match &config.server.listen {
        Listen::Tcp(addresses) => ports(addresses),
        #[cfg(unix)]
        Listen::Unix(path) => not_running(&format!("nobody answers on the socket {}", path.display())),
    }
}

/// Whether the backend has begun to say what this release does not know; a daemon that runs has counted it.
pub(super) async fn drift(config: &Config, http: &HttpClient) -> Option<Finding> {
    let (_, health) = Running::look(&config.paths.run_file, http).await?;
    let names: Vec<_> = health.drift.iter().map(|strange| strange.name.as_str()).collect();
    Some(match names.as_slice() {
        [] => Finding::ok(Check::Drift, "the backend has said nothing to the daemon that this release does not know"),
        [first, others @ ..] => {
            let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            let message =
                format!("the backend says what this release does not know ({first}{more}); it passes: tell us");
            Finding::warning(Check::Drift, message, "codex-proxy report")
        }
    })
}

fn ports(addresses: &[SocketAddr]) -> Finding {
    for address in addresses {
        let port = address.port();
        match TcpListener::bind(address).map_err(|error| error.kind()) {
            // A machine need not have every loopback address.
            Ok(_) | Err(ErrorKind::AddrNotAvailable | ErrorKind::Unsupported) => {}
            Err(ErrorKind::AddrInUse) => {
                let message = format!("port {port} on {} is held by another program: choose another", address.ip());
                return Finding::error(Check::Port, message, format!("codex-proxy serve --port {}", next(port)));
            }
            Err(kind) => {
                let message = format!("port {port} on {} can't be had ({kind})", address.ip());
                return Finding::error(Check::Port, message, format!("codex-proxy serve --port {}", next(port)));
            }
        }
    }
    not_running("no daemon runs, and its port is free")
}

fn not_running(message: &str) -> Finding {
    Finding::warning(Check::Port, message, "codex-proxy serve")
}

fn next(port: u16) -> u16 {
    port.checked_add(1).filter(|port| *port > 1024).unwrap_or(8788)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;

    use super::super::super::bars::Paint;
    use super::{ports, quoted};

    #[test]
    fn a_port_that_is_held_is_told_with_another_one() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let line = ports(&[address]).told(None, Paint::Plain);
        assert!(line.starts_with("wrong") && line.contains("held by another") && line.contains("--port"), "{line}");
        drop(held);
        let line = ports(&[address]).told(None, Paint::Plain);
        assert!(line.starts_with("warning") && line.ends_with("`codex-proxy serve`"), "{line}");
    }

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        assert_eq!(quoted(Path::new("/a/b-c.d")), "/a/b-c.d");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
