//! The model catalog: a few entries of the real catalog with descriptions that say they are simulated.
//!
//! The models that the official client calls in the lite form are marked as in the real catalog; the demo accepts
//! both forms for all models.

use serde_json::{Value, json};

use crate::demo::issuer::PLAN;

/// The etag of the catalog.
pub(super) const ETAG: &str = "W/\"demo-1\"";

/// What differs between the entries.
struct Model {
    slug: &'static str,
    name: &'static str,
    visibility: &'static str,
    efforts: &'static [&'static str],
    default_effort: &'static str,
    max_context_window: u32,
    minimal_client_version: &'static str,
}

const MODELS: [Model; 5] = [
    Model {
        slug: "gpt-6.1-sol",
        name: "GPT-6.1-Sol",
        visibility: "list",
        efforts: &["low", "medium", "high", "xhigh", "max"],
        default_effort: "low",
        max_context_window: 872_000,
        minimal_client_version: "0.153.0",
    },
    Model {
        slug: "gpt-6-sol",
        name: "GPT-6-Sol",
        visibility: "list",
        efforts: &["low", "medium", "high", "xhigh", "max"],
        default_effort: "medium",
        max_context_window: 872_000,
        minimal_client_version: "0.155.0",
    },
    Model {
        slug: "gpt-6-luna",
        name: "GPT-6-Luna",
        visibility: "list",
        efforts: &["low", "medium", "high", "xhigh", "max"],
        default_effort: "medium",
        max_context_window: 872_000,
        minimal_client_version: "0.155.0",
    },
    Model {
        slug: "gpt-5.5",
        name: "GPT-5.5",
        visibility: "list",
        efforts: &["low", "medium", "high", "xhigh"],
        default_effort: "medium",
        max_context_window: 272_000,
        minimal_client_version: "0.124.0",
    },
    Model {
        slug: "codex-auto-review",
        name: "Codex Auto Review",
        visibility: "hide",
        efforts: &["low", "medium", "high", "xhigh", "max"],
        default_effort: "medium",
        max_context_window: 872_000,
        minimal_client_version: "0.98.0",
    },
];

/// The body of `/models`.
pub(super) fn document() -> Value {
    let models: Vec<Value> = MODELS.iter().zip(1..).map(|(model, priority)| entry(model, priority)).collect();
    json!({ "models": models })
}

/// Returns the reasoning efforts of a model; `None` if it isn't in the catalog.
pub(super) fn efforts(slug: &str) -> Option<&'static [&'static str]> {
    MODELS.iter().find(|model| model.slug == slug).map(|model| model.efforts)
}

fn entry(model: &Model, priority: u32) -> Value {
    let levels: Vec<Value> =
        model.efforts.iter().map(|effort| json!({ "effort": effort, "description": "demo" })).collect();
    json!({
        "slug": model.slug,
        "display_name": format!("{} (demo)", model.name),
        "description": "Simulated by the codex-proxy demo.",
        "visibility": model.visibility,
        "supported_in_api": true,
        "priority": priority,
        "available_in_plans": ["free", "plus", PLAN],
        "minimal_client_version": model.minimal_client_version,
        "supported_reasoning_levels": levels,
        "default_reasoning_level": model.default_effort,
        "supports_reasoning_summaries": true,
        "supports_reasoning_summary_parameter": true,
        "default_reasoning_summary": "none",
        "support_verbosity": true,
        "default_verbosity": "low",
        "context_window": 272_000,
        "max_context_window": model.max_context_window,
        "effective_context_window_percent": 95,
        "auto_compact_token_limit": null,
        "input_modalities": ["text", "image"],
        "service_tiers": [{ "id": "priority", "name": "Fast", "description": "demo" }],
        "additional_speed_tiers": ["fast"],
        "default_service_tier": null,
        "use_responses_lite": model.slug != "gpt-5.5",
        "prefer_websockets": false,
        "supports_parallel_tool_calls": true,
        "supports_search_tool": true,
        "web_search_tool_type": "text_and_image",
        "apply_patch_tool_type": "freeform",
        "shell_type": "shell_command",
        "truncation_policy": { "mode": "tokens", "limit": 10_000 },
        "experimental_supported_tools": [],
        "upgrade": null,
        "base_instructions": "",
    })
}
