//! `codex-proxy usage`: what was used, by day, model and client key.
//!
//! Reads the file of the totals, whether or not a daemon runs; it changes nothing about it. The JSON
//! format is stable and described in `docs/usage.md`.

mod text;

use serde::Serialize;

use super::color::Coloring;
use super::exit::{Exit, Failure};
use super::output::{eprint, print, print_json};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Environment};
use crate::history::{Day, Report, UsageStore};

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputFormat {
    Table,
    Json,
}

#[derive(Serialize)]
struct UsageDocument<'r> {
    version: &'static str,
    totals: &'r Report,
}

pub(super) fn run(
    format: OutputFormat,
    since: Day,
    config: &Config,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let (store, keep_days) = (config.history.usage_store, config.history.usage_keep_days);
    match store {
        UsageStore::Disk => {}
        UsageStore::Memory => eprint(
            "usage.store is \"memory\": what the running daemon has counted is at its path /usage; this is what a \
             file holds from before",
        ),
        UsageStore::Off => eprint("usage.store is \"off\": nothing is counted; this is what a file holds from before"),
    }
    let report = Report::read(&config.paths.usage, keep_days, since, SystemClock.now());
    let report = Report { store: store.name(), ..report.map_err(|error| Failure::other(&error))? };
    match format {
        OutputFormat::Json => print_json(&UsageDocument { version: env!("CARGO_PKG_VERSION"), totals: &report })?,
        OutputFormat::Table => print(&text::told(&report, Coloring::of_stdout(environment)))?,
    }
    Ok(Exit::Done)
}
