//! `codex-proxy connect [CLIENT] [--write | --undo]`: prints, writes or removes the settings of a client program.
//!
//! The settings contain the address of the running daemon, a client key if one is required, and the models of the
//! account with their context windows. Every client is a file in `recipes`. If the client's own file is documented,
//! `--write` adds the settings and keeps everything else, and `--undo` removes them again. Neither uses the network
//! beyond the daemon on this machine.

mod client_file;
mod edit;
mod path_resolver;
mod recipe;
mod template;
mod values;

use std::path::PathBuf;

use super::color::Coloring;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{eprint, print};
use super::table::{Align, table};
use crate::command_hint::command;
use crate::config::{Config, Environment};
use crate::token_source::CredentialSource;
use client_file::{Error, Permissions, Settings, UndoOutcome, WriteOutcome};
use path_resolver::PathResolver;
use recipe::{ClientFile, Recipe};
use values::{Address, Key, PLACEHOLDER, Values};

/// Minimum similarity of a client's name to be suggested instead of an unknown one.
const MIN_SIMILARITY: f64 = 0.7;

/// The only client with a recipe for its own login.
const GATEWAY: &str = "connect codex --gateway";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Print the settings.
    Show,
    /// Write them to the client's config file.
    Write,
    /// Remove them from that file.
    Undo,
}

/// Whose login the client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// That of the daemon.
    Daemon,
    /// Its own: gateway mode.
    Client,
}

impl Login {
    /// Returns a warning if the daemon expects the other login.
    fn warning(self, credentials: CredentialSource) -> Option<&'static str> {
        match (self, credentials) {
            (Self::Daemon, CredentialSource::Store) | (Self::Client, CredentialSource::Client) => None,
            (Self::Client, CredentialSource::Store) => Some(
                "the daemon uses its own login: set upstream.credentials = \"client\" and restart it, so that it passes \
                 on that of the client",
            ),
            (Self::Daemon, CredentialSource::Client) => Some(
                "upstream.credentials is \"client\": the client has to send its own ChatGPT access token in \
                 Authorization, which these settings don't do",
            ),
        }
    }
}

pub(super) async fn run(
    client: Option<&str>,
    login: Login,
    action: Action,
    config: &Config,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let paths = PathResolver::of(environment);
    let Some(client) = client else { return list(&paths, Coloring::of_stdout(environment)) };
    let recipe = find(client, login)?;
    let record = config.paths.connected.join(format!("{}.json", recipe.id));
    if action == Action::Undo {
        return undo(&recipe, &paths, record).await;
    }
    if let Some(warning) = login.warning(config.credentials) {
        eprint(&format!("warning: {warning}"));
    }
    let context = Context::of_daemon(config);
    let address = Address::find(config, &context).await?;
    if let Some(warning) = &address.warning {
        eprint(&format!("warning: {warning}"));
    }
    let values = Values::gather(config, &context, environment, recipe.id, address).await;
    match action {
        Action::Write => write(&recipe, &paths, &values, record).await,
        Action::Show | Action::Undo => show(&recipe, &paths, &values),
    }
}

/// Lists all clients, those found on this machine first.
fn list(paths: &PathResolver, coloring: Coloring) -> Result<Exit, Failure> {
    let listed = Recipe::all().into_iter().filter(|recipe| recipe.variant_of.is_none());
    let mut recipes: Vec<_> = listed.map(|recipe| (!recipe.is_found(paths), recipe)).collect();
    recipes.sort_by_key(|(is_missing, recipe)| (*is_missing, recipe.id));
    let row = |(is_missing, recipe): &(bool, Recipe)| {
        let found = if *is_missing { "" } else { "yes" };
        let writes = if recipe.file.is_some() { "yes" } else { "" };
        [recipe.id.to_owned(), format!("{}, {}", recipe.name, recipe.about), found.to_owned(), writes.to_owned()]
    };
    let rows: Vec<_> = recipes.iter().map(row).collect();
    let columns =
        [("client", Align::Left), ("description", Align::Wrap), ("found", Align::Left), ("--write", Align::Left)];
    print(&table(columns, &rows, coloring))?;
    eprint(&format!(
        "Print the settings for a client with `{}`. Any other client with a configurable base URL works too.",
        command("connect CLIENT")
    ));
    Ok(Exit::Done)
}

