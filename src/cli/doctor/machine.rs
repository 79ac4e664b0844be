//! Checks of this machine: settings, files and their permissions, the port.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::super::directories;
use super::super::port::{PortOwner, free_above};
use super::super::run_file::{Health, RunningDaemon};
use super::finding::{Check, Finding};
use super::permissions;
use crate::command_hint::command;
use crate::config::{Config, ConfigError, ConfigErrors, Environment, ValueSource, client_key};
use crate::fs::{ExposedDirectory, directory_of};
use crate::net::HttpClient;
use crate::server::Listen;
use crate::upstream::RejectedParam;

/// Findings for invalid settings. Nothing else can be checked then.
pub(super) fn faults(faults: &ConfigErrors) -> Vec<Finding> {
    let wrong = |fault: &ConfigError| {
        let message = fault.to_string().replace('\n', " ");
        Finding::error(Check::Settings, message, command("config check"))
    };
    let mut findings: Vec<_> = faults.0.iter().map(wrong).collect();
    findings.push(Finding::unknown(Check::Settings, "nothing else is checked until the settings are valid"));
    findings
}

pub(super) fn settings(config: &Config) -> Vec<Finding> {
    let warning = |warning: &String| Finding::warning(Check::Settings, warning, command("config show"));
    let mut findings: Vec<_> = config.warnings.iter().map(warning).collect();
    let file = config.paths.config.display();
    let state = if config.paths.config.exists() { "is valid" } else { "doesn't exist; the defaults apply" };
    findings.push(Finding::ok(Check::Settings, format!("{file} {state}")));
    findings
}

/// Checks that files with secrets are private and that the program's directories are writable.
pub(super) fn files(config: &Config, environment: &Environment) -> Vec<Finding> {
    let mut private = vec![config.auth.credentials.as_path()];
    let is_in_file = |shown: &&crate::config::EffectiveSetting| matches!(shown.source, ValueSource::File { .. });
    let keys = config.effective.iter().find(|shown| shown.key == "keys").filter(is_in_file);
    if keys.is_some() && client_key(config, environment, "").is_some() {
        private.push(&config.paths.config);
    }
    let mut findings: Vec<_> = private.into_iter().filter_map(permissions::of_file).collect();
    let of_credentials = directories::of_credentials(config);
    let files = [&config.paths.run_file, &config.paths.catalogue];
    let mut directories_to_check = vec![of_credentials.as_path()];
    directories_to_check.extend(files.into_iter().map(|file| directory_of(file)));
    directories_to_check.dedup();
    findings.extend(directories_to_check.into_iter().filter_map(permissions::of_directory));
    // An exposed credential directory isn't used, which is an error. In other directories it is a risk.
    let refused = ExposedDirectory::find(&of_credentials);
    let others = directories::exposed(config).into_iter().filter(|exposed| Some(exposed) != refused.as_ref());
    let warning = |exposed: ExposedDirectory| Finding::warning(Check::Files, exposed.to_string(), exposed.command());
    findings.extend(others.map(warning));
    findings.extend(refused.as_ref().map(|found| Finding::error(Check::Files, found.to_string(), found.command())));
    if findings.is_empty() {
        findings.push(Finding::ok(Check::Files, "secrets are private, and all directories are writable"));
    }
    findings
}

/// Checks that the daemon responds, or that its address is free.
pub(super) async fn port(config: &Config, http: &HttpClient) -> Finding {
    if let Some((running, health)) = RunningDaemon::find_with_health(&config.paths.run_file, http).await {
        let address = match &running.socket {
            Some(socket) => format!("on the Unix socket {}", socket.display()),
            None => format!("at {}", running.base_url),
        };
        return if health.replay {
            let message = format!("the daemon {address} replays recordings. To use ChatGPT, stop it and run");
            Finding::warning(Check::Port, message, command("serve"))
        } else if running.demo {
            let message = format!("the daemon {address} is a demo. To use ChatGPT, stop it and run");
            Finding::warning(Check::Port, message, command("serve"))
        } else {
            Finding::ok(Check::Port, format!("the daemon responds {address} (process {})", running.pid))
        };
    }
    match &config.server.listen {
        Listen::Tcp(addresses) => ports(addresses, config, http).await,
        #[cfg(unix)]
        Listen::Unix(path) => not_running(&format!("no daemon responds on the Unix socket {}", path.display())),
    }
}

/// Reports what the running daemon has observed: unknown events of the backend, and request members that it refused.
pub(super) async fn daemon_observations(config: &Config, http: &HttpClient) -> Vec<Finding> {
    let Some((_, health)) = RunningDaemon::find_with_health(&config.paths.run_file, http).await else {
        return Vec::new();
    };
    let omitted = omitted(&health);
    std::iter::once(drift(&health)).chain(omitted).collect()
}

fn omitted(health: &Health) -> Option<Finding> {
    let name =
        |omitted: &RejectedParam| format!("{} ({})", omitted.member.escape_debug(), omitted.model.escape_debug());
    let members: Vec<_> = health.omitted.iter().map(name).collect();
    let message = format!(
        "the backend rejected request members, which are omitted for an hour: {}. Restart the daemon to send them \
         again, or report it",
        members.join(", ")
    );
    (!members.is_empty()).then(|| Finding::warning(Check::Members, message, command("report")))
}

/// Checks whether the backend sends events or items that this release doesn't know.
fn drift(health: &Health) -> Finding {
    let names: Vec<_> = health.drift.iter().map(|strange| strange.name.as_str()).collect();
    match names.as_slice() {
        [] => Finding::ok(Check::Drift, "the backend sent no unknown events or items"),
        [first, others @ ..] => {
            let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
            let message = format!(
                "the backend sends unknown events or items ({first}{more}), which are passed on. Please report it"
            );
            Finding::warning(Check::Drift, message, command("report"))
        }
    }
}

async fn ports(addresses: &[SocketAddr], config: &Config, http: &HttpClient) -> Finding {
    for address in addresses {
        let message = match TcpListener::bind(address).map_err(|error| error.kind()) {
            // Not every machine has an IPv6 loopback address.
            Ok(_) | Err(ErrorKind::AddrNotAvailable | ErrorKind::Unsupported) => continue,
            Err(ErrorKind::AddrInUse) => match PortOwner::of(*address, config, http).await {
                PortOwner::Program(name) => format!("is in use by {name}. Choose another port"),
                PortOwner::ThisDaemon(RunningDaemon { base_url, .. }) | PortOwner::OtherDaemon { base_url } => {
                    return unknown_daemon(&base_url);
                }
            },
            Err(kind) => format!("can't be used ({kind})"),
        };
        let port = address.port();
        let other = command(&format!("serve --port {}", free_above(addresses, port)));
        return Finding::error(Check::Port, format!("port {port} on {} {message}", address.ip()), other);
    }
    not_running("the daemon isn't running; its port is free")
}

/// A daemon without a run file, or started with other settings: it serves clients, but other commands don't find it.
fn unknown_daemon(base_url: &str) -> Finding {
    let message = format!("a daemon with other settings responds at {base_url}. Stop it and run");
    Finding::warning(Check::Port, message, command("serve"))
}

fn not_running(message: &str) -> Finding {
    Finding::warning(Check::Port, message, command("serve"))
}
