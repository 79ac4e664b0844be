//! `codex-proxy models`: lists the account's models, as a table or as JSON.
//!
//! Without `--refresh`, it makes no request: it shows the last list from the backend, or the built-in one. The JSON
//! form is stable and documented in `docs/models.md`.

use std::sync::Arc;

use serde::Serialize;

use super::color::Coloring;
use super::context::{Context, accounts, env_token, load_saved_catalogue, require_own_login, upstream_settings};
use super::exit::{Exit, Failure};
use super::output::{eprint, print, print_json};
use super::progress;
use super::table::{Align, table};
use crate::clock::rfc3339;
use crate::command_hint::command;
use crate::config::{Config, Environment};
use crate::error::ProxyError;
use crate::protocol::models::{Effort, Model};
use crate::token_source::CredentialSource;
use crate::upstream::Upstream;

#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) json: bool,
    /// Request the list from the backend first.
    pub(super) refresh: bool,
}

#[derive(Serialize)]
struct ModelList {
    /// `backend` or `built_in`.
    source: &'static str,
    /// When the backend sent the list.
    #[serde(rename = "heard_at")]
    fetched_at: Option<String>,
    models: Vec<ModelEntry>,
}

#[derive(Serialize)]
struct ModelEntry {
    id: String,
    display_name: String,
    context_window: Option<u64>,
    efforts: Vec<Effort>,
    default_effort: Option<Effort>,
    speed_tiers: Vec<&'static str>,
    input_modalities: Vec<String>,
    visibility: &'static str,
}

pub(super) async fn run(options: Options, config: Config, environment: &Environment) -> Result<Exit, Failure> {
    let context = Context::of_daemon(&config);
    let env_token = env_token(environment);
    let tokens = accounts(&context, &config, env_token.clone());
    let upstream = Upstream::new(upstream_settings(&config), context.http.clone(), Arc::new(tokens.clone()));
    load_saved_catalogue(&upstream, &context, &config, env_token.as_ref()).await;
    if options.refresh {
        require_own_login(&config)?;
        let refreshed = progress::during("requesting the list of models", upstream.refresh_catalogue()).await;
        tokens.settle().await;
        refreshed.map_err(failed)?;
    }
    let report = ModelList::of(&upstream);
    if options.json {
        print_json(&report)?;
    } else {
        eprint(&match &report.fetched_at {
            Some(time) => format!("List from the backend, {time}. Update it with `{}`.", command("models --refresh")),
            None if config.credentials == CredentialSource::Client => {
                "Built-in list. The daemon requests that of each client with the client's own login.".to_owned()
            }
            None => format!("Built-in list. Request that of your account with `{}`.", command("models --refresh")),
        });
        print(&report.table(Coloring::of_stdout(environment)))?;
    }
    Ok(Exit::Done)
}

fn failed(error: ProxyError) -> Failure {
    match error {
        ProxyError::Auth(error) => Failure::auth(error),
        ProxyError::Unreachable { .. } => Failure::Unreachable(error.to_string()),
        error => Failure::other(&error),
    }
}

impl ModelList {
    fn of(upstream: &Upstream) -> Self {
        let fetched_at = upstream.catalogue_fetched_at();
        Self {
            source: if fetched_at.is_some() { "backend" } else { "built_in" },
            fetched_at: fetched_at.map(rfc3339),
            models: upstream.catalogue().models().iter().map(ModelEntry::of).collect(),
        }
    }

    fn table(&self, coloring: Coloring) -> String {
        let columns = [
            ("model", Align::Left),
            ("window", Align::Right),
            ("efforts (* = default)", Align::Wrap),
            ("speed", Align::Left),
            ("visibility", Align::Left),
        ];
        let rows: Vec<_> = self.models.iter().map(ModelEntry::cells).collect();
        table(columns, &rows, coloring)
    }
}

impl ModelEntry {
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

/// Formats a number with thousands separators.
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
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1000, 272_000, 1_050_000].map(thousands), ["0", "999", "1,000", "272,000", "1,050,000"]);
    }
}
