//! `codex-proxy service status`: the state of the service, and where its log is.

use std::path::PathBuf;

use serde::Serialize;

use super::super::exit::{Exit, Failure};
use super::super::output::{print, print_json};
use super::manager::{ControlProgram, ServiceManager};
use super::service_file::{Installed, find};
use crate::command_hint::command;
use crate::config::{Config, Environment};

/// The state as the service manager reports it; `None`: not reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ServiceState {
    is_enabled: Option<bool>,
    is_running: Option<bool>,
    pid: Option<u32>,
    /// The manager's name of the state.
    state: Option<String>,
}

#[derive(Serialize)]
struct ServiceStatus {
    manager: &'static str,
    name: &'static str,
    file: PathBuf,
    installed: bool,
    /// Whether another program's file is at this path.
    foreign: bool,
    enabled: Option<bool>,
    running: Option<bool>,
    pid: Option<u32>,
    state: Option<String>,
    lingering: Option<bool>,
    log: String,
}

pub(super) fn run(
    json: bool,
    manager: ServiceManager,
    config: Option<&Config>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let file = manager.file()?;
    let found = find(&file)?;
    let state = ControlProgram::find(manager, environment)
        .ok()
        .and_then(|program| query(manager, &program))
        .unwrap_or_default();
    let log_file = config.and_then(|config| config.log.file.as_ref());
    let report = ServiceStatus {
        manager: manager.name(),
        name: manager.service(),
        file,
        installed: matches!(found, Installed::Ours(_)),
        foreign: found == Installed::Foreign,
        enabled: state.is_enabled,
        running: state.is_running,
        pid: state.pid,
        state: state.state,
        lingering: manager.lingering(environment),
        log: log_file.map_or_else(|| manager.log(), |log| Ok(log.path.display().to_string()))?,
    };
    if json {
        print_json(&report)?;
    } else {
        print(&text(&report))?;
    }
    Ok(if report.installed && report.running == Some(true) { Exit::Done } else { Exit::Failed })
}

/// Returns the log file of the installed service, or the command that shows the log; `None` if it isn't installed.
pub(in crate::cli) fn service_log() -> Option<String> {
    let manager = ServiceManager::here()?;
    let found = find(&manager.file().ok()?).ok()?;
    if matches!(found, Installed::Ours(_)) { manager.log().ok() } else { None }
}

/// A hint for a service that stops when the user logs out.
pub(super) fn linger_hint(is_lingering: bool) -> Option<String> {
    (!is_lingering).then(|| "stops when you log out; to keep it running, run `loginctl enable-linger` once".to_owned())
}

fn query(manager: ServiceManager, program: &ControlProgram) -> Option<ServiceState> {
    let output = program.run(&manager.to_query()).ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    match manager {
        ServiceManager::Systemd => output.status.success().then(|| parse_systemd(&text)),
        // The command fails if the agent isn't loaded.
        ServiceManager::Launchd => {
            Some(if output.status.success() { parse_launchd(&text) } else { ServiceState::absent() })
        }
    }
}

fn parse_systemd(text: &str) -> ServiceState {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let active = value("ActiveState").unwrap_or_default();
    ServiceState {
        is_enabled: Some(value("UnitFileState") == Some("enabled")),
        is_running: Some(["active", "reloading"].contains(&active)),
        pid: value("MainPID").and_then(|pid| pid.parse().ok()).filter(|pid| *pid != 0),
        state: Some(format!("{active} ({})", value("SubState").unwrap_or_default())),
    }
}

fn parse_launchd(text: &str) -> ServiceState {
    let value = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(" = "));
    let state = value("state").unwrap_or_default();
    ServiceState {
        is_enabled: Some(true),
        is_running: Some(state == "running"),
        pid: value("pid").and_then(|pid| pid.parse().ok()),
        state: Some(state.to_owned()),
    }
}

impl ServiceState {
    /// The state of a service that isn't loaded.
    fn absent() -> Self {
        Self { is_enabled: Some(false), is_running: Some(false), ..Self::default() }
    }
}

fn text(report: &ServiceStatus) -> String {
    let mut lines = vec![format!("service      {} ({})", report.name, report.manager)];
    let file = report.file.display();
    lines.push(match (report.installed, report.foreign) {
        (true, _) => format!("installed    {file}"),
        (false, true) => format!("installed    no: {file} was not written by codex-proxy"),
        (false, false) => format!("installed    no: run `{}`", command("service install")),
    });
    let unknown = format!("unknown: {} didn't report it", report.manager);
    lines.push(match report.enabled {
        Some(true) => "enabled      yes: it starts at login".to_owned(),
        Some(false) => "enabled      no".to_owned(),
        None => format!("enabled      {unknown}"),
    });
    let state = report.state.as_deref().unwrap_or_default();
    lines.push(match (report.running, report.pid) {
        (Some(true), Some(pid)) => format!("running      yes (process {pid})"),
        (Some(true), None) => "running      yes".to_owned(),
        (Some(false), _) => format!("running      no; {state}").trim_end_matches(['\u{20}', ';']).to_owned(),
        (None, _) => format!("running      {unknown}"),
    });
    if report.installed {
        lines.extend(report.lingering.and_then(linger_hint).map(|hint| format!("             {hint}")));
        lines.push(format!("log          {}", report.log));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::{ServiceState, parse_launchd, parse_systemd};

    #[test]
    fn the_output_of_systemctl_is_parsed() {
        let text = "MainPID=12\nActiveState=active\nSubState=running\nUnitFileState=enabled\n";
        let state = Some("active (running)".to_owned());
        assert_eq!(
            parse_systemd(text),
            ServiceState { is_enabled: Some(true), is_running: Some(true), pid: Some(12), state }
        );
        let state = Some("failed (failed)".to_owned());
        let text = "MainPID=0\nActiveState=failed\nSubState=failed\nUnitFileState=\n";
        assert_eq!(
            parse_systemd(text),
            ServiceState { is_enabled: Some(false), is_running: Some(false), pid: None, state }
        );
    }

    #[test]
    fn the_output_of_launchctl_is_parsed() {
        let text = "gui/501/codex-proxy = {\n\tactive count = 1\n\tstate = running\n\n\tpid = 12\n}\n";
        let state = Some("running".to_owned());
        assert_eq!(
            parse_launchd(text),
            ServiceState { is_enabled: Some(true), is_running: Some(true), pid: Some(12), state }
        );
        assert_eq!(parse_launchd("x = {\n\tstate = not running\n}").is_running, Some(false));
    }
}
