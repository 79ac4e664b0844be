//! `codex-proxy connect [CLIENT] [--write | --undo]`: the exact settings for a client.
//!
//! They contain the address of the running daemon, a client key if one is required, and the models of the account
//! with their context windows. Every client is a file in `recipes`. If the client's own file is documented, `--write`
//! adds the settings and keeps everything else, and `--undo` removes them again. Neither uses the network beyond the
//! daemon on this machine.

mod change;
mod edit;
mod fill;
mod places;
mod recipe;
mod values;

use std::path::PathBuf;

use super::charts::Paint;
use super::context::Parts;
use super::exit::{Exit, Failure};
use super::output::{answer, talk};
use super::table::{Side, table};
use crate::command_hint::command;
use crate::config::{Config, Environment};
use change::{ChangeError, Rights, Settings, Undone, Written};
use places::Places;
use recipe::{OwnFile, Recipe};
use values::{Address, Key, PLACEHOLDER, Values};

/// How alike a word has to be to a client's to be taken for a slip.
const LIKENESS: f64 = 0.7;

/// What is to be done for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Print its settings.
    Show,
    /// Put them into its file.
    Write,
    /// Take them back.
    Undo,
}

pub(super) async fn run(
    client: Option<&str>,
    wish: Wish,
    config: &Config,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let places = Places::of(environment);
    let Some(client) = client else { return list(&places, Paint::of(environment)) };
    let recipe = find(client)?;
    let record = config.paths.connected.join(format!("{}.json", recipe.id));
    if wish == Wish::Undo {
        return undo(&recipe, &places, record).await;
    }
    let parts = Parts::of_daemon(config);
    let address = Address::find(config, &parts).await?;
    if let Some(warning) = &address.warning {
        talk(&format!("warning: {warning}"));
    }
    let values = Values::gather(config, &parts, environment, recipe.id, address).await;
    match wish {
        Wish::Write => write(&recipe, &places, &values, record).await,
        Wish::Show | Wish::Undo => show(&recipe, &places, &values),
    }
}

/// All clients, those that are here first.
fn list(places: &Places, paint: Paint) -> Result<Exit, Failure> {
    let mut recipes: Vec<_> = Recipe::all().into_iter().map(|recipe| (!recipe.is_found(places), recipe)).collect();
    recipes.sort_by_key(|(is_missing, recipe)| (*is_missing, recipe.id));
    let row = |(is_missing, recipe): &(bool, Recipe)| {
        let found = if *is_missing { "" } else { "yes" };
        let writes = if recipe.file.is_some() { "yes" } else { "" };
        [recipe.id.to_owned(), format!("{}, {}", recipe.name, recipe.about), found.to_owned(), writes.to_owned()]
    };
    let rows: Vec<_> = recipes.iter().map(row).collect();
    let columns = [("client", Side::Left), ("what it is", Side::Broken), ("here", Side::Left), ("--write", Side::Left)];
    answer(&table(columns, &rows, paint))?;
    talk(&format!(
        "`{}` prints the settings for one; any other that takes a base URL works as well",
        command("connect CLIENT")
    ));
    Ok(Exit::Done)
}

fn find(client: &str) -> Result<Recipe, Failure> {
    let mut recipes = Recipe::all();
    if let Some(index) = recipes.iter().position(|recipe| recipe.is_called(client)) {
        return Ok(recipes.swap_remove(index));
    }
    let likeness = |recipe: &&Recipe| strsim::jaro_winkler(&client.to_lowercase(), recipe.id);
    let nearest = recipes.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    let hint = nearest.filter(|recipe| likeness(recipe) > LIKENESS);
    let hint = hint.map(|recipe| format!("; did you mean '{}'?", recipe.id)).unwrap_or_default();
    Err(Failure::Use(format!("there is no recipe for '{client}'{hint}: `{}` lists all", command("connect"))))
}

fn show(recipe: &Recipe, places: &Places, values: &Values) -> Result<Exit, Failure> {
    if let Key::Hidden(hidden) = values.key {
        talk(&format!("warning: {hidden}; replace {PLACEHOLDER} with your key"));
    }
    answer(&recipe.told(values, places))?;
    Ok(Exit::Done)
}

async fn write(recipe: &Recipe, places: &Places, values: &Values, record: PathBuf) -> Result<Exit, Failure> {
    let own = own_file(recipe)?;
    if let Key::Hidden(hidden) = values.key {
        return Err(Failure::Other(format!(
            "{hidden}, so no key can be written. `{}` prints the settings with a placeholder",
            command(&format!("connect {}", recipe.id))
        )));
    }
    let path = own.path(places).ok_or_else(|| Failure::other(&"this user has no home directory"))?;
    let text = recipe.settings(values);
    let holds_key = matches!(values.key, Key::Known(_)) && text != recipe.settings(&values.without_key());
    let rights = if holds_key { Rights::Private } else { Rights::Keep };
    let (settings, file) = (Settings { format: own.format, text, rights }, path.clone());
    let written = off_runtime(move || change::write(&record, &file, &settings)).await;
    let shown = places.shown(&path);
    match written {
        Ok(Written::Nothing) => answer(&format!("{shown} already has these settings")),
        Ok(Written::Created) => answer(&format!("{shown} was written")),
        Ok(Written::Changed { copy: None }) => answer(&format!("{shown} was changed")),
        Ok(Written::Changed { copy: Some(copy) }) => {
            answer(&format!("{shown} was changed; the original was saved as {}", places.shown(&copy)))
        }
        Err(error @ ChangeError::Refused { .. }) => {
            talk("add this to the file yourself:");
            answer(recipe.settings(values).trim_end())?;
            Err(Failure::other(&error))
        }
        Err(error) => Err(Failure::other(&error)),
    }?;
    if holds_key && cfg!(unix) {
        talk("the file contains a client key, so only you can read it");
    }
    Ok(Exit::Done)
}

async fn undo(recipe: &Recipe, places: &Places, record: PathBuf) -> Result<Exit, Failure> {
    let format = own_file(recipe)?.format;
    let undone = off_runtime(move || change::undo(&record, format)).await.map_err(|error| Failure::other(&error))?;
    answer(&match undone {
        Undone::Restored(file) => format!("{} was restored as it was before --write", places.shown(&file)),
        Undone::Removed(file) => format!("{} was removed; it didn't exist before", places.shown(&file)),
        Undone::Stripped { file, copy } => {
            let file = places.shown(&file);
            let saved = copy.map(|copy| format!("; the original is still saved as {}", places.shown(&copy)));
            format!("the settings were removed from {file}, your later changes stay{}", saved.unwrap_or_default())
        }
    })?;
    Ok(Exit::Done)
}

fn own_file(recipe: &Recipe) -> Result<&OwnFile, Failure> {
    recipe.file.as_ref().ok_or_else(|| {
        let (name, id) = (&recipe.name, recipe.id);
        let help = command(&format!("connect {id}"));
        Failure::Use(format!("{name} has no file that can be written; `{help}` says what to do"))
    })
}

/// Files are read and written where nothing else waits for it.
async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("files are changed without a panic")
}
