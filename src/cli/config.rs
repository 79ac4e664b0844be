//! `codex-proxy config show | path | check`: the effective settings and their sources.

use unicode_width::UnicodeWidthStr as _;

use super::arguments::ConfigAction;
use super::exit::{Exit, Failure};
use super::output::{eprint, print};
use super::table::WIDTH;
use crate::config::{Config, ConfigErrors, EffectiveSetting, Environment, Flags, ValueSource, file};

pub(super) fn run(
    action: ConfigAction,
    flags: &Flags,
    config: Result<Config, ConfigErrors>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    match action {
        ConfigAction::Path => path(flags, environment)?,
        ConfigAction::Show => show(&config.map_err(Failure::Settings)?)?,
        ConfigAction::Check => check(&config.map_err(Failure::Settings)?)?,
    }
    Ok(Exit::Done)
}

fn path(flags: &Flags, environment: &Environment) -> Result<(), Failure> {
    let file = file(flags, environment).map_err(Failure::Settings)?;
    if !file.exists() {
        eprint("(this file does not exist)");
    }
    print(&file.display().to_string())
}

/// Prints every setting as a line of TOML, with its source in a comment: at the end, or above if the line is too long.
fn show(config: &Config) -> Result<(), Failure> {
    print(&config.effective.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn line(shown: &EffectiveSetting) -> String {
    let setting = format!("{} = {}", shown.key, shown.value);
    if shown.source == ValueSource::Default {
        return setting;
    }
    let line = format!("{setting:<48} # {}", shown.source);
    if line.width() <= WIDTH { line } else { format!("# {}\n{setting}", shown.source) }
}

fn check(config: &Config) -> Result<(), Failure> {
    for warning in &config.warnings {
        eprint(&format!("warning: {warning}"));
    }
    let file = config.paths.config.display();
    let state = if config.paths.config.exists() { "" } else { " (doesn't exist; the defaults apply)" };
    print(&format!("The settings are valid: {file}{state}"))
}
