//! `/v1/models` and `/v1beta/models`: the models of the catalog, from memory, in the format of the client's API.

mod anthropic;
mod gemini;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::header::ETAG;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::api_flavor::{ApiFlavor, refuse};
use super::http_response::{json, json_response};
use super::{Services, account};
use crate::error::{Fault, ProxyError, UpstreamFailure};
use crate::protocol::models::{Effort, Model, Models};
use crate::upstream::CatalogueDocument;

/// Placeholder for a model's date, which the catalog doesn't have.
pub(super) const NO_DATE: &str = "1970-01-01T00:00:00Z";

#[derive(Serialize)]
struct List<'m> {
    object: &'static str,
    data: Vec<ModelObject<'m>>,
}

/// A model in OpenAI's format, with extra members for its limits.
#[derive(Serialize)]
struct ModelObject<'m> {
    id: &'m str,
    object: &'static str,
    /// The catalog has no dates.
    created: u64,
    owned_by: &'static str,
    display_name: &'m str,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_window: Option<u64>,
    #[serde(skip_serializing_if = "<[Effort]>::is_empty")]
    reasoning_efforts: &'m [Effort],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    input_modalities: &'m [String],
}

impl<'m> ModelObject<'m> {
    fn new(id: &'m str, model: &'m Model) -> Self {
        Self {
            id,
            object: "model",
            created: 0,
            owned_by: "openai",
            display_name: &model.display_name,
            context_window: model.context_window,
            reasoning_efforts: &model.efforts,
            input_modalities: &model.input_modalities,
        }
    }
}

/// `GET /v1/models`. With the query parameter `client_version`, which the Codex CLI sends: the catalog as the backend
/// sent it. For Anthropic and Gemini clients: a page in the format of their API. Also `GET /v1beta/models`.
pub(super) async fn list(State(services): State<Arc<Services>>, request: Request) -> Response {
    if let Err(error) = account::refresh_catalogue(request.headers(), &services).await {
        return refuse(&error, &request);
    }
    let query = request.uri().query().unwrap_or_default().as_bytes();
    if url::form_urlencoded::parse(query).any(|(name, _)| name == "client_version") {
        let account_id = account::of_client(request.headers(), &services);
        return codex_catalogue(services.upstream.catalogue_document_of(account_id.as_deref()));
    }
    let models = services.models(request.headers());
    let named = named_models(&models);
    match ApiFlavor::of(&request) {
        ApiFlavor::OpenAi | ApiFlavor::Ollama => {
            json(&List { object: "list", data: named.iter().map(|(id, model)| ModelObject::new(id, model)).collect() })
        }
        ApiFlavor::Anthropic => {
            anthropic::page(&named, query).map_or_else(|error| refuse(&error, &request), |page| json(&page))
        }
        ApiFlavor::Gemini => {
            gemini::page(&named, query).map_or_else(|error| refuse(&error, &request), |page| json(&page))
        }
    }
}

/// The response to a Codex client. Without the etag, the client would request the catalog again after each response.
fn codex_catalogue(document: CatalogueDocument) -> Response {
    let mut response = json_response(StatusCode::OK, document.json);
    if let Some(etag) = document.etag.and_then(|etag| HeaderValue::try_from(etag).ok()) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

/// `GET /v1/models/{id}` and `GET /v1beta/models/{id}`: accepts any name that requests may use for a model of the
/// catalog.
pub(super) async fn retrieve(
    State(services): State<Arc<Services>>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // Bytes that aren't UTF-8 match no model.
    let Path(id) = id.unwrap_or_else(|_| Path(String::from(char::REPLACEMENT_CHARACTER)));
    if let Err(error) = account::refresh_catalogue(request.headers(), &services).await {
        return refuse(&error, &request);
    }
    let models = services.models(request.headers());
    match (find(&models, &id), ApiFlavor::of(&request)) {
        (Some(model), ApiFlavor::OpenAi | ApiFlavor::Ollama) => json(&ModelObject::new(&id, model)),
        (Some(model), ApiFlavor::Anthropic) => json(&anthropic::ModelObject::new(&id, model)),
        (Some(model), ApiFlavor::Gemini) => json(&gemini::ModelObject::new(&id, model)),
        (None, _) => refuse(&unknown_model(&models, &id), &request),
    }
}

/// The names that clients are offered: the listed models, then the aliases from the settings; each with its model.
pub(super) fn named_models(models: &Models) -> Vec<(&str, &Model)> {
    let listed = models.catalogue.models().iter().filter(|model| model.is_listed);
    let aliases = models.rules.aliases.keys().filter_map(|alias| Some((alias.as_str(), find(models, alias)?)));
    listed.map(|model| (model.slug.as_str(), model)).chain(aliases).collect()
}

/// The model of the catalog that requests with this name use.
pub(super) fn find<'m>(models: &'m Models, name: &str) -> Option<&'m Model> {
    models.catalogue.find(&models.resolve(name).slug)
}

/// Adds the name of a similar model to an unknown-model error.
pub(super) fn with_model_hint(mut error: ProxyError, models: &Models, slug: &str) -> ProxyError {
    if let ProxyError::Upstream(failure) = &mut error
        && failure.fault == Fault::ModelNotFound
    {
        failure.message = with_hint(&failure.message, models, slug);
    }
    error
}

/// Appends the name of a similar model to a message, if there is one.
fn with_hint(message: &str, models: &Models, id: &str) -> String {
    match models.suggest(id) {
        None => message.to_owned(),
        Some(near) if message.ends_with(['.', '!', '?']) => format!("{message} Did you mean '{near}'?"),
        Some(near) => format!("{message}; did you mean '{near}'?"),
    }
}

/// The error for a name that no model of the catalog has.
pub(super) fn unknown_model(models: &Models, id: &str) -> ProxyError {
    ProxyError::Upstream(Box::new(UpstreamFailure {
        fault: Fault::ModelNotFound,
        status: None,
        code: Some("model_not_found".to_owned()),
        message: with_hint(&format!("the model '{id}' is not in the catalog"), models, id),
        param: Some("model".to_owned()),
        request_id: None,
        retry_after: None,
        resets_at: None,
        headers: HeaderMap::new(),
    }))
}