fn find(client: &str, login: Login) -> Result<Recipe, Failure> {
    let (mut recipes, mut variants): (Vec<_>, Vec<_>) =
        Recipe::all().into_iter().partition(|recipe| recipe.variant_of.is_none());
    if let Some(index) = recipes.iter().position(|recipe| recipe.is_called(client)) {
        let recipe = recipes.swap_remove(index);
        if login == Login::Daemon {
            return Ok(recipe);
        }
        let variant = variants.iter().position(|variant| variant.variant_of.as_deref() == Some(recipe.id));
        let index = variant.ok_or_else(|| {
            Failure::Usage(format!("--gateway is only for clients with a ChatGPT login: `{}`", command(GATEWAY)))
        })?;
        return Ok(variants.swap_remove(index));
    }
    let similarity = |recipe: &&Recipe| strsim::jaro_winkler(&client.to_lowercase(), recipe.id);
    let nearest = recipes.iter().max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
    let hint = nearest.filter(|recipe| similarity(recipe) > MIN_SIMILARITY);
    let hint = hint.map(|recipe| format!(" Did you mean '{}'?", recipe.id)).unwrap_or_default();
    Err(Failure::Usage(format!("Unknown client '{client}'.{hint} List all clients with `{}`.", command("connect"))))
}

fn show(recipe: &Recipe, paths: &PathResolver, values: &Values) -> Result<Exit, Failure> {
    if let Key::Unavailable(why) = values.key {
        eprint(&format!("warning: {why}; replace {PLACEHOLDER} with a client key"));
    }
    print(&recipe.instructions(values, paths))?;
    Ok(Exit::Done)
}

async fn write(recipe: &Recipe, paths: &PathResolver, values: &Values, record: PathBuf) -> Result<Exit, Failure> {
    let own = client_file(recipe)?;
    if let Key::Unavailable(why) = values.key {
        return Err(Failure::Other(format!(
            "No key can be written, because {why}. Print the settings with a placeholder: `{}`",
            command(&format!("connect {}", recipe.arguments()))
        )));
    }
    let path = own.path(paths).ok_or_else(|| Failure::other(&"This user has no home directory."))?;
    let text = recipe.settings(values);
    let holds_key = matches!(values.key, Key::Known(_)) && text != recipe.settings(&values.without_key());
    let permissions = if holds_key { Permissions::Private } else { Permissions::Keep };
    let (settings, file) = (Settings { format: own.format, text, permissions }, path.clone());
    let written = off_runtime(move || client_file::write(&record, &file, &settings)).await;
    let shown = paths.display(&path);
    match written {
        Ok(WriteOutcome::Unchanged) => print(&format!("{shown} already has these settings")),
        Ok(WriteOutcome::Created) => print(&format!("{shown} was written")),
        Ok(WriteOutcome::Changed { copy: None }) => print(&format!("{shown} was changed")),
        Ok(WriteOutcome::Changed { copy: Some(copy) }) => {
            print(&format!("{shown} was changed; the original was saved as {}", paths.display(&copy)))
        }
        Err(error @ Error::Refused { .. }) => {
            eprint("Add this to the file yourself:");
            print(recipe.settings(values).trim_end())?;
            Err(Failure::other(&error))
        }
        Err(error) => Err(Failure::other(&error)),
    }?;
    if holds_key && cfg!(unix) {
        eprint("The file contains a client key, so only you can read it.");
    }
    Ok(Exit::Done)
}

async fn undo(recipe: &Recipe, paths: &PathResolver, record: PathBuf) -> Result<Exit, Failure> {
    let format = client_file(recipe)?.format;
    let undone =
        off_runtime(move || client_file::undo(&record, format)).await.map_err(|error| Failure::other(&error))?;
    print(&match undone {
        UndoOutcome::Restored(file) => format!("{} was restored as it was before --write", paths.display(&file)),
        UndoOutcome::Removed(file) => format!("{} was removed; it didn't exist before", paths.display(&file)),
        UndoOutcome::Stripped { file, copy } => {
            let file = paths.display(&file);
            let saved = copy.map(|copy| format!("; the original is still saved as {}", paths.display(&copy)));
            format!("the settings were removed from {file}, your later changes stay{}", saved.unwrap_or_default())
        }
    })?;
    Ok(Exit::Done)
}

fn client_file(recipe: &Recipe) -> Result<&ClientFile, Failure> {
    recipe.file.as_ref().ok_or_else(|| {
        let (name, arguments) = (&recipe.name, recipe.arguments());
        let help = command(&format!("connect {arguments}"));
        Failure::Usage(format!("{name} has no config file that can be edited. See `{help}` for the steps."))
    })
}

/// Runs blocking file operations on another thread.
async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("file operations don't panic")
}
