//! The command line definition. Doc comments in this module are the help texts.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::auth::BackendKind;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Flags, LogLevel};
use crate::history::Day;

/// Display order of global options in the help: after a command's own options.
const GLOBAL: usize = 100;

/// Use your ChatGPT subscription from any OpenAI, Anthropic, Gemini or Ollama client.
///
/// codex-proxy is a local server. It signs in with your ChatGPT account and accepts requests from this machine only,
/// unless you configure client keys. The ChatGPT backend is not a documented public API: OpenAI can change or block it
/// at any time. Your plan's limits and OpenAI's terms apply. It is meant for one person and one account, not for
/// sharing or pooling.
#[derive(Clone, Debug, Parser)]
#[command(name = "codex-proxy", version, arg_required_else_help = true)]
pub(super) struct Arguments {
    /// Read settings from FILE.
    #[arg(long, value_name = "FILE", global = true, display_order = GLOBAL)]
    config: Option<PathBuf>,

    /// Use the account with this id instead of the active account.
    #[arg(long, value_name = "ID", global = true)]
    account: Option<String>,

    /// Log more (-vv: everything). Tokens, prompts and answers are never logged.
    #[arg(short, action = ArgAction::Count, global = true, conflicts_with = "quiet", display_order = GLOBAL)]
    verbose: u8,

    /// Log errors only.
    #[arg(short, global = true, display_order = GLOBAL)]
    quiet: bool,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon in the foreground.
    Serve(ServeArguments),
    /// Sign in to ChatGPT with a browser, a device code or an access token, or import a login.
    Login(LoginArguments),
    /// Sign out: revoke the login if the sign-in service can be reached, and delete it in any case.
    Logout {
        /// Sign out all accounts.
        #[arg(long, conflicts_with = "account")]
        all: bool,
    },
    /// List accounts, choose the active one, sign one out, or move or restore the credentials.
    Accounts {
        #[command(subcommand)]
        action: AccountsAction,
    },
    /// Show the login, the quota, the files and the running daemon.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,

        /// Make no request and refresh no token; show only local information.
        #[arg(long)]
        offline: bool,

