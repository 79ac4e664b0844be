//! `codex-proxy models`: the models of the account, as a table or as JSON.
//!
//! Without `--refresh` nobody is asked: it shows what the daemon heard last, else the list that this
//! release was built with. The JSON form is stable, and is described in `docs/models.md`.

use std::sync::Arc;

use serde::Serialize;

use super::charts::Paint;
use super::context::{Parts, accounts, given, recall, timestamp, upstream_settings};
use super::exit::{Exit, Failure};
use super::output::{answer, answer_json, talk};
use super::progress;
use super::table::{Side, table};
use crate::command_hint::command;
use crate::config::{Config, Environment};
use crate::error::ProxyError;
use crate::protocol::models::{Effort, Model};
use crate::upstream::Upstream;

/// How much of an answer is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Print JSON.
    pub(super) json: bool,
    /// Ask the backend first.
    pub(super) refresh: bool,
}

#[derive(Serialize)]
struct Report {
    source: &'static str,
    heard_at: Option<String>,
    models: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    display_name: String,
    context_window: Option<u64>,
    efforts: Vec<Effort>,
    default_effort: Option<Effort>,
    speed_tiers: Vec<&'static str>,
    input_modalities: Vec<String>,
    visibility: &'static str,
}

pub(super) async fn run(wish: Wish, config: Config, environment: &Environment) -> Result<Exit, Failure> {
    let parts = Parts::of_daemon(&config);
    let given = given(environment);
    let tokens = accounts(&parts, &config, given.clone());
    let upstream = Upstream::new(upstream_settings(&config), parts.http.clone(), Arc::new(tokens.clone()));
    recall(&upstream, &parts, &config, given.as_ref()).await;
    if wish.refresh {
        let refreshed = progress::told("asking the backend for its models", upstream.refresh_catalogue()).await;
        tokens.settle().await;
        refreshed.map_err(failed)?;
    }
    let report = Report::of(&upstream);
    if wish.json {
        answer_json(&report)?;
    } else {
        talk(&match &report.heard_at {
            Some(time) => format!("as the backend told at {time}; `{}` asks again", command("models --refresh")),
            None => format!("as known when this was built; `{}` asks the backend", command("models --refresh")),
        });
        answer(&report.table(Paint::of(environment)))?;
    }
    Ok(Exit::Done)
}

fn failed(error: ProxyError) -> Failure {
    match error {
        ProxyError::Auth(error) => Failure::auth(error),
        ProxyError::Unreachable { .. } => Failure::Unreached(error.to_string()),
        error => Failure::other(&error),
    }
}

impl Report {
    fn of(upstream: &Upstream) -> Self {
        let heard_at = upstream.catalogue_heard_at();
        Self {
            source: if heard_at.is_some() { "backend" } else { "built_in" },
            heard_at: heard_at.map(timestamp),
            models: upstream.catalogue().models().iter().map(Row::of).collect(),
        }
    }

    fn table(&self, paint: Paint) -> String {
        let columns = [
            ("model", Side::Left),
            ("window", Side::Right),
            ("efforts (* by default)", Side::Broken),
            ("speed", Side::Left),
            ("visibility", Side::Left),
        ];
        let rows: Vec<_> = self.models.iter().map(Row::cells).collect();
        table(columns, &rows, paint)
    }
}

impl Row {
    fn of(model: &Model) -> Self {
        Self {
            id: model.slug.clone(),
            display_name: model.display_name.clone(),
            context_window: model.context_window,
            efforts: model.efforts.clone(),
            default_effort: model.default_effort,
            speed_tiers: if model.has_fast_tier { vec!["fast"] } else { Vec::new() },
            input_modalities: model.input_modalities.clone(),
            visibility: if model.is_listed { "list" } else { "hide" },
        }
    }

    fn cells(&self) -> [String; 5] {
        let effort = |effort: &Effort| {
            let mark = if self.default_effort == Some(*effort) { "*" } else { "" };
            format!("{}{mark}", effort.as_str())
        };
        let efforts = self.efforts.iter().map(effort).collect::<Vec<_>>().join(" ");
        let window = self.context_window.map(thousands).unwrap_or_default();
        [self.id.clone(), window, efforts, self.speed_tiers.join(" "), self.visibility.to_owned()]
    }
}

/// A number with its thousands apart.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1000, 272_000, 1_050_000].map(thousands), ["0", "999", "1,000", "272,000", "1,050,000"]);
    }
}
