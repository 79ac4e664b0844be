//! The command line: one file a command.
//!
//! Only this module prints. Standard output is the answer, standard error the talk; a closed pipe
//! is not an error. A command ends as an [`Exit`]: 0 done, 1 failed, 2 wrong use, 3 not signed in.
//! Commands hold no logic of their own beyond what a person sees: they ask the modules below.

mod arguments;
mod config;
mod exit;
mod logging;
mod login;
mod logout;
mod output;
mod run_file;
mod serve;
mod signals;
mod status;

use clap::Parser;

use crate::auth::Which;
use crate::config::{Config, Environment, Faults, load};
use crate::server::Backend;
use arguments::{Arguments, Command};
use status::Form;

pub use exit::{Exit, Failure};
pub use run_file::{RunFile, Running};

/// One call of the program: what was asked for, and the settings it is asked under.
#[derive(Debug)]
pub struct Call {
    arguments: Arguments,
    environment: Environment,
    config: Result<Config, Faults>,
}

impl Call {
    /// Reads the command line and the settings. Help, and a command line that makes no sense, end
    /// the process here.
    #[must_use]
    pub fn parse(environment: Environment) -> Self {
        let arguments = Arguments::parse();
        let config = load(&arguments.flags(), &environment);
        Self { arguments, environment, config }
    }

    /// Begins the log, on standard error.
    pub fn start_log(&self) {
        logging::start(self.config.as_ref().ok().map(|config| config.log), &self.environment);
    }

    /// Runs the command, and tells why it failed.
    #[must_use]
    pub fn run(self) -> Exit {
        match self.answer() {
            Ok(exit) => exit,
            Err(failure) if failure.is_closed_pipe() => Exit::Done,
            Err(failure) => {
                output::talk(&failure.to_string());
                failure.exit()
            }
        }
    }

    fn answer(self) -> Result<Exit, Failure> {
        let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::other(&error))?;
        runtime.block_on(self.dispatch())
    }

    async fn dispatch(self) -> Result<Exit, Failure> {
        let flags = self.arguments.flags();
        let config = self.config.map_err(Failure::Settings);
        match self.arguments.command {
            Command::Serve(arguments) => {
                let backend = if arguments.demo { Backend::Demo } else { Backend::ChatGpt };
                serve::run(config?, backend).await
            }
            Command::Login(arguments) => login::run(&arguments, &config?, &self.environment).await,
            Command::Logout { all: true, .. } => logout::run(Which::All, &config?).await,
            Command::Logout { account: Some(id), .. } => logout::run(Which::Account(&id), &config?).await,
            Command::Logout { .. } => logout::run(Which::Active, &config?).await,
            Command::Status { json } => status::run(if json { Form::Json } else { Form::Text }, &config?).await,
            Command::Config { question } => config::run(question, &flags, config, &self.environment),
        }
    }
}
