//! What Ollama's clients ask before they ask a model: the version, the models, and what each can do.
//!
//! Clients pick models by what is said of them here, so that everything comes from the catalogue, and
//! what it does not say is left out. Models are not files, and nothing has to be loaded.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::body::{self, BufferedBody};
use super::handler::{Handler, refuse};
use super::models::{NO_DATE, find, json, named, unknown_model};
use super::request_log::RequestId;
use super::{Services, depth_limit};
use crate::blocking::off_thread;
use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::models::{Effort, Model};
use crate::protocol::ollama::{Chat, untagged};

/// The release of Ollama whose API this is; clients refuse one that is older than they need.
const VERSION: &str = "0.34.0";

/// What kind of model it is, under which clients look for the window.
const ARCHITECTURE: &str = "gpt";

/// Clients of an older kind look into the template for what a model takes.
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
    /// It takes no room here.
    size: u64,
    /// Some clients tell models apart by it.
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
    /// Clients show it as the model's name.
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
pub(super) async fn tags(State(services): State<Arc<Services>>) -> Response {
    let models = services.models();
    json(&List { models: named(&models).iter().map(|(name, _)| ModelEntry::new(name)).collect() })
}

/// `GET /api/ps`: nothing runs on this machine.
pub(super) async fn running() -> Response {
    json(&List { models: Vec::new() })
}

impl Handler<Chat> {
    /// `POST /api/show`.
    pub(super) async fn show(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let id = parts.extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::fresh);
        self.shown(&parts, body).await.unwrap_or_else(|error| refuse::<Chat>(&error, &id, None))
    }

    async fn shown(&self, parts: &Parts, body: Body) -> Result<Response, ProxyError> {
        let BufferedBody { bytes: body, mut memory } = body::read(&parts.headers, body, &self.intake()).await?;
        memory.begin_work(&body).await?;
        let asked = off_thread(body.len(), || {
            depth_limit::check(&body)?;
            asked(&RawObject::from_body(&body)?)
        })?;
        let models = self.services.models();
        let name = untagged(&asked, &models);
        let model = find(&models, name).ok_or_else(|| unknown_model(&models, name))?;
        Ok(json(&Description::new(model)))
    }
}

/// The model that is asked about; `name` is what the member was called before.
fn asked(members: &RawObject<'_>) -> Result<String, ProxyError> {
    let text = |name| members.get(name).filter(|raw| raw.get() != "null").map(|raw| Field::root(name, raw).text());
    let named = text("model").or_else(|| text("name")).transpose()?;
    named.filter(|name| !name.trim().is_empty()).map(String::from).ok_or_else(|| Refusal::missing("model"))
}

impl<'m> ModelEntry<'m> {
    fn new(name: &'m str) -> Self {
        let digest = Sha256::digest(name.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        Self { name, model: name, modified_at: NO_DATE, size: 0, digest, details: Details::USUAL }
    }
}

impl Details {
    const USUAL: Self = Self {
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
            // Where clients look that don't know the window's other place.
            parameters: window.map(|tokens| format!("num_ctx {tokens}")).unwrap_or_default(),
            template: TEMPLATE,
            details: Details::USUAL,
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
    fn capabilities_are_what_the_catalogue_says() {
        let json = br#"{"models":[{"slug":"a"},{"slug":"b","input_modalities":["text","image"],
            "supported_reasoning_levels":["none","high"]},{"slug":"c","supported_reasoning_levels":["none"]}]}"#;
        let catalogue = Catalogue::parse(json).unwrap();
        let told: Vec<_> = catalogue.models().iter().map(capabilities).collect();
        let least = vec!["completion", "tools"];
        assert_eq!(told, [least.clone(), vec!["completion", "tools", "thinking", "vision"], least]);
    }
}
