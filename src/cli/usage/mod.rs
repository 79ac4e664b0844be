//! `codex-proxy usage`: shows used requests and tokens by day, model and client key.
//!
//! Reads the file of the totals, whether or not a daemon runs. Changes it only to migrate a file of an older version.
//! The JSON form is stable and documented in `docs/usage.md`.

mod text;

use serde::Serialize;

use super::color::Coloring;
use super::exit::{Exit, Failure};
use super::output::{eprint, print, print_json};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Environment};
use crate::history::{Day, UsageReport, UsageStore};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputFormat {
    Table,
    Json,
}

#[derive(Serialize)]
struct UsageDocument<'r> {
    version: &'static str,
    totals: &'r UsageReport,
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
            "usage.store is \"memory\": the running daemon shows its counts at /usage. The following totals are from an \
             earlier file.",
        ),
        UsageStore::Off => {
            eprint("usage.store is \"off\": usage isn't counted. The following totals are from an earlier file.");
        }
    }
    let report = UsageReport::read(&config.paths.usage, keep_days, since, SystemClock.now());
    let report = UsageReport { store: store.name(), ..report.map_err(|error| Failure::other(&error))? };
    match format {
        OutputFormat::Json => print_json(&UsageDocument { version: env!("CARGO_PKG_VERSION"), totals: &report })?,
        OutputFormat::Table => print(&text::format(&report, Coloring::of_stdout(environment)))?,
    }
    Ok(Exit::Done)
}
