//! `codex-proxy completions SHELL` and `codex-proxy man`, made from the command line itself, so that
//! they can't say anything else than it.

use clap::CommandFactory;
use clap_complete::Shell;

use super::arguments::Arguments;
use super::exit::{Exit, Failure};
use super::output::answer_bytes;

const NAME: &str = "codex-proxy";

/// Prints the completions for a shell.
pub(super) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut script);
    answer_bytes(&script)?;
    Ok(Exit::Done)
}

/// Prints the manual page, with every command in it.
pub(super) fn page() -> Result<Exit, Failure> {
    let mut page = Vec::new();
    let command = Arguments::command().flatten_help(true);
    clap_mangen::Man::new(command).render(&mut page).map_err(Failure::Output)?;
    answer_bytes(&page)?;
    Ok(Exit::Done)
}
