//! The command line, with one module per command.
//!
//! Only this module prints. Results go to stdout, diagnostics to stderr; a closed pipe is not an error. Exit codes
//! ([`Exit`]): 0 done, 1 failed, 2 wrong usage or invalid settings, 3 not signed in. Commands format what the other
//! modules return and contain no logic of their own.

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
use crate::config::{Config, ConfigErrors, Environment, LogLevel, file as config_file, load};
use arguments::{Arguments, Command};
use logging::LogHandle;
use reload::Sources;

pub use exit::{Exit, Failure};
pub use run_file::{RunFile, RunningDaemon};

/// A parsed command line with the settings that apply to it.
#[derive(Debug)]
pub struct Invocation {
    arguments: Arguments,
    environment: Environment,
    config: Result<Config, ConfigErrors>,
    log: Option<LogHandle>,
}

impl Invocation {
    /// Reads the command line and the settings. Exits the process after `--help`, `--version` or a usage error.
    #[must_use]
    pub fn parse(environment: Environment) -> Self {
        core_dumps::disable();
        let arguments = Arguments::parse();
        let flags = arguments.flags();
        if let (Some(_), Ok(file)) = (&flags.file, config_file(&flags, &environment)) {
            command_hint::set_config_file(file);
        }
        let config = load(&flags, &environment);
        Self { arguments, environment, config, log: None }
    }

    /// Starts logging. `serve` logs as configured. Other commands log to stderr, and at `info` only warnings and
    /// errors, because they print their result.
    pub fn start_log(&mut self) {
        let mut log = self.config.as_ref().ok().map(|config| config.log.clone());
        if let (Some(log), false) = (&mut log, matches!(self.arguments.command, Command::Serve(_))) {
            log.file = None;
            if log.level == LogLevel::Info {
                log.level = LogLevel::Warn;
            }
        }
        self.log = Some(logging::start(log, &self.environment));
    }

    /// Runs the command. If it fails, prints the reason to stderr.
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
        let settings = |config: Result<Config, ConfigErrors>| config.map_err(Failure::Settings);
        match &arguments.command {
            Command::Config { action } => config::run(*action, &arguments.flags(), config, &environment),
            Command::Service { action } => block_on(service::run(action, &arguments.flags(), config, &environment)),
            Command::Completions { shell } => manual::completions(*shell),
            Command::Connect { client, write, undo, gateway } => {
                let action = match (write, undo) {
                    (true, _) => connect::Action::Write,
                    (_, true) => connect::Action::Undo,
                    _ => connect::Action::Show,
                };
                let login = if *gateway { connect::Login::Client } else { connect::Login::Daemon };
                block_on(connect::run(client.as_deref(), login, action, &settings(config)?, &environment))
            }
            Command::Doctor { json } => block_on(doctor::run(*json, config, &environment)),
            Command::Man => manual::page(),
            Command::Models { json, refresh } => {
                let options = models::Options { json: *json, refresh: *refresh };
                block_on(models::run(options, settings(config)?, &environment))
            }
            Command::Serve(serve) => {
                let sources = Sources { flags: arguments.flags(), environment, log };
                block_on(serve::run(serve, settings(config)?, sources))
            }
            Command::Login(login) => block_on(login::run(login, settings(config)?, &environment)),
            Command::Logout { all } => block_on(logout::run(*all, settings(config)?)),
            Command::Accounts { action } => block_on(accounts::run(action, settings(config)?)),
            Command::Usage { json, since } => {
                let format = if *json { usage::OutputFormat::Json } else { usage::OutputFormat::Table };
                usage::run(format, *since, &settings(config)?, &environment)
            }
            Command::Report { out, log, cassettes } => {
                let options = report::Options { out: out.clone(), log: log.clone(), cassettes: cassettes.clone() };
                block_on(report::run(options, settings(config)?, &environment))
            }
            Command::Token => block_on(token::run(settings(config)?, &environment)),
            Command::Status { daemon: true, .. } => block_on(status::find_daemon(settings(config)?)),
            Command::Status { json, offline, daemon: _ } => {
                let options = status::Options { json: *json, offline: *offline };
                block_on(status::run(options, settings(config)?, &environment))
            }
        }
    }
}

/// Number of runtime threads. A reply passes from task to task for every frame; on one thread that is a function call,
/// between threads a wake-up by the kernel. One thread handles about 100 000 events per second, and long computations
/// leave it with `block_in_place`.
const WORKER_THREADS: usize = 1;

/// Runs an async command to completion.
fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build();
    runtime.map_err(|error| Failure::other(&error))?.block_on(command)
}
