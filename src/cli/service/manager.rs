//! Commands for systemd and launchd.
//!
//! An operation is a list of steps, so that a failure can list the same commands to run by hand.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Output;

use directories::BaseDirs;

use super::super::child;
use super::super::exit::Failure;
use super::definition::Definition;
use super::service_file::WriteOutcome;
use super::{Sandbox, agent, unit};
use crate::config::Environment;

/// Contains a file for each user whose services keep running after logout.
const LINGER_DIRECTORY: &str = "/var/lib/systemd/linger";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServiceManager {
    Systemd,
    Launchd,
}

/// The service manager's command line program.
#[derive(Clone, Debug)]
pub(super) struct ControlProgram {
    manager: ServiceManager,
    program: PathBuf,
}

/// One call of that program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    arguments: Vec<String>,
    on_failure: OnFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnFailure {
    Abort,
    /// For steps that fail if there is nothing to do.
    Ignore,
}

impl ServiceManager {
    /// The service manager of this platform.
    pub(super) fn here() -> Option<Self> {
        if cfg!(target_os = "linux") {
            Some(Self::Systemd)
        } else if cfg!(target_os = "macos") {
            Some(Self::Launchd)
        } else {
            None
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Launchd => "launchd",
        }
    }

    /// Name of the service.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::Systemd => unit::NAME,
            Self::Launchd => agent::LABEL,
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Systemd => "systemctl",
            Self::Launchd => "launchctl",
        }
    }

    /// Path of the unit or agent file.
    pub(super) fn file(self) -> Result<PathBuf, Failure> {
        let directories = base_directories()?;
        Ok(match self {
            Self::Systemd => directories.config_dir().join("systemd/user").join(unit::NAME),
            Self::Launchd => {
                directories.home_dir().join("Library/LaunchAgents").join(format!("{}.plist", agent::LABEL))
            }
        })
    }

    pub(super) fn text(self, definition: &Definition, sandbox: Sandbox) -> Result<String, Failure> {
        Ok(match self {
            Self::Systemd => unit::text(definition, sandbox),
            Self::Launchd => agent::text(definition, base_directories()?.home_dir()),
        })
    }

    /// Returns where the log of the service is if `log.file` isn't set: a file, or the command that shows it.
    pub(super) fn log(self) -> Result<String, Failure> {
        Ok(match self {
            Self::Systemd => format!("`journalctl --user --unit {}`", unit::NAME),
            Self::Launchd => base_directories()?.home_dir().join(agent::LOG).display().to_string(),
        })
    }

    /// Whether the service keeps running after logout; `None` if it can't be determined.
    pub(super) fn lingering(self, environment: &Environment) -> Option<bool> {
        let user = environment.path("USER").filter(|_| self == Self::Systemd)?;
        Some(Path::new(LINGER_DIRECTORY).join(user).exists())
    }

    /// What to try if the service doesn't start.
    pub(super) fn start_failure_hint(self) -> String {
        match self {
            Self::Systemd => format!(
                "\nTo see the log: journalctl --user --unit {}\n\
                 If unprivileged user namespaces are disabled: codex-proxy service install --no-sandbox",
                unit::NAME
            ),
            Self::Launchd => String::new(),
        }
    }

    /// Steps that enable and start the service, or restart it with a changed file.
    pub(super) fn to_install(self, file: &Path, change: WriteOutcome) -> Vec<Step> {
        let changed = change == WriteOutcome::Replaced;
        match self {
            Self::Systemd if changed => {
                vec![user(&["daemon-reload"]), user(&["enable", unit::NAME]), user(&["restart", unit::NAME])]
            }
            Self::Systemd => vec![user(&["daemon-reload"]), user(&["enable", "--now", unit::NAME])],
            Self::Launchd => {
                let bootstrap = required(&["bootstrap", &domain(), &file.display().to_string()]);
                let kickstart = required(&["kickstart", &target()]);
                let mut steps = vec![required(&["enable", &target()])];
                if change == WriteOutcome::Unchanged {
                    steps.push(Step { on_failure: OnFailure::Ignore, ..bootstrap });
                } else {
                    steps.extend([optional(&["bootout", &target()]), bootstrap]);
                }
                steps.push(kickstart);
                steps
            }
        }
    }

    /// Steps that stop and disable the service.
    pub(super) fn to_stop(self) -> Vec<Step> {
        match self {
            Self::Systemd => vec![user(&["disable", "--now", unit::NAME])],
            Self::Launchd => vec![optional(&["bootout", &target()])],
        }
    }

    /// Steps after the file was removed.
    pub(super) fn to_forget(self) -> Vec<Step> {
        match self {
            Self::Systemd => {
                let reset = Step { on_failure: OnFailure::Ignore, ..user(&["reset-failed", unit::NAME]) };
                vec![user(&["daemon-reload"]), reset]
            }
            Self::Launchd => Vec::new(),
        }
    }

    /// Queries the state of the service.
    pub(super) fn to_query(self) -> Step {
        match self {
            Self::Systemd => user(&["show", unit::NAME, "--property=UnitFileState,ActiveState,SubState,MainPID"]),
            Self::Launchd => required(&["print", &target()]),
        }
    }
}

