//! Ollama's version and model endpoints.
//!
//! Clients choose models by this data, so what they rely on comes from the catalog. The rest is left out, or has a
//! neutral value: models aren't files, and nothing has to be loaded.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderMap;
use http::request::Parts;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Services;
use super::body;
use super::handler::{Handler, refuse};
use super::http_response::json;
use super::models::{NO_DATE, find, named_models, unknown_model};
use super::request_log::RequestId;
use crate::blocking::off_thread;
use crate::budget::BufferedBody;
use crate::depth_limit;
use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::models::{Effort, Model};
use crate::protocol::ollama::{Chat, untagged};

/// The Ollama version that this API corresponds to. Clients reject a server that is older than they need.
const VERSION: &str = "0.34.0";

/// The architecture of all models, which is also the prefix of the context length in `model_info`.
const ARCHITECTURE: &str = "gpt";

/// The template of all models, from which older clients derive the capabilities.
const TEMPLATE: &str = "{{ .System }}{{ .Tools }}{{ .Prompt }}";

#[derive(Serialize)]
struct Version {
    version: &'static str,
}

#[derive(Serialize)]
struct List<'m> {
    models: Vec<ModelEntry<'m>>,
}

#[derive(Serialize)]
struct ModelEntry<'m> {
    name: &'m str,
    model: &'m str,
    modified_at: &'static str,
    size: u64,
    /// Some clients identify models by it. Derived from the name.
    digest: String,
    details: Details,
}

#[derive(Serialize)]
struct Details {
    parent_model: &'static str,
    format: &'static str,
    family: &'static str,
    families: [&'static str; 1],
    parameter_size: &'static str,
    quantization_level: &'static str,
}

#[derive(Serialize)]
struct Description<'m> {
    modelfile: &'static str,
    parameters: String,
    template: &'static str,
    details: Details,
    model_info: ModelMetadata<'m>,
    capabilities: Vec<&'static str>,
    modified_at: &'static str,
}

#[derive(Serialize)]
struct ModelMetadata<'m> {
    #[serde(rename = "general.architecture")]
    architecture: &'static str,
    /// Clients display it as the model's name.
    #[serde(rename = "general.basename")]
    name: &'m str,
    #[serde(rename = "gpt.context_length", skip_serializing_if = "Option::is_none")]
    context_length: Option<u64>,
}

/// `GET /api/version`.
pub(super) async fn version() -> Response {
    json(&Version { version: VERSION })
}

/// `GET /api/tags`.
pub(super) async fn tags(State(services): State<Arc<Services>>, headers: HeaderMap) -> Response {
    let models = services.models(&headers);
    json(&List { models: named_models(&models).iter().map(|(name, _)| ModelEntry::new(name)).collect() })
}

/// `GET /api/ps`: no model runs on this machine.
pub(super) async fn running() -> Response {
    json(&List { models: Vec::new() })
}

impl Handler<Chat> {
    /// `POST /api/show`.
    pub(super) async fn show(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let id = RequestId::of(&parts);
        self.describe(&parts, body).await.unwrap_or_else(|error| refuse::<Chat>(&error, &id, None))
    }

    async fn describe(&self, parts: &Parts, body: Body) -> Result<Response, ProxyError> {
        let BufferedBody { bytes: body, mut memory } = body::read(&parts.headers, body, &self.body_limits()).await?;
        memory.begin_work(&body).await?;
        let requested_model = off_thread(body.len(), || {
            depth_limit::check(&body)?;
            requested_model(&RawObject::from_body(&body)?)
        })?;
        let models = self.services.models(&parts.headers);
        let name = untagged(&requested_model, &models);
        let model = find(&models, name).ok_or_else(|| unknown_model(&models, name))?;
        Ok(json(&Description::new(model)))
    }
}

/// The requested model; `name` is the former name of the member.
fn requested_model(members: &RawObject<'_>) -> Result<String, ProxyError> {
    let text = |name| members.get(name).filter(|raw| raw.get() != "null").map(|raw| Field::root(name, raw).text());
    let named = text("model").or_else(|| text("name")).transpose()?;
    named.filter(|name| !name.trim().is_empty()).map(String::from).ok_or_else(|| Refusal::missing("model"))
}

impl<'m> ModelEntry<'m> {
    fn new(name: &'m str) -> Self {
        let digest = format!("{:x}", Sha256::digest(name));
        Self { name, model: name, modified_at: NO_DATE, size: 0, digest, details: Details::NEUTRAL }
    }
}

impl Details {
    const NEUTRAL: Self = Self {
        parent_model: "",
        format: "",
        family: ARCHITECTURE,
        families: [ARCHITECTURE],
        parameter_size: "",
        quantization_level: "",
    };
}

impl<'m> Description<'m> {
    fn new(model: &'m Model) -> Self {
        let window = model.context_window;
        Self {
            modelfile: "",
            // For clients that don't read the context length.
            parameters: window.map(|tokens| format!("num_ctx {tokens}")).unwrap_or_default(),
            template: TEMPLATE,
            details: Details::NEUTRAL,
            model_info: ModelMetadata { architecture: ARCHITECTURE, name: &model.display_name, context_length: window },
            capabilities: capabilities(model),
            modified_at: NO_DATE,
        }
    }
}

fn capabilities(model: &Model) -> Vec<&'static str> {
    let thinks = model.efforts.iter().any(|effort| *effort != Effort::None);
    let sees = model.input_modalities.iter().any(|kind| kind == "image");
    let all = [("completion", true), ("tools", true), ("thinking", thinks), ("vision", sees)];
    all.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::capabilities;
    use crate::protocol::models::Catalogue;

    #[test]
    fn capabilities_come_from_the_catalog() {
        let json = br#"{"models":[{"slug":"a"},{"slug":"b","input_modalities":["text","image"],
            "supported_reasoning_levels":["none","high"]},{"slug":"c","supported_reasoning_levels":["none"]}]}"#;
        let catalogue = Catalogue::parse(json).unwrap();
        let actual: Vec<_> = catalogue.models().iter().map(capabilities).collect();
        let least = vec!["completion", "tools"];
        assert_eq!(actual, [least.clone(), vec!["completion", "tools", "thinking", "vision"], least]);
    }
}
