//! The model catalog: some entries of the real catalog, with descriptions that say that they are simulated.
//!
//! The entries have all members that the official client ships with, so that it offers the same tools as with the real
//! backend. Only its prompts are left out. The models that the client calls in the lite form are marked as in the real
//! catalog; the demo accepts both forms for all models.

use std::sync::LazyLock;

use serde_json::{Value, json};

/// The etag of the catalog.
pub(super) const ETAG: &str = "W/\"demo-2\"";

/// A reasoning effort that clients offer, but send as `xhigh`.
const CLIENT_EFFORT: &str = "ultra";

/// The entries, as in the official client.
static MODELS: LazyLock<Vec<Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("catalogue.json")).expect("a test parses the file"));

/// The body of `/models`.
pub(super) fn document() -> Value {
    json!({ "models": MODELS.iter().map(entry).collect::<Vec<_>>() })
}

/// Returns the reasoning efforts that requests may have for a model; `None` if it isn't in the catalog.
pub(super) fn efforts(slug: &str) -> Option<Vec<&'static str>> {
    let model = MODELS.iter().find(|model| model["slug"] == slug)?;
    let levels = model["supported_reasoning_levels"].as_array().into_iter().flatten();
    Some(levels.filter_map(|level| level["effort"].as_str()).filter(|effort| *effort != CLIENT_EFFORT).collect())
}

/// Adds the members that the client's copy of the catalog doesn't have.
fn entry(model: &Value) -> Value {
    let mut model = model.clone();
    model["display_name"] = json!(format!("{} (demo)", model["display_name"].as_str().unwrap_or_default()));
    model["description"] = json!("Simulated by the codex-proxy demo.");
    for list in ["supported_reasoning_levels", "service_tiers"] {
        for named in model[list].as_array_mut().into_iter().flatten() {
            named["description"] = json!("demo");
        }
    }
    model["effective_context_window_percent"] = json!(95);
    model["upgrade"] = Value::Null;
    model["base_instructions"] = json!("");
    model
}

#[cfg(test)]
mod tests {
    use super::{Value, document, efforts};

    #[test]
    fn models_have_the_members_that_decide_which_tools_a_client_offers() {
        let document = document();
        let models = document["models"].as_array().expect("a list of models");
        let members = [
            "apply_patch_tool_type",
            "experimental_supported_tools",
            "shell_type",
            "supports_experimental_context",
            "supports_search_tool",
            "tool_mode",
            "truncation_policy",
            "use_responses_lite",
            "web_search_tool_type",
        ];
        for model in models {
            for member in members {
                assert!(model.get(member).is_some(), "{} has no {member}", model["slug"]);
            }
        }
        let is_lite = |model: &&Value| model["use_responses_lite"] == true;
        assert!(models.iter().filter(is_lite).all(|model| model["tool_mode"] == "code_mode_only"));
        assert_eq!(models[0]["slug"], "gpt-6.2-sol", "the default model comes first");
    }

    #[test]
    fn requests_may_not_have_the_effort_that_only_clients_use() {
        assert_eq!(efforts("gpt-6.2-sol").expect("a known model"), ["low", "medium", "high", "xhigh", "max"]);
        assert_eq!(efforts("gpt-9"), None);
    }
}
