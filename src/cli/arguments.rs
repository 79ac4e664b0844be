//! What can be typed.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

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
    /// Show the settings and where they come from.
    Config {
        #[command(subcommand)]
        question: ConfigQuestion,
    },
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
        Flags { file: self.config.clone(), level, ..Flags::default() }
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
