//! The command line: one file a command.
//!
//! Only this module prints. Standard output is the answer, standard error the talk; a closed pipe
//! is not an error. A command ends as an [`Exit`]: 0 done, 1 failed, 2 wrong use, 3 not signed in.
//! Commands hold no logic of their own beyond what a person sees: they ask the modules below.

mod accounts;
mod arguments;
mod charts;
mod child;
mod color;
mod config;
mod connect;
mod context;
mod core_dumps;
mod directories;
mod doctor;
mod exit;
mod logging;
mod login;
mod logout;
mod manual;
mod models;
mod notify;
mod output;
mod port;
mod progress;
mod reload;
mod report;
mod run_file;
mod serve;
mod service;
mod signals;
mod status;
mod table;
mod token;
mod usage;

use clap::Parser;

use crate::command_hint;
use crate::config::{Config, Environment, Faults, Level, file as config_file, load};
use arguments::{Arguments, Command};
use logging::LogHandle;
use reload::Sources;

pub use exit::{Exit, Failure};
pub use run_file::{RunFile, Running};

/// One call of the program: what was asked for, and the settings it is asked under.
#[derive(Debug)]
pub struct Call {
    arguments: Arguments,
    environment: Environment,
    config: Result<Config, Faults>,
    log: Option<LogHandle>,
}

impl Call {
    /// Reads the command line and the settings. Help, and a command line that makes no sense, end
    /// the process here.
    #[must_use]
    pub fn parse(environment: Environment) -> Self {
        core_dumps::disable();
        let arguments = Arguments::parse();
        let flags = arguments.flags();
        if let (Some(_), Ok(file)) = (&flags.file, config_file(&flags, &environment)) {
            command_hint::name_config(file);
        }
        let config = load(&flags, &environment);
        Self { arguments, environment, config, log: None }
    }

    /// Begins the log: the daemon's where the settings want it, any other command's on standard error, and only
    /// from warnings on where nobody asked for more, since the answer itself says what was done.
    pub fn start_log(&mut self) {
        let mut log = self.config.as_ref().ok().map(|config| config.log.clone());
        if let (Some(log), false) = (&mut log, matches!(self.arguments.command, Command::Serve(_))) {
            log.file = None;
            if log.level == Level::Info {
                log.level = Level::Warn;
            }
        }
        self.log = Some(logging::start(log, &self.environment));
    }

    /// Runs the command, and tells why it failed.
    #[must_use]
    pub fn run(self) -> Exit {
        let log = self.log.clone();
        let exit = match self.execute() {
            Ok(exit) => exit,
            Err(failure) if failure.is_closed_pipe() => Exit::Done,
            Err(failure) => {
                output::eprint(&failure.to_string());
                failure.exit()
            }
        };
        if let Some(log) = log {
            log.finish();
        }
        exit
    }

    fn execute(self) -> Result<Exit, Failure> {
        let Self { arguments, environment, config, log } = self;
        let settings = |config: Result<Config, Faults>| config.map_err(Failure::Settings);
        match &arguments.command {
            Command::Config { action } => config::run(*action, &arguments.flags(), config, &environment),
            Command::Service { action } => wait(service::run(action, &arguments.flags(), config, &environment)),
            Command::Completions { shell } => manual::completions(*shell),
            Command::Connect { client, write, undo } => {
                let action = match (write, undo) {
                    (true, _) => connect::Action::Write,
                    (_, true) => connect::Action::Undo,
                    _ => connect::Action::Show,
                };
                wait(connect::run(client.as_deref(), action, &settings(config)?, &environment))
            }
            Command::Doctor { json } => wait(doctor::run(*json, config, &environment)),
            Command::Man => manual::page(),
            Command::Models { json, refresh } => {
                let options = models::Options { json: *json, refresh: *refresh };
                wait(models::run(options, settings(config)?, &environment))
            }
            Command::Serve(serve) => {
                let sources = Sources { flags: arguments.flags(), environment, log };
                wait(serve::run(serve, settings(config)?, sources))
            }
            Command::Login(login) => wait(login::run(login, settings(config)?, &environment)),
            Command::Logout { all } => wait(logout::run(*all, settings(config)?)),
            Command::Accounts { action } => wait(accounts::run(action, settings(config)?)),
            Command::Usage { json, since } => {
                let format = if *json { usage::OutputFormat::Json } else { usage::OutputFormat::Table };
                usage::run(format, *since, &settings(config)?, &environment)
            }
            Command::Report { out, log, cassettes } => {
                let options = report::Options { out: out.clone(), log: log.clone(), cassettes: cassettes.clone() };
                wait(report::run(options, settings(config)?, &environment))
            }
            Command::Token => wait(token::run(settings(config)?, &environment)),
            Command::Status { daemon: true, .. } => wait(status::find_daemon(settings(config)?)),
            Command::Status { json, offline, daemon: _ } => {
                let options = status::Options { json: *json, offline: *offline };
                wait(status::run(options, settings(config)?, &environment))
            }
        }
    }
}

/// Threads that serve. An answer goes from task to task, frame by frame: on one thread that costs a
/// call, between two a wake-up by the system. One carries some hundred thousand events a second, and
/// what takes long to work out gets out of its way (`block_in_place`).
const WORKERS: usize = 1;

/// Runs a command that waits for something.
fn wait(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    runtime.map_err(|error| Failure::other(&error))?.block_on(command)
}
