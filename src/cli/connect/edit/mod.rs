//! Adds settings to another program's file, and removes them again; all other text stays as it is, byte for byte.
//!
//! [`merge`] and [`remove`] are pure: text in, text out, or the reason why it can't be done safely. Merging twice
//! changes nothing. If the file has a setting of the same name, ours replaces it in TOML and JSON; in YAML, which has
//! no editor that preserves the text, it is a reason to refuse. An entry named `codex-proxy` belongs to this program
//! and is replaced and removed as a whole.

mod json;
mod line_endings;
mod toml;
mod yaml;

use serde::Deserialize;
use serde_json::Value;

/// The name of the entry that belongs to this program.
const OURS: &str = "codex-proxy";

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Toml,
    /// With comments and trailing commas, if its program accepts them.
    Json,
    Yaml,
}

/// Why a file isn't changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(String);

/// Returns the text with the settings added; the same text if it has them already.
pub(super) fn merge(format: Format, text: &str, wanted: &str) -> Result<String, Refusal> {
    if text.trim().is_empty() {
        return Ok(match format {
            Format::Yaml => yaml::new_file(wanted),
            Format::Toml | Format::Json => wanted.to_owned(),
        });
    }
    line_endings::preserving(text, |text| match format {
        Format::Toml => toml::merge(text, wanted),
        Format::Json => json::merge(text, wanted),
        Format::Yaml => yaml::merge(text, wanted),
    })
}

/// Returns the text without the settings that [`merge`] added. A setting that was changed since stays. One that had
/// another value in `original`, the text before the merge, gets that value back.
pub(super) fn remove(format: Format, text: &str, settings: &str, original: &str) -> Result<String, Refusal> {
    if text.trim().is_empty() {
        return Ok(text.to_owned());
    }
    let original = if original.trim().is_empty() && format == Format::Json { "{}" } else { original };
    line_endings::preserving(text, |text| match format {
        Format::Toml => toml::remove(text, settings, original),
        Format::Json => json::remove(text, settings, original),
        Format::Yaml => Ok(yaml::without_ours(text)),
    })
}

/// Whether `present` contains all settings of `wanted`.
fn contains_settings(present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            present.get(name).is_some_and(|present| {
                if name == OURS { present == wanted } else { contains_settings(present, wanted) }
            })
        }),
        _ => present == wanted,
    }
}

fn unreadable(what: &str, error: &impl ToString) -> Refusal {
    Refusal(format!("it isn't valid {what}: {}", error.to_string().lines().next().unwrap_or_default()))
}

fn unsupported() -> Refusal {
    Refusal("its structure can't be edited safely".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Format, merge, remove};

    const TOML: &str = "model = \"m\"\n\n[providers.codex-proxy]\nurl = \"u\"\n";
    const JSON: &str = "{\n  \"env\": {\n    \"URL\": \"u\"\n  },\n  \"model\": \"m\"\n}\n";
    const YAML: &str = "base: \"u\"\nmodel: \"m\"\n";

    const TEXTS: [(Format, &str, &str); 5] = [
        (Format::Toml, TOML, "# mine\nmodel = \"old\" # why\n\n[providers.other]\nurl = \"o\"\n"),
        (Format::Toml, TOML, "[profiles.a]\nx = 1"),
        (Format::Json, JSON, "{\n  // mine\n  \"env\": { \"Z\": \"9\" },\n  \"model\": \"old\"\n}\n"),
        (Format::Json, JSON, "{\n  \"theme\": \"dark\"\n}"),
        (Format::Yaml, YAML, "# mine\ndark: true\n"),
    ];

    fn values(format: Format, text: &str) -> String {
        match format {
            Format::Toml => ::toml::from_str::<serde_json::Value>(text).unwrap().to_string(),
            Format::Json => super::json::value_of(text).unwrap().to_string(),
            Format::Yaml => text.to_owned(),
        }
    }

    #[test]
    fn removing_leaves_the_values_that_were_there_before() {
        for (format, settings, original) in TEXTS {
            let merged = merge(format, original, settings).unwrap();
            let removed = remove(format, &merged, settings, original).unwrap();
            assert_eq!(values(format, &removed), values(format, original), "{removed}");
            assert_eq!(remove(format, &removed, settings, original).unwrap(), removed);
        }
    }

    #[test]
    fn settings_that_the_user_changed_since_stay() {
        let merged = merge(Format::Toml, "other = 1\n", TOML).unwrap();
        let edited = merged.replace("model = \"m\"", "model = \"mine\"") + "\n[added]\nx = 1\n";
        let removed = remove(Format::Toml, &edited, TOML, "other = 1\n").unwrap();
        assert!(removed.contains("model = \"mine\"") && removed.contains("[added]"), "{removed}");
        assert!(!removed.contains("codex-proxy") && !removed.contains("providers"), "{removed}");
        let merged = merge(Format::Json, "{}", JSON).unwrap();
        let edited = merged.replace("\"u\"", "\"mine\"");
        let removed = remove(Format::Json, &edited, JSON, "").unwrap();
        assert_eq!(values(Format::Json, &removed), r#"{"env":{"URL":"mine"}}"#);
    }

    #[test]
    fn crlf_files_keep_their_line_endings() {
        for (format, settings, original) in TEXTS {
            let unix = merge(format, original, settings).unwrap();
            let windows = merge(format, &original.replace('\n', "\r\n"), settings).unwrap();
            assert_eq!(windows, unix.replace('\n', "\r\n"));
            let removed = remove(format, &windows, settings, &original.replace('\n', "\r\n")).unwrap();
            assert_eq!(removed, remove(format, &unix, settings, original).unwrap().replace('\n', "\r\n"));
        }
    }
}
