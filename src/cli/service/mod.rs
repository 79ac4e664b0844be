//! `codex-proxy service install | uninstall | status`: the daemon, started with the session.
//!
//! A systemd user unit, or a launchd agent. What is written is marked, and nothing without the mark
//! is ever replaced or removed. Installing again brings the file up to date, and changes nothing
//! where it is. What the manager refuses is told with the commands to run by hand. `status` ends
//! with 0 where the service is installed and runs, else with 1.

mod agent;
mod definition;
mod manager;
mod service_file;
mod status;
mod unit;

use super::arguments::ServiceAction;
use super::exit::{Exit, Failure};
use super::output::{eprint, print};
use super::progress;
use crate::command_hint::command;
use crate::config::{Config, Environment, Faults, Flags};
use definition::Definition;
use manager::{Kind, Manager, Step};
use service_file::{Installed, WriteOutcome};

pub(super) use status::where_the_log_is;

/// How much of the system is kept from the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sandbox {
    /// All that can be.
    Full,
    /// What needs no namespaces of its own.
    NoNamespaces,
}

pub(super) async fn run(
    action: &ServiceAction,
    flags: &Flags,
    config: Result<Config, Faults>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let kind = Kind::here().ok_or_else(|| Failure::Other(NOWHERE.to_owned()))?;
    match action {
        ServiceAction::Install { print: is_dry_run, no_sandbox } => {
            let sandbox = if *no_sandbox { Sandbox::NoNamespaces } else { Sandbox::Full };
            let config = config.map_err(Failure::Settings)?;
            let definition = Definition::of(&config, flags, environment)?;
            let text = kind.text(&definition, sandbox)?;
            if *is_dry_run {
                print(text.trim_end())?;
            } else {
                install(kind, &text, &definition, &config, environment).await?;
            }
            Ok(Exit::Done)
        }
        ServiceAction::Uninstall => uninstall(kind, environment).await,
        ServiceAction::Status { json } => status::run(*json, kind, config.ok().as_ref(), environment),
    }
}

const NOWHERE: &str = "services are set up with systemd (Linux) and launchd (macOS) only; on this system, have \
                       `codex-proxy serve` started when you log in, on Windows by the Task Scheduler";

async fn install(
    kind: Kind,
    text: &str,
    definition: &Definition,
    config: &Config,
    environment: &Environment,
) -> Result<(), Failure> {
    let file = kind.file()?;
    let manager = Manager::find(kind, environment)?;
    definition.make_directories().map_err(|error| Failure::other(&error))?;
    let change = service_file::write(&file, text)?;
    print(text.trim_end())?;
    eprint(&match change {
        WriteOutcome::Created => format!("written to {}", file.display()),
        WriteOutcome::Replaced => format!("brought up to date in {}", file.display()),
        WriteOutcome::Unchanged => format!("this stands in {} already", file.display()),
    });
    let unseen = definition::unseen(config, environment);
    if !unseen.is_empty() {
        eprint(&format!(
            "set here, and the service will not see it: {}; settings belong into {}, an access token is kept by \
             `{}`",
            unseen.join(", "),
            config.paths.config.display(),
            command("login --with-access-token")
        ));
    }
    take(&manager, kind.to_install(&file, change))
        .await
        .map_err(|told| Failure::Other(format!("the file is written, and {told}{}", kind.when_it_does_not_start())))?;
    eprint("the service is enabled, and runs");
    if let Some(hint) = kind.lingering(environment).and_then(status::linger_hint) {
        eprint(&hint);
    }
    Ok(())
}

async fn uninstall(kind: Kind, environment: &Environment) -> Result<Exit, Failure> {
    let file = kind.file()?;
    match service_file::find(&file)? {
        Installed::Missing => {
            eprint(&format!("nothing is installed: there is no {}", file.display()));
            return Ok(Exit::Done);
        }
        Installed::Foreign => return Err(service_file::foreign(&file)),
        Installed::Ours(_) => {}
    }
    let manager = Manager::find(kind, environment)?;
    let failure = |told: String| Failure::Other(format!("the service is still installed, since {told}"));
    take(&manager, kind.to_stop()).await.map_err(failure)?;
    std::fs::remove_file(&file)
        .map_err(|error| Failure::Other(format!("{} can't be removed: {error}", file.display())))?;
    eprint(&format!("stopped and disabled; {} is removed", file.display()));
    take(&manager, kind.to_forget()).await.map_err(Failure::Other)?;
    Ok(Exit::Done)
}

/// Takes the steps, however long the manager lets us wait.
async fn take(manager: &Manager, steps: Vec<Step>) -> Result<(), String> {
    let manager = manager.clone();
    let taken = tokio::task::spawn_blocking(move || manager.run_all(&steps));
    progress::during("waiting for the service manager", taken).await.map_err(|error| error.to_string())?
}
