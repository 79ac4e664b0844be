//! What can be typed.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::config::{Flags, Level};

/// Your own ChatGPT subscription, as an OpenAI-compatible API on your own machine.
///
/// It signs in with your account and answers only this machine unless you set a key. The ChatGPT
/// backend that it calls is not a documented public API: it can change or refuse at any time, and
/// your plan's limits and OpenAI's terms apply to what you do with it. It is made for one person's
/// own account, not for sharing or pooling.
#[derive(Clone, Debug, Parser)]
#[command(name = "codex-proxy", version, arg_required_else_help = true)]
pub(super) struct Arguments {
    /// Read the settings from FILE.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Log more (-vv: everything of our own; never tokens or contents).
    #[arg(short, action = ArgAction::Count, global = true, conflicts_with = "quiet")]
    verbose: u8,

    /// Log failures only.
    #[arg(short, global = true)]
    quiet: bool,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon in the foreground.
    Serve(ServeArguments),

    /// Sign in with your ChatGPT account.
    ///
    /// Opens a browser and waits for it to come back to port 1455 (or 1457) of this machine. The
    /// address is printed in any case.
    Login(LoginArguments),

    /// Sign out: the tokens are revoked when the sign-in service can be reached, and deleted here in any case.
    Logout {
        /// The account to sign out instead of the one in use.
        #[arg(long, value_name = "ID")]
        account: Option<String>,

        /// Sign out every account.
        #[arg(long, conflicts_with = "account")]
        all: bool,
    },

    /// Tell who is signed in, where the files are, and which daemon runs; exit code 3 when nobody is signed in.
    Status {
        /// Answer in JSON, for scripts; it holds no secret.
        #[arg(long)]
        json: bool,
    },

    /// Show the settings and where they come from.
    Config {
        #[command(subcommand)]
        question: ConfigQuestion,
    },
}

#[derive(Clone, Debug, Args)]
pub(super) struct ServeArguments {
    /// Listen on ADDR: host:port or a port.
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["host", "port"])]
    listen: Option<String>,

    /// Listen on this host: localhost or an IP address.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// Listen on this port; 0 picks a free one.
    #[arg(short, long, value_name = "N")]
    port: Option<u16>,

    /// Answer from a simulated backend: no account, no network, no model.
    #[arg(long)]
    pub(super) demo: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct LoginArguments {
    /// Only print the address, and open no browser.
    #[arg(long)]
    pub(super) no_browser: bool,

    /// Wait for the browser on this port only.
    #[arg(long, value_name = "N")]
    pub(super) port: Option<u16>,

    /// Use the login of the Codex CLI; it is read, never written or renewed.
    ///
    /// Without FILE: `auth.json` in `$CODEX_HOME`, else in `~/.codex`.
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with_all = ["no_browser", "port"])]
    #[expect(clippy::option_option, reason = "not asked for, asked for, asked for with a file: as clap reads it")]
    pub(super) import: Option<Option<PathBuf>>,

    /// Own the imported session from now on; the other program will be signed out by that sooner or later.
    #[arg(long, requires = "import")]
    pub(super) take_over: bool,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum ConfigQuestion {
    /// Print every setting with its value and source; secrets are hidden.
    Show,
    /// Print the path of the config file.
    Path,
    /// Check the settings, and name everything that is wrong.
    Check,
}

impl Arguments {
    /// The settings among the flags.
    pub(super) fn flags(&self) -> Flags {
        let level = match (self.quiet, self.verbose) {
            (true, _) => Some(("-q", Level::Error)),
            (false, 0) => None,
            (false, 1) => Some(("-v", Level::Debug)),
            (false, _) => Some(("-vv", Level::Trace)),
        };
        let serve = match &self.command {
            Command::Serve(serve) => Some(serve),
            Command::Login(_) | Command::Logout { .. } | Command::Status { .. } | Command::Config { .. } => None,
        };
        Flags {
            file: self.config.clone(),
            listen: serve.and_then(|serve| serve.listen.clone()),
            host: serve.and_then(|serve| serve.host.clone()),
            port: serve.and_then(|serve| serve.port),
            level,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
