//! What can be typed.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::auth::Place;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Flags, Level};
use crate::history::Day;

/// Place in the help of what every command takes: behind what is its own.
const GLOBAL: usize = 100;

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
    #[arg(long, value_name = "FILE", global = true, display_order = GLOBAL)]
    config: Option<PathBuf>,

    /// Use the account with this id instead of the active one.
    #[arg(long, value_name = "ID", global = true)]
    account: Option<String>,

    /// Log more (-vv: everything of our own; never tokens or contents).
    #[arg(short, action = ArgAction::Count, global = true, conflicts_with = "quiet", display_order = GLOBAL)]
    verbose: u8,

    /// Log failures only.
    #[arg(short, global = true, display_order = GLOBAL)]
    quiet: bool,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon in the foreground.
    Serve(ServeArguments),
    /// Sign in with your ChatGPT account in the browser or with a code, or import a login.
    Login(LoginArguments),
    /// Sign out: tell the issuer if it can be reached, and forget the login in any case.
    Logout {
        /// Sign every account out.
        #[arg(long, conflicts_with = "account")]
        all: bool,
    },
    /// Show the accounts that are signed in, choose the active one, or sign one out.
    Accounts {
        #[command(subcommand)]
        action: AccountsAction,
    },
    /// Show who is signed in and whether that works, where the files are, and whether the daemon runs.
    Status {
        /// Print JSON, for scripts.
        #[arg(long)]
        json: bool,

        /// Tell only what is known here: ask nobody, and renew nothing.
        #[arg(long)]
        offline: bool,

        /// Print only the base URL of the daemon that runs here; 1: there is none.
        #[arg(long, conflicts_with_all = ["json", "offline"])]
        daemon: bool,
    },
    /// Show what was used: requests and tokens by day, model and client key.
    Usage {
        /// Print JSON, for scripts.
        #[arg(long)]
        json: bool,

        /// From then on: today, yesterday, 7d, 2w (today included) or a day such as 2026-11-01, in UTC.
        #[arg(long, value_name = "WHEN", value_parser = day, default_value = "7d")]
        since: Day,
    },
    /// Write one file for a bug report: settings, versions, counts, troubles and a cassette, without anything private.
    Report {
        /// Write it to FILE instead of a new file in this directory.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,

        /// Take the last troubles from this log.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,

        /// Take the latest cassette from DIR [default: where the running daemon records].
        #[arg(long, value_name = "DIR")]
        cassettes: Option<PathBuf>,
    },
    /// Show the models of the account: window, efforts, speed tiers and visibility.
    Models {
        /// Print JSON, for scripts.
        #[arg(long)]
        json: bool,

        /// Ask the backend now, instead of showing what was heard last.
        #[arg(long)]
        refresh: bool,
    },
    /// Look at everything that has to be right; each finding ends in one command to run.
    Doctor {
        /// Print JSON, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Print the exact settings for a client, or put them into its file; without CLIENT, list all clients.
    Connect {
        /// The client, as the list names it.
        #[arg(value_name = "CLIENT")]
        client: Option<String>,

        /// Put the settings into the client's own file, and lay a copy of it beside it.
        #[arg(long, requires = "client")]
        write: bool,

        /// Bring the client's file back as it was before.
        #[arg(long, requires = "client", conflicts_with = "write")]
        undo: bool,
    },
    /// Have the daemon started when you log in: as a systemd user unit, or a launchd agent.
    Service {
        #[command(subcommand)]
        action: ServiceAction,
    },
    /// Print a fresh access token, for another program on this machine; never the refresh token.
    Token,
    /// Show the settings and where they come from.
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Print the completions for a shell.
    Completions {
        /// The shell.
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

    /// Listen on this host. Other than loopback needs a key in the settings.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,

    /// Listen on this port; 0 picks a free one.
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,

    /// Answer from an embedded simulated backend: no account, no network, no model.
    #[arg(long)]
    pub(super) demo: bool,

    /// Write every exchange with the backend into DIR, without what is private in it, for a bug report.
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    pub(super) record: Option<PathBuf>,

    /// Answer from what was recorded in DIR: no account, no network, no model.
    #[arg(long, value_name = "DIR", conflicts_with = "demo")]
    pub(super) replay: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that stands on the command line or not")]
pub(super) struct LoginArguments {
    /// Sign in with a code that is typed on another device. Chosen by itself over SSH and without a display.
    #[arg(long, conflicts_with_all = ["no_browser", "port", "import"])]
    pub(super) device: bool,

    /// Only print the address to visit; don't open a browser.
    #[arg(long)]
    pub(super) no_browser: bool,

    /// Wait for the browser on this port instead of 1455.
    #[arg(long, value_name = "PORT", conflicts_with = "import")]
    pub(super) port: Option<u16>,

    /// Use the login of another program, read-only [default: the Codex CLI's auth.json].
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "the flag may stand alone or with a file")]
    pub(super) import: Option<Option<PathBuf>>,

    /// Own the imported login from now on; the other program is signed out by that sooner or later.
    #[arg(long, requires = "import")]
    pub(super) take_over: bool,

    /// Sign in with an access token from standard input: a workspace's (at-…) or ChatGPT's own. Nothing renews it.
    #[arg(long, conflicts_with_all = ["device", "no_browser", "port", "import"])]
    pub(super) with_access_token: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum AccountsAction {
    /// List the accounts that are signed in.
    List {
        /// Print JSON, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Make an account the active one.
    Use {
        /// The account's id, as `accounts list` shows it.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Put the last good copy of a damaged credential file, or keyring entry, back.
    Restore,
    /// Move every account to the file or to the keyring, and clear the other place.
    Move {
        /// Where to.
        #[arg(long, value_name = "PLACE")]
        to: Destination,
    },
    /// Sign an account out, as `logout --account ID` does.
    Remove {
        /// The account's id, as `accounts list` shows it.
        #[arg(value_name = "ID")]
        id: String,
    },
}

fn day(text: &str) -> Result<Day, String> {
    Day::parse(text, Day::of(SystemClock.now()))
}

/// A place for the credentials, as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Destination {
    /// The credential file.
    File,
    /// The keyring of the platform.
    Keyring,
}

impl From<Destination> for Place {
    fn from(destination: Destination) -> Self {
        match destination {
            Destination::File => Self::File,
            Destination::Keyring => Self::Keyring,
        }
    }
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum ServiceAction {
    /// Write the service's file, enable it and start it; again: bring it up to date.
    Install {
        /// Only print what would be written.
        #[arg(long)]
        print: bool,

        /// Leave out the hardening that needs namespaces, where users may not have any.
        #[arg(long)]
        no_sandbox: bool,
    },
    /// Stop and disable it, and remove its file.
    Uninstall,
    /// Show whether it is installed, enabled and running; 0: it runs, 1: it does not.
    Status {
        /// Print JSON, for scripts.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum ConfigAction {
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
