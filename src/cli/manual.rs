//! `codex-proxy completions SHELL` and `codex-proxy man`, generated from the command line definition.

use std::io::{self, Write};

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::arguments::Arguments;
use super::exit::{Exit, Failure};
use super::output::print_bytes;

const NAME: &str = "codex-proxy";

/// Prints the completion script for a shell.
pub(super) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut script);
    print_bytes(&script)?;
    Ok(Exit::Done)
}

/// Prints one manual page with all commands.
pub(super) fn page() -> Result<Exit, Failure> {
    let mut page = Vec::new();
    write(&Arguments::command(), &mut page).map_err(Failure::Output)?;
    print_bytes(&page)?;
    Ok(Exit::Done)
}

fn write(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    page.extend(b".SH COMMANDS\n");
    // Global options are known to subcommands only after this call.
    let mut command = command.clone();
    command.build();
    command.get_subcommands().try_for_each(|command| write_command(command, page))
}

/// Writes the usage, description and own options of a command, then its subcommands.
fn write_command(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    if command.get_name() == "help" {
        return Ok(());
    }
    let is_global = |argument: &Arg| argument.is_global_set() || argument.get_id() == "help";
    let own = command.clone().mut_args(|argument| {
        let hide = is_global(&argument);
        argument.hide(hide)
    });
    let usage = own.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").lines().next().unwrap_or_default().replace('-', r"\-");
    writeln!(page, ".SS \"{usage}\"")?;
    let mut body = Vec::new();
    let man = Man::new(own);
    man.render_description_section(&mut body)?;
    man.render_options_section(&mut body)?;
    // The section headings are those of a separate page.
    for line in String::from_utf8_lossy(&body).lines().filter(|line| !line.starts_with(".SH ")) {
        writeln!(page, "{line}")?;
    }
    command.get_subcommands().try_for_each(|command| write_command(command, page))
}
