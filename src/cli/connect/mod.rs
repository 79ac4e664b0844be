//! `codex-proxy connect [CLIENT] [--write | --undo]`: the exact settings for a client.
//!
//! They are filled with what holds here: the address of the daemon that runs, a key where keys are
//! set, the models of the account with their windows. Every client is a file in `recipes`. Where the
//! client's own file is documented, `--write` puts them there and keeps everything else as it is,
//! and `--undo` brings the file back byte for byte; neither asks anybody on the network.

mod change;
mod edit;
mod fill;
mod places;
mod recipe;
mod values;

use std::path::PathBuf;

use super::bars::Paint;
use super::exit::{Exit, Failure};
use super::output::{answer, talk};
use super::table::{Side, table};
use super::terms::Parts;
use crate::config::{Config, Environment};
use crate::shell::command;
use change::{ChangeError, Undone, Written};
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
    let values = Values::gather(config, &parts, environment, recipe.id, address.base_url).await;
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
    if matches!(values.key, Key::Hidden) {
        talk(&format!("warning: of the client keys only hashes are known: put yours in the place of {PLACEHOLDER}"));
    }
    answer(&recipe.told(values, places))?;
    Ok(Exit::Done)
}

async fn write(recipe: &Recipe, places: &Places, values: &Values, record: PathBuf) -> Result<Exit, Failure> {
    let own = own_file(recipe)?;
    if matches!(values.key, Key::Hidden) {
        return Err(Failure::Other(format!(
            "of the client keys only hashes are known, so that none can be written: \
             `{}` prints the text to put one into",
            command(&format!("connect {}", recipe.id))
        )));
    }
    let path = own.path(places).ok_or_else(|| Failure::other(&"this user has no home directory"))?;
    let (format, settings, file) = (own.format, recipe.settings(values), path.clone());
    let written = off_runtime(move || change::write(&record, &file, |text| edit::merge(format, text, &settings))).await;
    let shown = places.shown(&path);
    match written {
        Ok(Written::Nothing) => answer(&format!("{shown} has these settings already")),
        Ok(Written::Created) => answer(&format!("{shown} is written")),
        Ok(Written::Changed { copy }) => {
            answer(&format!("{shown} is changed; how it was lies in {}", places.shown(&copy)))
        }
        Err(error @ ChangeError::Refused { .. }) => {
            talk("this is what should go into it:");
            answer(recipe.settings(values).trim_end())?;
            Err(Failure::other(&error))
        }
        Err(error) => Err(Failure::other(&error)),
    }?;
    Ok(Exit::Done)
}

async fn undo(recipe: &Recipe, places: &Places, record: PathBuf) -> Result<Exit, Failure> {
    own_file(recipe)?;
    let undone = off_runtime(move || change::undo(&record)).await.map_err(|error| Failure::other(&error))?;
    answer(&match undone {
        Undone::Restored(file) => format!("{} is as it was", places.shown(&file)),
        Undone::Removed(file) => format!("{} is gone, as it was", places.shown(&file)),
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
