//! What can be seen on this machine: settings, files and their rights, the port.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::super::directories;
use super::super::port::{PortOwner, free_above};
use super::super::run_file::{Health, Running};
use super::finding::{Check, Finding};
use super::permissions;
use crate::command_hint::command;
use crate::config::{Config, Environment, Fault, Faults, Source, client_key};
use crate::fs::{ExposedDirectory, directory_of};
use crate::net::HttpClient;
use crate::server::Listen;
use crate::upstream::Omitted;

/// The settings can't be used, and nothing can be looked at that depends on them.
pub(super) fn faults(faults: &Faults) -> Vec<Finding> {
    let wrong = |fault: &Fault| {
        let message = fault.to_string().replace('\n', " ");
        Finding::error(Check::Settings, message, command("config check"))
    };
    let mut findings: Vec<_> = faults.0.iter().map(wrong).collect();
    findings.push(Finding::unknown(Check::Settings, "the rest can be looked at when the settings can be used"));
    findings
}

pub(super) fn settings(config: &Config) -> Vec<Finding> {
    let warned = |warning: &String| Finding::warning(Check::Settings, warning, command("config show"));
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
    let mut findings: Vec<_> = private.into_iter().filter_map(permissions::of_file).collect();
    let of_credentials = directories::of_credentials(config);
    let files = [&config.paths.run_file, &config.paths.catalogue];
    let mut folders = vec![of_credentials.as_path()];
    folders.extend(files.into_iter().map(|file| directory_of(file)));
    folders.dedup();
    findings.extend(folders.into_iter().filter_map(permissions::of_folder));
    // Nothing can be stored or read there; in other directories this is a risk, but not an error.
    let refused = ExposedDirectory::find(&of_credentials);
    let others = directories::exposed(config).into_iter().filter(|exposed| Some(exposed) != refused.as_ref());
    let warned = |exposed: ExposedDirectory| Finding::warning(Check::Files, exposed.to_string(), exposed.command());
    findings.extend(others.map(warned));
    findings.extend(refused.as_ref().map(|found| Finding::error(Check::Files, found.to_string(), found.command())));
    if findings.is_empty() {
        findings.push(Finding::ok(Check::Files, "private where they have to be, and their folders can be written"));
    }
    findings
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
            Finding::warning(Check::Port, message, command("serve"))
        } else if running.demo {
            let message = format!("a demo answers {place}, and no model: stop it, and run");
            Finding::warning(Check::Port, message, command("serve"))
        } else {
            Finding::ok(Check::Port, format!("the daemon answers {place} (process {})", running.pid))
        };
    }
    match &config.server.listen {
        Listen::Tcp(addresses) => ports(addresses, config, http).await,
        #[cfg(unix)]
        Listen::Unix(path) => not_running(&format!("nobody answers on the socket {}", path.display())),
    }
}

/// What a running daemon has noticed about the backend: what is new, and what it refuses.
pub(super) async fn noticed(config: &Config, http: &HttpClient) -> Vec<Finding> {
    let Some((_, health)) = Running::look(&config.paths.run_file, http).await else { return Vec::new() };
    let omitted = omitted(&health);
    std::iter::once(drift(&health)).chain(omitted).collect()
}

fn omitted(health: &Health) -> Option<Finding> {
    let told = |omitted: &Omitted| format!("{} ({})", omitted.member.escape_debug(), omitted.model.escape_debug());
    let members: Vec<_> = health.omitted.iter().map(told).collect();
    let message = format!(
        "the backend refused members of requests, which are left out for an hour: {}; restart the daemon to send \
         them again, or report it",
        members.join(", ")
    );
    (!members.is_empty()).then(|| Finding::warning(Check::Members, message, command("report")))
}

/// Whether the backend has begun to say what this release does not know.
fn drift(health: &Health) -> Finding {
    let names: Vec<_> = health.drift.iter().map(|strange| strange.name.as_str()).collect();
    match names.as_slice() {
        [] => Finding::ok(Check::Drift, "the backend has said nothing to the daemon that this release does not know"),
        [first, others @ ..] => {
            let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            let message =
                format!("the backend says what this release does not know ({first}{more}); it passes: tell us");
            Finding::warning(Check::Drift, message, command("report"))
        }
    }
}

async fn ports(addresses: &[SocketAddr], config: &Config, http: &HttpClient) -> Finding {
    for address in addresses {
        let message = match TcpListener::bind(address).map_err(|error| error.kind()) {
            // A machine need not have every loopback address.
            Ok(_) | Err(ErrorKind::AddrNotAvailable | ErrorKind::Unsupported) => continue,
            Err(ErrorKind::AddrInUse) => match PortOwner::of(*address, config, http).await {
                PortOwner::Program(name) => format!("is held by {name}: choose another"),
                PortOwner::ThisDaemon(Running { base_url, .. }) | PortOwner::OtherDaemon { base_url } => {
                    return unknown_daemon(&base_url);
                }
            },
            Err(kind) => format!("can't be had ({kind})"),
        };
        let port = address.port();
        let other = command(&format!("serve --port {}", free_above(addresses, port)));
        return Finding::error(Check::Port, format!("port {port} on {} {message}", address.ip()), other);
    }
    not_running("no daemon runs, and its port is free")
}

/// It may have been started under other settings, or could not write its run file: then clients are served, and
/// the other commands don't find it.
fn unknown_daemon(base_url: &str) -> Finding {
    let message = format!("a daemon answers at {base_url} that these settings don't know of: stop it, and run");
    Finding::warning(Check::Port, message, command("serve"))
}

fn not_running(message: &str) -> Finding {
    Finding::warning(Check::Port, message, command("serve"))
}
