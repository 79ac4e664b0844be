//! `codex-proxy usage`: what was used, by day, model and client key.
//!
//! Reads the file of the totals, whether or not a daemon runs; it changes nothing about it. The JSON
//! form is stable and described in `docs/usage.md`.

mod text;

use serde::Serialize;

use super::charts::Paint;
use super::exit::{Exit, Failure};
use super::output::{answer, answer_json, talk};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Environment};
use crate::history::{Day, Report, UsageStore};

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Table,
    Json,
}

#[derive(Serialize)]
struct Told<'r> {
    version: &'static str,
    totals: &'r Report,
}

pub(super) fn run(form: Form, since: Day, config: &Config, environment: &Environment) -> Result<Exit, Failure> {
    let (store, keep_days) = (config.history.usage_store, config.history.usage_keep_days);
    match store {
        UsageStore::Disk => {}
        UsageStore::Memory => talk(
            "usage.store is \"memory\": what the running daemon has counted is at its path /usage; this is what a \
             file holds from before",
        ),
        UsageStore::Off => talk("usage.store is \"off\": nothing is counted; this is what a file holds from before"),
    }
    let report = Report::read(&config.paths.usage, keep_days, since, SystemClock.now());
    let report = Report { store: store.name(), ..report.map_err(|error| Failure::other(&error))? };
    match form {
        Form::Json => answer_json(&Told { version: env!("CARGO_PKG_VERSION"), totals: &report })?,
        Form::Table => answer(&text::told(&report, Paint::of(environment)))?,
    }
    Ok(Exit::Done)
}
