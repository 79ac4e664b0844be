//! Renders the templates of recipes.
//!
//! `{{name}}` is replaced by a value, escaped for the language of the text. The lines between `{{each model}}` and
//! `{{end}}` are repeated for each listed model; those between `{{if key}}` and `{{end}}` are included only if a client
//! key is required, those after `{{if no key}}` only if none is.

use serde::Deserialize;

use super::values::{ModelValues, Values};

/// The language of a recipe's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    Toml,
    Json,
    Yaml,
    Python,
    JavaScript,
    Shell,
    /// Text that the user enters in a form.
    Text,
}

/// Returns the template with all values filled in.
pub(super) fn render(template: &str, language: Language, values: &Values) -> String {
    let mut filled = String::new();
    let mut lines = template.trim_matches('\n').lines();
    while let Some(line) = lines.next() {
        match line.trim() {
            "{{each model}}" => {
                let part = part(&mut lines);
                for (index, model) in values.models.iter().enumerate() {
                    let comma = if index + 1 == values.models.len() { "" } else { "," };
                    let of_model = |name: &str| if name == "comma" { Some(comma.to_owned()) } else { model.get(name) };
                    put(&mut filled, &part, language, |name| of_model(name).or_else(|| values.get(name)));
                }
            }
            condition @ ("{{if key}}" | "{{if no key}}") => {
                let part = part(&mut lines);
                if values.key.is_required() == (condition == "{{if key}}") {
                    put(&mut filled, &part, language, |name| values.get(name));
                }
            }
            _ => put(&mut filled, &[line], language, |name| values.get(name)),
        }
    }
    filled
}

/// Returns the lines up to `{{end}}`.
fn part<'t>(lines: &mut impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    lines.take_while(|line| line.trim() != "{{end}}").collect()
}

/// Appends the lines, with placeholders replaced.
fn put(filled: &mut String, lines: &[&str], language: Language, value: impl Fn(&str) -> Option<String>) {
    for line in lines {
        let mut rest = *line;
        while let Some((before, name, after)) = placeholder(rest) {
            filled.push_str(before);
            match value(name) {
                Some(value) => filled.push_str(&language.escape(&value)),
                // Left in the text, so that a test of the recipes fails.
                None => filled.extend(["{{", name, "}}"]),
            }
            rest = after;
        }
        filled.extend([rest, "\n"]);
    }
}

/// Splits a text at its first placeholder: the text before it, its name, and the text after it.
fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (name, after) = rest.split_once("}}")?;
    Some((before, name, after))
}

impl Language {
    /// Escapes a value: for use between double quotes, or as a word of a shell command.
    fn escape(self, value: &str) -> String {
        match self {
            Self::Text => value.to_owned(),
            Self::Shell => shell_word(value),
            Self::Toml | Self::Json | Self::Yaml | Self::Python | Self::JavaScript => {
                let quoted = serde_json::Value::from(value).to_string();
                quoted.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned()
            }
        }
    }
}

/// Quotes a value for a POSIX shell, if necessary.
fn shell_word(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if value.chars().all(is_plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

impl ModelValues {
    fn get(&self, name: &str) -> Option<String> {
        Some(match name {
            "id" => self.id.clone(),
            "title" => self.title.clone(),
            "window" => self.window.to_string(),
            "images" => self.accepts_images.to_string(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Language, render};
    use crate::cli::connect::values::{Key, Values};
    use crate::secret::Secret;

    #[test]
    fn parts_are_repeated_for_models_and_included_for_a_key() {
        let template = "a\n{{each model}}\n{{id}} {{window}}{{comma}}\n{{end}}\n{{if key}}\n  {{key}}\n{{end}}\n\
                        {{if no key}}\nopen\n{{end}}\nz";
        let mut values = Values::sample();
        assert_eq!(render(template, Language::Text, &values), "a\ngpt-a 272000,\ngpt-b-mini 128000\nopen\nz\n");
        values.key = Key::Known(Secret::new("sk-1"));
        assert!(render(template, Language::Text, &values).ends_with("  sk-1\nz\n"));
    }

    #[test]
    fn a_key_with_quotes_is_escaped_for_the_language() {
        let mut values = Values::sample();
        values.key = Key::Known(Secret::new(r#"a"b\c'd"#));
        let written = |language| render("{{key}}", language, &values);
        assert_eq!(written(Language::Json), "a\\\"b\\\\c'd\n");
        assert_eq!(written(Language::Shell), "'a\"b\\c'\\''d'\n");
        assert_eq!(written(Language::Text), "a\"b\\c'd\n");
    }

    #[test]
    fn an_unknown_name_stays_in_the_text() {
        assert_eq!(render("{{nothing}}", Language::Text, &Values::sample()), "{{nothing}}\n");
    }
}
