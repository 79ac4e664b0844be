//! `codex-proxy config show | path | check`: what holds, and where it comes from.

use super::arguments::ConfigQuestion;
use super::exit::{Exit, Failure};
use super::output::{answer, talk};
use super::table::WIDTH;
use crate::config::{Config, Environment, Faults, Flags, Shown, Source, file};

pub(super) fn run(
    question: ConfigQuestion,
    flags: &Flags,
    config: Result<Config, Faults>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    match question {
        ConfigQuestion::Path => path(flags, environment)?,
        ConfigQuestion::Show => show(&config.map_err(Failure::Settings)?)?,
        ConfigQuestion::Check => check(&config.map_err(Failure::Settings)?)?,
    }
    Ok(Exit::Done)
}

fn path(flags: &Flags, environment: &Environment) -> Result<(), Failure> {
    let file = file(flags, environment).map_err(Failure::Settings)?;
    if !file.exists() {
        talk("(this file does not exist yet)");
    }
    answer(&file.display().to_string())
}

/// Every setting as a line of TOML, with its source: behind it, or above it where there is no room.
fn show(config: &Config) -> Result<(), Failure> {
    answer(&config.shown.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn line(shown: &Shown) -> String {
    let setting = format!("{} = {}", shown.key, shown.value);
    if shown.source == Source::Default {
        return setting;
    }
    let behind = format!("{setting:<48} # {}", shown.source);
    if behind.chars().count() <= WIDTH { behind } else { format!("# {}\n{setting}", shown.source) }
}

fn check(config: &Config) -> Result<(), Failure> {
    for warning in &config.warnings {
        talk(&format!("warning: {warning}"));
    }
    let file = config.paths.config.display();
    let state = if config.paths.config.exists() { "is used" } else { "does not exist; nothing is missing" };
    answer(&format!("the settings are good ({file} {state})"))
}