        /// Print only the base URL of the running daemon; exit code 1 if there is none.
        #[arg(long, conflicts_with_all = ["json", "offline"])]
        daemon: bool,
    },
    /// Show used requests and tokens by day, model and client key.
    Usage {
        /// Print JSON.
        #[arg(long)]
        json: bool,

        /// First day to include: today, yesterday, 7d, 2w (including today) or a date such as 2026-11-01, in UTC.
        #[arg(long, value_name = "WHEN", value_parser = day, default_value = "7d")]
        since: Day,
    },
    /// Write a file for a bug report: versions, settings, counters, log warnings and a cassette, with private data
    /// removed.
    Report {
        /// Write to FILE instead of a new file in the current directory.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,

        /// Include the last warnings and errors of this log file.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,

        /// Include the latest cassette in DIR [default: where the running daemon records].
        #[arg(long, value_name = "DIR")]
        cassettes: Option<PathBuf>,
    },
    /// List the account's models: context window, reasoning efforts, speed tiers and visibility.
    Models {
        /// Print JSON.
        #[arg(long)]
        json: bool,

        /// Request the list from the backend instead of showing the last known one.
        #[arg(long)]
        refresh: bool,
    },
    /// Find problems, and print the command that fixes each.
    Doctor {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the settings for a client, or write them to its config file; without CLIENT, list all clients.
    Connect {
        /// A client from the list.
        #[arg(value_name = "CLIENT")]
        client: Option<String>,

        /// Write the settings to the client's config file, and keep a backup next to it.
        #[arg(long, requires = "client")]
        write: bool,

        /// Remove the settings that --write added.
        #[arg(long, requires = "client", conflicts_with = "write")]
        undo: bool,

        /// Settings with which the client keeps its own ChatGPT login (codex only; see upstream.credentials).
        #[arg(long, requires = "client")]
        gateway: bool,
    },
    /// Start the daemon at login, as a systemd user unit or a launchd agent.
    Service {
        #[command(subcommand)]
        action: ServiceAction,
    },
    /// Print a fresh access token for another program on this machine, never the refresh token.
    Token,
    /// Show or check the settings.
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Print a completion script for a shell.
    Completions {
        /// Shell to print the script for.
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Print the manual page.
    Man,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ServeArguments {
    /// Listen on ADDR (host:port, a port, or unix:PATH) instead of localhost:8787.
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["host", "port"])]
    listen: Option<String>,

    /// Listen on this host. A host other than loopback requires a client key in the settings.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// Listen on this port; 0 picks a free one.
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,

    /// Use a simulated backend: no account, no network, no model.
    #[arg(long)]
    pub(super) demo: bool,

    /// Record all traffic with the backend to DIR, with private data removed, for a bug report.
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    pub(super) record: Option<PathBuf>,

    /// Replay the recordings in DIR: no account, no network, no model.
    #[arg(long, value_name = "DIR", conflicts_with = "demo")]
    pub(super) replay: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct LoginArguments {
    /// Sign in with a code that you enter on any device. The default over SSH or without a display.
    #[arg(long, conflicts_with_all = ["no_browser", "port", "import"])]
    pub(super) device: bool,

    /// Print the sign-in address without opening a browser.
    #[arg(long)]
    pub(super) no_browser: bool,

    /// Wait for the browser's redirect on this port instead of 1455.
    #[arg(long, value_name = "PORT", conflicts_with = "import")]
    pub(super) port: Option<u16>,

    /// Use the login of another program, read-only [default: the Codex CLI's auth.json].
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "the file name of the flag is optional")]
    pub(super) import: Option<Option<PathBuf>>,

    /// Take over the imported login: codex-proxy refreshes it, and the other program is eventually signed out.
    #[arg(long, requires = "import")]
    pub(super) take_over: bool,

    /// Sign in with an access token from standard input: a workspace's (at-…) or ChatGPT's. It can't be refreshed.
    #[arg(long, conflicts_with_all = ["device", "no_browser", "port", "import"])]
    pub(super) with_access_token: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum AccountsAction {
    /// List the accounts.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make an account the active account.
    Use {
        /// Account id, as shown by `accounts list`.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Restore the last good copy of a damaged credential file or keyring entry.
    Restore,
    /// Move all accounts to the credential file or to the keyring.
    Move {
        /// Where to store the accounts: in the credential file or in the platform's keyring.
        #[arg(long, value_name = "PLACE")]
        to: Destination,
    },
    /// Sign out an account, like `logout --account ID`.
    Remove {
        /// Account id, as shown by `accounts list`.
        #[arg(value_name = "ID")]
        id: String,
    },
}

fn day(text: &str) -> Result<Day, String> {
    Day::parse(text, Day::of(SystemClock.now()))
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Destination {
    File,
    Keyring,
}

impl From<Destination> for BackendKind {
    fn from(destination: Destination) -> Self {
        match destination {
            Destination::File => Self::File,
            Destination::Keyring => Self::Keyring,
        }
    }
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum ServiceAction {
    /// Install, enable and start the service, or update it.
    Install {
        /// Print the service file without installing it.
        #[arg(long)]
        print: bool,

        /// Leave out the hardening that requires unprivileged user namespaces.
        #[arg(long)]
        no_sandbox: bool,
    },
    /// Stop, disable and remove the service.
    Uninstall,
    /// Show whether the service is installed, enabled and running; exit code 1 if it isn't running.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum ConfigAction {
    /// Print all settings with their sources; secrets are hidden.
    Show,
    /// Print the path of the config file.
    Path,
    /// Check the settings, and print all errors.
    Check,
}

impl Arguments {
    /// Returns the flags that are settings.
    pub(super) fn flags(&self) -> Flags {
        let level = match (self.quiet, self.verbose) {
            (true, _) => Some(("-q", LogLevel::Error)),
            (false, 0) => None,
            (false, 1) => Some(("-v", LogLevel::Debug)),
            (false, _) => Some(("-vv", LogLevel::Trace)),
        };
        let flags = Flags { file: self.config.clone(), account: self.account.clone(), level, ..Flags::default() };
        match &self.command {
            Command::Serve(serve) => {
                Flags { listen: serve.listen.clone(), host: serve.host.clone(), port: serve.port, ..flags }
            }
            _ => flags,
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
