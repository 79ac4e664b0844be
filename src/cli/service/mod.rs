//! `codex-proxy service install | uninstall | status`: starts the daemon at login.
//!
//! Installs a systemd user unit or a launchd agent. The file contains a marker; a file without it is never replaced or
//! removed. Installing again updates the file, or changes nothing. If the service manager refuses, the message lists
//! the commands to run by hand. `status` exits with 0 if the service is installed and running, else with 1.

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
use crate::config::{Config, ConfigErrors, Environment, Flags};
use definition::Definition;
use manager::{ControlProgram, ServiceManager, Step};
use service_file::{Installed, WriteOutcome};

pub(super) use status::service_log;

/// How far the unit restricts the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sandbox {
    /// As far as possible.
    Full,
    /// Without restrictions that require user namespaces.
    NoNamespaces,
}

pub(super) async fn run(
    action: &ServiceAction,
    flags: &Flags,
    config: Result<Config, ConfigErrors>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let manager = ServiceManager::here().ok_or_else(|| Failure::Other(UNSUPPORTED.to_owned()))?;
    match action {
        ServiceAction::Install { print: is_dry_run, no_sandbox } => {
            let sandbox = if *no_sandbox { Sandbox::NoNamespaces } else { Sandbox::Full };
            let config = config.map_err(Failure::Settings)?;
            let definition = Definition::of(&config, flags, environment)?;
            let text = manager.text(&definition, sandbox)?;
            if *is_dry_run {
                print(text.trim_end())?;
            } else {
                install(manager, &text, &definition, &config, environment).await?;
            }
            Ok(Exit::Done)
        }
        ServiceAction::Uninstall => uninstall(manager, environment).await,
        ServiceAction::Status { json } => status::run(*json, manager, config.ok().as_ref(), environment),
    }
}

const UNSUPPORTED: &str = "Services are supported on Linux (systemd) and macOS (launchd) only. On Windows, use the Task \
                           Scheduler to run `codex-proxy serve` at login.";

async fn install(
    manager: ServiceManager,
    text: &str,
    definition: &Definition,
    config: &Config,
    environment: &Environment,
) -> Result<(), Failure> {
    let file = manager.file()?;
    let program = ControlProgram::find(manager, environment)?;
    definition.create_directories().map_err(|error| Failure::other(&error))?;
    let change = service_file::write(&file, text)?;
    print(text.trim_end())?;
    eprint(&match change {
        WriteOutcome::Created => format!("Wrote {}.", file.display()),
        WriteOutcome::Replaced => format!("Updated {}.", file.display()),
        WriteOutcome::Unchanged => format!("{} is up to date already.", file.display()),
    });
    let ignored = definition::ignored_variables(config, environment);
    if !ignored.is_empty() {
        eprint(&format!(
            "warning: the service doesn't get these environment variables: {}. Put settings in {}, and store an access \
             token with `{}`.",
            ignored.join(", "),
            config.paths.config.display(),
            command("login --with-access-token")
        ));
    }
    run_steps(&program, manager.to_install(&file, change)).await.map_err(|error| {
        Failure::Other(format!("The file was written, but {error}{}", manager.start_failure_hint()))
    })?;
    eprint("The service is enabled and running.");
    if let Some(hint) = manager.lingering(environment).and_then(status::linger_hint) {
        eprint(&hint);
    }
    Ok(())
}

async fn uninstall(manager: ServiceManager, environment: &Environment) -> Result<Exit, Failure> {
    let file = manager.file()?;
    match service_file::find(&file)? {
        Installed::Missing => {
            eprint(&format!("The service isn't installed: {} doesn't exist.", file.display()));
            return Ok(Exit::Done);
        }
        Installed::Foreign => return Err(service_file::foreign_file(&file)),
        Installed::Ours(_) => {}
    }
    let program = ControlProgram::find(manager, environment)?;
    let failure = |error: String| Failure::Other(format!("The service is still installed: {error}"));
    run_steps(&program, manager.to_stop()).await.map_err(failure)?;
    std::fs::remove_file(&file).map_err(|error| Failure::Other(format!("Can't remove {}: {error}", file.display())))?;
    eprint(&format!("The service was stopped and disabled, and {} was removed.", file.display()));
    run_steps(&program, manager.to_forget()).await.map_err(Failure::Other)?;
    Ok(Exit::Done)
}

/// Runs the steps on a blocking thread, without a time limit.
async fn run_steps(program: &ControlProgram, steps: Vec<Step>) -> Result<(), String> {
    let program = program.clone();
    let done = tokio::task::spawn_blocking(move || program.run_all(&steps));
    progress::during("waiting for the service manager", done).await.map_err(|error| error.to_string())?
}
