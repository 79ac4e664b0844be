//! The manager of this system, and what is asked of it.
//!
//! What is to be done is a list of calls first, so that the ones to run by hand are those that were
//! tried.

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

/// Where systemd notes whose manager goes on without a session.
const LINGERING: &str = "/var/lib/systemd/linger";

/// The managers that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Systemd,
    Launchd,
}

/// The manager's program.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    kind: Kind,
    program: PathBuf,
}

/// One call of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    arguments: Vec<String>,
    need: Need,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Without it, the rest makes no sense.
    Must,
    /// It fails where there is nothing to do.
    May,
}

impl Kind {
    /// The one of this system.
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

    /// What the service is called.
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

    /// The file that describes the service.
    pub(super) fn file(self) -> Result<PathBuf, Failure> {
        let places = places()?;
        Ok(match self {
            Self::Systemd => places.config_dir().join("systemd/user").join(unit::NAME),
            Self::Launchd => places.home_dir().join("Library/LaunchAgents").join(format!("{}.plist", agent::LABEL)),
        })
    }

    pub(super) fn text(self, definition: &Definition, sandbox: Sandbox) -> Result<String, Failure> {
        Ok(match self {
            Self::Systemd => unit::text(definition, sandbox),
            Self::Launchd => agent::text(definition, places()?.home_dir()),
        })
    }

    /// Where the log of the service is, while `log.file` is not set.
    pub(super) fn log(self) -> Result<String, Failure> {
        Ok(match self {
            Self::Systemd => format!("`journalctl --user --unit {}`", unit::NAME),
            Self::Launchd => places()?.home_dir().join(agent::LOG).display().to_string(),
        })
    }

    /// Whether it goes on when its user has logged out; `None`: nobody asks that here.
    pub(super) fn lingering(self, environment: &Environment) -> Option<bool> {
        let user = environment.path("USER").filter(|_| self == Self::Systemd)?;
        Some(Path::new(LINGERING).join(user).exists())
    }

    /// What to look at when a start fails.
    pub(super) fn when_it_does_not_start(self) -> String {
        match self {
            Self::Systemd => format!(
                "\nwhat the daemon says: journalctl --user --unit {}\n\
                 where users have no namespaces: codex-proxy service install --no-sandbox",
                unit::NAME
            ),
            Self::Launchd => String::new(),
        }
    }

    /// Enables it and has it run, with the file as it is now.
    pub(super) fn to_install(self, file: &Path, change: WriteOutcome) -> Vec<Step> {
        let changed = change == WriteOutcome::Replaced;
        match self {
            Self::Systemd if changed => {
                vec![user(&["daemon-reload"]), user(&["enable", unit::NAME]), user(&["restart", unit::NAME])]
            }
            Self::Systemd => vec![user(&["daemon-reload"]), user(&["enable", "--now", unit::NAME])],
            Self::Launchd => {
                let bootstrap = must(&["bootstrap", &domain(), &file.display().to_string()]);
                let kickstart = must(&["kickstart", &target()]);
                let mut steps = vec![must(&["enable", &target()])];
                if change == WriteOutcome::Unchanged {
                    steps.push(Step { need: Need::May, ..bootstrap });
                } else {
                    steps.extend([may(&["bootout", &target()]), bootstrap]);
                }
                steps.push(kickstart);
                steps
            }
        }
    }

    /// Stops and disables it.
    pub(super) fn to_stop(self) -> Vec<Step> {
        match self {
            Self::Systemd => vec![user(&["disable", "--now", unit::NAME])],
            Self::Launchd => vec![may(&["bootout", &target()])],
        }
    }

    /// Has it forgotten, now that its file has gone.
    pub(super) fn to_forget(self) -> Vec<Step> {
        match self {
            Self::Systemd => {
                let failed = Step { need: Need::May, ..user(&["reset-failed", unit::NAME]) };
                vec![user(&["daemon-reload"]), failed]
            }
            Self::Launchd => Vec::new(),
        }
    }

    /// Asks for its state.
    pub(super) fn to_ask(self) -> Step {
        match self {
            Self::Systemd => user(&["show", unit::NAME, "--property=UnitFileState,ActiveState,SubState,MainPID"]),
            Self::Launchd => must(&["print", &target()]),
        }
    }
}

impl Manager {
    /// Finds the program.
    pub(super) fn find(kind: Kind, environment: &Environment) -> Result<Self, Failure> {
        let path = environment.get("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(path).map(|directory| directory.join(kind.program()));
        let program = places.find(|program| program.is_file()).ok_or_else(|| {
            Failure::Other(format!(
                "there is no {} here ({} is not in PATH); have `codex-proxy serve` started by what starts your programs",
                kind.name(),
                kind.program()
            ))
        })?;
        Ok(Self { kind, program })
    }

    /// Takes the steps one after the other; what went wrong, and all of them to take by hand, if one has to be and can't.
    pub(super) fn run_all(&self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            let told = match self.run(step) {
                Ok(output) if output.status.success() => continue,
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => error.to_string(),
            };
            if step.need == Need::Must {
                let call = |step: &Step| format!("{} {step}", self.kind.program());
                let by_hand: Vec<_> = steps.iter().filter(|step| step.need == Need::Must).map(call).collect();
                return Err(format!("`{}` failed: {told}\nto be run by hand:\n  {}", call(step), by_hand.join("\n  ")));
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

fn places() -> Result<BaseDirs, Failure> {
    BaseDirs::new().ok_or_else(|| Failure::Other("this user has no home directory".to_owned()))
}

fn must(arguments: &[&str]) -> Step {
    Step { arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(), need: Need::Must }
}

fn may(arguments: &[&str]) -> Step {
    Step { need: Need::May, ..must(arguments) }
}

/// For the manager of the user, not of the system.
fn user(arguments: &[&str]) -> Step {
    must(&[&["--user"], arguments].concat())
}

#[cfg(unix)]
fn domain() -> String {
    format!("gui/{}", rustix::process::getuid().as_raw())
}

#[cfg(not(unix))]
fn domain() -> String {
    "gui".to_owned()
}

fn target() -> String {
    format!("{}/{}", domain(), agent::LABEL)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::service_file::WriteOutcome;
    use super::{Kind, Step, domain};

    fn calls(steps: &[Step]) -> Vec<String> {
        steps.iter().map(|step| step.to_string().replace(&domain(), "gui/1")).collect()
    }

    #[test]
    fn launchd_gets_the_file_anew_when_it_has_changed() {
        let install = |change| calls(&Kind::Launchd.to_install(Path::new("/x.plist"), change));
        let (enable, kick) = ("enable gui/1/codex-proxy", "kickstart gui/1/codex-proxy");
        let bootstrap = "bootstrap gui/1 /x.plist";
        assert_eq!(install(WriteOutcome::Replaced), [enable, "bootout gui/1/codex-proxy", bootstrap, kick]);
        assert_eq!(install(WriteOutcome::Unchanged), [enable, bootstrap, kick]);
        assert_eq!(calls(&Kind::Launchd.to_stop()), ["bootout gui/1/codex-proxy"]);
    }
}
