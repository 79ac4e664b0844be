//! The recipes: one file for each client, in which everything stands that is known about it.
//!
//! A recipe says how to see that the client is here, what a person has to do, and, where the
//! client's own file is documented, which file that is. The first step is what goes into the file.

use std::path::PathBuf;

use serde::Deserialize;

use super::edit::Format;
use super::path_resolver::PathResolver;
use super::template::{Language, render};
use super::values::Values;
use crate::command_hint::command;

/// What is known about a client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    /// The word for it on the command line: the name of the recipe's file.
    #[serde(skip)]
    pub(super) id: &'static str,
    /// Other words for it.
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    pub(super) name: String,
    /// What it is, in a few words.
    pub(super) about: String,
    /// Its programs.
    #[serde(default)]
    programs: Vec<String>,
    /// What it leaves on a machine.
    #[serde(default)]
    traces: Vec<String>,
    pub(super) file: Option<ClientFile>,
    steps: Vec<Step>,
    /// What is good to know.
    #[serde(default)]
    notes: Vec<String>,
}

/// The client's own file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientFile {
    pub(super) format: Format,
    /// Its folder: the first of these that there is a place for.
    folders: Vec<String>,
    /// Its name: the first of these that exists, else the first.
    names: Vec<String>,
}

/// Something to do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    say: String,
    language: Language,
    text: String,
}

macro_rules! recipes {
    ($($id:literal),+ $(,)?) => {
        const FILES: &[(&str, &str)] = &[$(($id, include_str!(concat!("recipes/", $id, ".toml")))),+];
    };
}

recipes![
    "aider",
    "ai-sdk",
    "anthropic-sdk",
    "cherry-studio",
    "claude",
    "cline",
    "codex",
    "continue",
    "copilot",
    "copilot-vscode",
    "cursor",
    "curl",
    "droid",
    "goose",
    "home-assistant",
    "jetbrains",
    "kilo",
    "langchain",
    "librechat",
    "litellm",
    "llm",
    "n8n",
    "obsidian",
    "open-webui",
    "openai-agents",
    "openai-node",
    "openai-python",
    "opencode",
    "raycast",
    "roo",
    "warp",
    "xcode",
    "zed",
];

impl Recipe {
    /// Every recipe, by name.
    pub(super) fn all() -> Vec<Self> {
        FILES.iter().map(|(id, text)| Self { id, ..toml::from_str(text).expect("a test reads them all") }).collect()
    }

    pub(super) fn is_called(&self, word: &str) -> bool {
        self.id.eq_ignore_ascii_case(word) || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(word))
    }

    /// Whether the client is on this machine.
    pub(super) fn is_found(&self, paths: &PathResolver) -> bool {
        self.programs.iter().any(|program| paths.finds_program(program))
            || self.traces.iter().any(|trace| paths.has(trace))
    }

    /// What goes into the client's own file.
    pub(super) fn settings(&self, values: &Values) -> String {
        self.steps.first().map(|step| render(&step.text, step.language, values)).unwrap_or_default()
    }

    /// Everything that a person has to do.
    pub(super) fn told(&self, values: &Values, paths: &PathResolver) -> String {
        let file = self.file.as_ref().and_then(|file| file.path(paths)).map(|path| paths.shown(&path));
        let plain = |text: &str| {
            let text = render(text, Language::Text, values);
            text.trim_end().replace("{{file}}", file.as_deref().unwrap_or_default())
        };
        let mut parts = vec![format!("{}: {}", self.name, self.about)];
        for step in &self.steps {
            parts.push(plain(&step.say));
            parts.push(render(&step.text, step.language, values).trim_end().to_owned());
        }
        if self.file.is_some() {
            parts.push(format!(
                "`{}` adds this to the file, and --undo removes it again.",
                command(&format!("connect {} --write", self.id))
            ));
        }
        parts.extend(self.notes.iter().map(|note| plain(note)));
        parts.join("\n\n")
    }
}

impl ClientFile {
    /// The file that the client reads.
    pub(super) fn path(&self, paths: &PathResolver) -> Option<PathBuf> {
        let folder = self.folders.iter().find_map(|folder| paths.path(folder))?;
        let mut names = self.names.iter().map(|name| folder.join(name));
        names.clone().find(|path| path.exists()).or_else(|| names.next())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use saphyr::{LoadableYamlNode as _, Yaml};

    use super::{FILES, Language, Recipe, render};
    use crate::cli::connect::edit::{Format, merge};
    use crate::cli::connect::path_resolver::PathResolver;
    use crate::cli::connect::values::{Hidden, Key, Values};
    use crate::config::Environment;
    use crate::secret::Secret;

    fn every_key() -> [Values; 3] {
        let keys = [Key::NotAsked, Key::Hidden(Hidden::Hashed), Key::Known(Secret::new(r#"sk'"\x"#))];
        keys.map(|key| Values { key, ..Values::sample() })
    }

    #[test]
    fn every_file_of_the_folder_is_a_recipe() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/connect/recipes");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let listed: BTreeSet<String> = FILES.iter().map(|(id, _)| format!("{id}.toml")).collect();
        assert_eq!(files.collect::<BTreeSet<_>>(), listed);
        assert!(Recipe::all().len() >= 20);
    }

    #[test]
    fn every_word_means_one_client() {
        let mut words = BTreeSet::new();
        for recipe in Recipe::all() {
            assert!(words.insert(recipe.id.to_owned()), "{}", recipe.id);
            assert!(recipe.aliases.iter().all(|alias| words.insert(alias.clone())), "{}", recipe.id);
        }
    }

    #[test]
    fn every_recipe_is_filled_to_the_last_place() {
        let paths = PathResolver::of(&Environment::default());
        for values in every_key() {
            for recipe in Recipe::all() {
                let told = recipe.told(&values, &paths);
                assert!(!told.contains("{{") && !told.contains("}}"), "{}: {told}", recipe.id);
                let has_address = ["http://127.0.0.1:8787", "host.docker.internal:8787"];
                assert!(has_address.iter().any(|address| told.contains(address)), "{}: {told}", recipe.id);
            }
        }
    }

    #[test]
    fn every_snippet_can_be_read_by_its_language() {
        for values in every_key() {
            for recipe in Recipe::all() {
                for step in &recipe.steps {
                    let text = render(&step.text, step.language, &values);
                    let is_read = match step.language {
                        Language::Toml => toml::from_str::<toml::Table>(&text).is_ok(),
                        Language::Json => serde_json::from_str::<serde_json::Value>(&text).is_ok(),
                        Language::Yaml => Yaml::load_from_str(&text).is_ok_and(|documents| documents.len() == 1),
                        _ => true,
                    };
                    assert!(is_read, "{}: {text}", recipe.id);
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_written_once() {
        for values in every_key() {
            for recipe in Recipe::all() {
                let Some(file) = &recipe.file else { continue };
                let expected = match file.format {
                    Format::Toml => Language::Toml,
                    Format::Json => Language::Json,
                    Format::Yaml => Language::Yaml,
                };
                assert_eq!(recipe.steps[0].language, expected, "{}", recipe.id);
                let settings = recipe.settings(&values);
                let written = merge(file.format, "", &settings).unwrap();
                assert_eq!(merge(file.format, &written, &settings).unwrap(), written, "{}", recipe.id);
            }
        }
    }
}
