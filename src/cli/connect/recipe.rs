//! Recipes: one TOML file per client, embedded in the program.
//!
//! A recipe contains how to detect the client, which steps configure it and, if the format of its config file is
//! documented, where that file is. The text of the first step is what `--write` adds to the file.

use std::path::PathBuf;

use serde::Deserialize;

use super::edit::Format;
use super::path_resolver::PathResolver;
use super::template::{Language, render};
use super::values::Values;
use crate::command_hint::command;

/// How to configure a client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    /// Name on the command line, and of the recipe's file.
    #[serde(skip)]
    pub(super) id: &'static str,
    /// The client that this is a variant of. It is chosen by a flag, and not listed.
    pub(super) variant_of: Option<String>,
    /// Other names on the command line.
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    pub(super) name: String,
    /// Short description.
    pub(super) about: String,
    /// Executables that show that the client is installed.
    #[serde(default)]
    programs: Vec<String>,
    /// Files and directories that show that the client is installed.
    #[serde(default)]
    traces: Vec<String>,
    /// The file that `--write` changes; `None`: there is no documented one.
    pub(super) file: Option<ClientFile>,
    steps: Vec<Step>,
    #[serde(default)]
    notes: Vec<String>,
}

/// The client's config file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientFile {
    pub(super) format: Format,
    /// Directories; the first that can be resolved is used.
    directories: Vec<String>,
    /// File names; the first that exists is used, else the first.
    names: Vec<String>,
}

/// An instruction with a text to copy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    instruction: String,
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
    "codex-gateway",
    "continue",
    "copilot",
    "copilot-vscode",
    "cursor",
    "curl",
    "droid",
    "gemini",
    "google-genai",
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
    /// Returns all recipes.
    pub(super) fn all() -> Vec<Self> {
        FILES.iter().map(|(id, text)| Self { id, ..toml::from_str(text).expect("tests parse every recipe") }).collect()
    }

    pub(super) fn is_called(&self, word: &str) -> bool {
        self.id.eq_ignore_ascii_case(word) || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(word))
    }

    /// The recipe's name and flags on the command line.
    pub(super) fn arguments(&self) -> String {
        self.variant_of.as_ref().map_or_else(|| self.id.to_owned(), |client| format!("{client} --gateway"))
    }

    /// Whether the client is on this machine.
    pub(super) fn is_found(&self, paths: &PathResolver) -> bool {
        self.programs.iter().any(|program| paths.has_program(program))
            || self.traces.iter().any(|trace| paths.exists(trace))
    }

    /// Returns the settings for the client's config file: the text of the first step.
    pub(super) fn settings(&self, values: &Values) -> String {
        self.steps.first().map(|step| render(&step.text, step.language, values)).unwrap_or_default()
    }

    /// Returns all steps and notes for the user.
    pub(super) fn instructions(&self, values: &Values, paths: &PathResolver) -> String {
        let file = self.file.as_ref().and_then(|file| file.path(paths)).map(|path| paths.display(&path));
        let plain = |text: &str| {
            let text = render(text, Language::Text, values);
            text.trim_end().replace("{{file}}", file.as_deref().unwrap_or_default())
        };
        let mut parts = vec![format!("{}: {}", self.name, self.about)];
        for step in &self.steps {
            parts.push(plain(&step.instruction));
            parts.push(render(&step.text, step.language, values).trim_end().to_owned());
        }
        if self.file.is_some() {
            parts.push(format!(
                "To add this to the file, run `{}`; to remove it again, use --undo.",
                command(&format!("connect {} --write", self.arguments()))
            ));
        }
        parts.extend(self.notes.iter().map(|note| plain(note)));
        parts.join("\n\n")
    }
}

impl ClientFile {
    /// Returns the path of the file.
    pub(super) fn path(&self, paths: &PathResolver) -> Option<PathBuf> {
        let directory = self.directories.iter().find_map(|directory| paths.resolve(directory))?;
        let mut names = self.names.iter().map(|name| directory.join(name));
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
    use crate::cli::connect::values::{Key, Values, WhyUnavailable};
    use crate::config::Environment;
    use crate::secret::Secret;

    fn every_key() -> [Values; 3] {
        let keys = [Key::NotRequired, Key::Unavailable(WhyUnavailable::Hashed), Key::Known(Secret::new(r#"sk'"\x"#))];
        keys.map(|key| Values { key, ..Values::sample() })
    }

    #[test]
    fn every_file_in_the_directory_is_a_recipe() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/connect/recipes");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let listed: BTreeSet<String> = FILES.iter().map(|(id, _)| format!("{id}.toml")).collect();
        assert_eq!(files.collect::<BTreeSet<_>>(), listed);
        assert!(Recipe::all().len() >= 20);
    }

    #[test]
    fn every_name_refers_to_one_client() {
        let mut words = BTreeSet::new();
        for recipe in Recipe::all() {
            assert!(words.insert(recipe.id.to_owned()), "{}", recipe.id);
            assert!(recipe.aliases.iter().all(|alias| words.insert(alias.clone())), "{}", recipe.id);
        }
    }

    #[test]
    fn models_and_context_windows_come_from_the_catalog() {
        for (id, text) in FILES {
            assert!(!text.contains("gpt-"), "{id} names a model");
            let mut numbers = text.split(|c: char| !c.is_ascii_digit());
            assert!(numbers.all(|number| number.len() < 5), "{id} has a large number");
        }
    }

    #[test]
    fn no_placeholder_is_left_in_any_recipe() {
        let paths = PathResolver::of(&Environment::default());
        for values in every_key() {
            for recipe in Recipe::all() {
                let text = recipe.instructions(&values, &paths);
                assert!(!text.contains("{{") && !text.contains("}}"), "{}: {text}", recipe.id);
                let addresses = ["http://127.0.0.1:8787", "host.docker.internal:8787"];
                assert!(addresses.iter().any(|address| text.contains(address)), "{}: {text}", recipe.id);
            }
        }
    }

    #[test]
    fn every_snippet_is_valid_in_its_language() {
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
    fn writing_settings_twice_changes_nothing() {
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
