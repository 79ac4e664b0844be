//! TOML. Comments, order and blank lines are kept.

use serde_json::Value;
use toml_edit::{DocumentMut, Item, Table};

use super::{OURS, Refusal, contains_settings, unreadable, unsupported};

/// Returns the text with the settings added; the same text if it has them already.
pub(super) fn merge(text: &str, wanted: &str) -> Result<String, Refusal> {
    let goal = read(wanted)?;
    if contains_settings(&read(text)?, &goal) {
        return Ok(text.to_owned());
    }
    let mut document: DocumentMut = text.parse().map_err(|error| unreadable("TOML", &error))?;
    let wanted: DocumentMut = wanted.parse().map_err(|error| unreadable("TOML", &error))?;
    put(document.as_table_mut(), wanted.as_table())?;
    let merged = document.to_string();
    if contains_settings(&read(&merged)?, &goal) { Ok(merged) } else { Err(unsupported()) }
}

fn read(text: &str) -> Result<Value, Refusal> {
    ::toml::from_str(text).map_err(|error: ::toml::de::Error| unreadable("TOML", &error.message()))
}

/// Adds settings to a table, replacing values of the same name.
fn put(table: &mut Table, wanted: &Table) -> Result<(), Refusal> {
    for (name, item) in wanted {
        match (table.get_mut(name), item) {
            (Some(Item::Table(present)), Item::Table(item)) if name != OURS => put(present, item)?,
            (Some(Item::Value(present)), Item::Value(value)) => replace(present, value),
            (Some(_), _) if name != OURS => return Err(unsupported()),
            _ => {
                table.insert(name, without_position(item));
            }
        }
    }
    Ok(())
}

/// Removes the settings as far as they still have their values, and restores the values that they had in `original`.
pub(super) fn remove(text: &str, settings: &str, original: &str) -> Result<String, Refusal> {
    let parsed = |text: &str| text.parse::<DocumentMut>().map_err(|error| unreadable("TOML", &error));
    let (mut document, settings, original) = (parsed(text)?, parsed(settings)?, parsed(original)?);
    take(document.as_table_mut(), settings.as_table(), Some(original.as_table()));
    Ok(document.to_string())
}

/// Removes the settings from a table. `original` is the table before the merge.
fn take(table: &mut Table, settings: &Table, original: Option<&Table>) {
    for (name, setting) in settings {
        let earlier = original.and_then(|original| original.get(name));
        match (table.get_mut(name), setting) {
            (Some(Item::Table(present)), Item::Table(setting)) if name != OURS => {
                take(present, setting, earlier.and_then(Item::as_table));
                if present.is_empty() && earlier.is_none() {
                    table.remove(name);
                }
            }
            (Some(present), setting) if name == OURS || plain(present) == plain(setting) => match (present, earlier) {
                (_, None) => drop(table.remove(name)),
                (Item::Value(present), Some(Item::Value(earlier))) => replace(present, earlier),
                (present, Some(earlier)) => *present = without_position(earlier),
            },
            _ => {}
        }
    }
}

/// Returns the value without its formatting.
fn plain(item: &Item) -> Option<Value> {
    ::toml::from_str(&format!("value = {}", item.as_value()?)).ok()
}

/// Replaces a value; the comment after it stays.
fn replace(present: &mut toml_edit::Value, value: &toml_edit::Value) {
    let decor = present.decor().clone();
    *present = value.clone();
    *present.decor_mut() = decor;
}

/// Returns the item without the position that it had in its own text.
fn without_position(item: &Item) -> Item {
    let mut item = item.clone();
    if let Item::Table(table) = &mut item {
        clear_positions(table);
    }
    item
}

fn clear_positions(table: &mut Table) {
    table.set_position(None);
    for (_, item) in table.iter_mut() {
        if let Item::Table(table) = item {
            clear_positions(table);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::merge;

    const WANTED: &str =
        "model = \"m\"\nmodel_provider = \"codex-proxy\"\n\n[model_providers.codex-proxy]\nbase_url = \"u\"\n";

    #[test]
    fn settings_are_added_and_other_text_stays() {
        let text =
            "# mine\nmodel = \"old\" # why\nother = 1\n\n[profiles.a]\nx = 1 # y\n\n[mcp_servers.b]\ncommand = \"c\"\n";
        let merged = merge(text, WANTED).unwrap();
        assert_eq!(
            merged,
            "# mine\nmodel = \"m\" # why\nother = 1\nmodel_provider = \"codex-proxy\"\n\n[profiles.a]\nx = 1 # y\n\n\
             [mcp_servers.b]\ncommand = \"c\"\n\n[model_providers.codex-proxy]\nbase_url = \"u\"\n"
        );
        assert_eq!(merge(&merged, WANTED).unwrap(), merged, "a second merge changes nothing");
    }

    #[test]
    fn the_entry_of_this_program_is_replaced_as_a_whole() {
        let text = "[model_providers.other]\nbase_url = \"o\"\n\n[model_providers.codex-proxy]\nenv_key = \"X\"\n";
        let merged = merge(text, WANTED).unwrap();
        assert!(!merged.contains("env_key") && merged.contains("\"o\"") && merged.contains("\"u\""), "{merged}");
    }

    #[test]
    fn invalid_toml_and_other_structures_are_refused() {
        for text in ["model = ", "model_providers = 1\n", "[model]\nx = 1\n"] {
            assert!(merge(text, WANTED).is_err(), "{text}");
        }
    }
}