impl ControlProgram {
    /// Finds the program in `PATH`.
    pub(super) fn find(manager: ServiceManager, environment: &Environment) -> Result<Self, Failure> {
        let path = environment.get("PATH").unwrap_or_default();
        let mut paths = std::env::split_paths(path).map(|directory| directory.join(manager.program()));
        let program = paths.find(|program| program.is_file()).ok_or_else(|| {
            Failure::Other(format!(
                "{} isn't available: {} is not in PATH. Use another service manager to run `codex-proxy serve`.",
                manager.name(),
                manager.program()
            ))
        })?;
        Ok(Self { manager, program })
    }

    /// Runs the steps in order.
    ///
    /// # Errors
    /// If a required step fails: its output, and all required steps to run by hand.
    pub(super) fn run_all(&self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            let error = match self.run(step) {
                Ok(output) if output.status.success() => continue,
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => error.to_string(),
            };
            if step.on_failure == OnFailure::Abort {
                let call = |step: &Step| format!("{} {step}", self.manager.program());
                let required = steps.iter().filter(|step| step.on_failure == OnFailure::Abort);
                let by_hand = required.map(call).collect::<Vec<_>>().join("\n  ");
                return Err(format!("`{}` failed: {error}\nRun these commands by hand:\n  {by_hand}", call(step)));
            }
        }
        Ok(())
    }

    pub(super) fn run(&self, step: &Step) -> std::io::Result<Output> {
        child::command(&self.program).args(&step.arguments).output()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arguments.join(" "))
    }
}

fn base_directories() -> Result<BaseDirs, Failure> {
    BaseDirs::new().ok_or_else(|| Failure::Other("This user has no home directory.".to_owned()))
}

fn required(arguments: &[&str]) -> Step {
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    Step { arguments, on_failure: OnFailure::Abort }
}

fn optional(arguments: &[&str]) -> Step {
    Step { on_failure: OnFailure::Ignore, ..required(arguments) }
}

/// A required step for the user's service manager.
fn user(arguments: &[&str]) -> Step {
    required(&[&["--user"], arguments].concat())
}

/// Returns launchd's name of this user's session.
#[cfg(unix)]
fn domain() -> String {
    format!("gui/{}", rustix::process::getuid().as_raw())
}

#[cfg(not(unix))]
fn domain() -> String {
    "gui".to_owned()
}

/// Returns launchd's name of the agent in that session.
fn target() -> String {
    format!("{}/{}", domain(), agent::LABEL)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::service_file::WriteOutcome;
    use super::{ServiceManager, Step, domain};

    fn calls(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| step.to_string().replace(&domain(), "gui/1")).collect()
    }

    #[test]
    fn launchd_loads_a_changed_file_again() {
        let install = |change| calls(&ServiceManager::Launchd.to_install(Path::new("/x.plist"), change));
        let (enable, kick) = ("enable gui/1/codex-proxy", "kickstart gui/1/codex-proxy");
        let bootstrap = "bootstrap gui/1 /x.plist";
        assert_eq!(install(WriteOutcome::Replaced), [enable, "bootout gui/1/codex-proxy", bootstrap, kick]);
        assert_eq!(install(WriteOutcome::Unchanged), [enable, bootstrap, kick]);
        assert_eq!(calls(&ServiceManager::Launchd.to_stop()), ["bootout gui/1/codex-proxy"]);
    }
}
