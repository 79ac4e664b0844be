//! Putting settings into a file that is somebody else's: what is there stays, byte for byte.
//!
//! [`merge`] is pure: text in, text out, or a reason why it can't be done safely. Doing it twice
//! changes nothing. Where two settings have the same name, ours wins in TOML and JSON; in YAML, which
//! has no editor that keeps a file as it is, it is a reason to refuse. What is called `codex-proxy`
//! is ours alone, and is replaced as a whole.

mod json;
mod toml;
mod yaml;

use serde::Deserialize;
use serde_json::Value;

/// The name under which everything of ours stands.
const OURS: &str = "codex-proxy";

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Toml,
    /// With comments and trailing commas, where its program allows them.
    Json,
    Yaml,
}

/// Why a file is left alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refusal(String);

/// The file's text with the settings in it; the same text where they are there already.
pub(super) fn merge(format: Format, text: &str, wanted: &str) -> Result<String, Refusal> {
    if text.trim().is_empty() {
        return Ok(match format {
            Format::Yaml => yaml::begun(wanted),
            Format::Toml | Format::Json => wanted.to_owned(),
        });
    }
    match format {
        Format::Toml => toml::merge(text, wanted),
        Format::Json => json::merge(text, wanted),
        Format::Yaml => yaml::merge(text, wanted),
    }
}

/// Whether everything that is wanted is there.
fn holds(present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            present.get(name).is_some_and(
                |present| {
                    if name == OURS { present == wanted } else { holds(present, wanted) }
                },
            )
        }),
        _ => present == wanted,
    }
}

fn unreadable(what: &str, error: &impl ToString) -> Refusal {
    Refusal(format!("it is no valid {what}: {}", error.to_string().lines().next().unwrap_or_default()))
}

fn spoilt() -> Refusal {
    Refusal("its structure is one that can't be edited safely".to_owned())
}
