//! Which path is served by what, and what every answer carries.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, any, get, post};
use http::header::UPGRADE;
use http::{HeaderValue, StatusCode};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::doors::{self, InForce};
use super::exchange::{Exchange, Limits, faced};
use super::metrics::{Metrics, Traffic};
use super::observe::RequestId;
use super::places::Places;
use super::{Backend, Services, Settings, absent, body, metrics, models, paths, probes, stored};
use crate::error::ProxyError;
use crate::protocol::Dialect;
use crate::protocol::chat::Chat;
use crate::protocol::completions::{self, Completions};
use crate::protocol::messages::{self, Messages};
use crate::protocol::responses::Responses;

/// The whole service: what every request passes, then the routes on canonical paths.
pub(super) fn service(
    settings: &Settings,
    services: &Arc<Services>,
    own_addresses: Arc<[IpAddr]>,
    cut: &CancellationToken,
) -> Router {
    let limits = Limits { body_bytes: settings.body_limit_bytes, keepalive: settings.keepalive };
    let places = Places::new(settings.concurrency, settings.queue, settings.queue_wait);
    let traffic = Arc::new(Traffic { places, metrics: Metrics::default() });
    let chat = Exchange::<Chat> {
        services: Arc::clone(services),
        options: Arc::clone(&services.chat),
        reasoning: services.reasoning.clone(),
        limits,
        cut: cut.clone(),
        traffic: Arc::clone(&traffic),
    };
    let completions = Exchange::<Completions> {
        services: Arc::clone(services),
        options: Arc::new(completions::Options { default_instructions: services.chat.default_instructions.clone() }),
        // There are no calls that it could lead to.
        reasoning: None,
        limits,
        cut: cut.clone(),
        traffic: Arc::clone(&traffic),
    };
    let messages = Exchange::<Messages> {
        services: Arc::clone(services),
        options: Arc::new(messages::Options { default_instructions: services.chat.default_instructions.clone() }),
        // Its clients carry reasoning themselves.
        reasoning: None,
        limits,
        cut: cut.clone(),
        traffic: Arc::clone(&traffic),
    };
    let responses = Exchange::<Responses> {
        services: Arc::clone(services),
        options: Arc::clone(&services.responses),
        // Its clients carry their own.
        reasoning: None,
        limits,
        cut: cut.clone(),
        traffic: Arc::clone(&traffic),
    };
    let routes = Router::new()
        .route("/v1/chat/completions", only("POST", post(move |request: Request| chat.clone().answer(request))))
        .route("/v1/completions", only("POST", post(move |request: Request| completions.clone().answer(request))))
        .route("/v1/messages", only("POST", post(move |request: Request| messages.clone().answer(request))))
        .merge(responses_routes(responses))
        .merge(absent::routes())
        .route("/v1/models", only("GET, HEAD", get(models::list)))
        .route("/v1/models/{*id}", only("GET, HEAD", get(models::retrieve)))
        .route("/health", only("GET, HEAD", get(probes::health)))
        .route("/ready", only("GET, HEAD", get(probes::ready)))
        .route("/metrics", only("GET, HEAD", get(move |State(services)| metrics::page(services, traffic))))
        .fallback(unknown_path)
        .with_state(Arc::clone(services));
    // Paths are rewritten before the router looks at them, so the router is a service of its own here.
    let canonical = move |request: Request| {
        let routes = routes.clone();
        async move { routes.oneshot(with_canonical_path(request)).await.unwrap_or_else(|never| match never {}) }
    };
    Router::new()
        .fallback(canonical)
        .layer(from_fn(doors::admit))
        .layer(from_fn_with_state(services.backend, stamp))
        .layer(from_fn(doors::contain))
        .layer(from_fn(name_request))
        .layer(from_fn_with_state(InForce { live: services.live.clone(), own_addresses }, doors::share))
}

/// The Responses API.
fn responses_routes(exchange: Exchange<Responses>) -> Router<Arc<Services>> {
    let counter = exchange.clone();
    let create = post(move |request: Request| exchange.clone().answer(request)).get(no_websocket);
    Router::new()
        .route("/v1/responses", only("POST", create))
        .route("/v1/responses/input_tokens", only("POST", post(move |request: Request| counter.clone().count(request))))
        // Not the id of an answer.
        .route("/v1/responses/compact", any(unknown_path))
        .route("/v1/responses/{id}", only("GET, HEAD, DELETE", get(stored::retrieve).delete(stored::delete)))
        .route("/v1/responses/{id}/input_items", only("GET, HEAD", get(stored::input_items)))
        .route("/v1/responses/{id}/cancel", only("POST", post(stored::cancel)))
}

/// A route that answers any other method with the list of those it has.
fn only(allowed: &'static str, route: MethodRouter<Arc<Services>>) -> MethodRouter<Arc<Services>> {
    route.fallback(move |request: Request| async move {
        let method = request.method().to_string();
        turn_away(&ProxyError::MethodNotAllowed { method, allowed: allowed.to_owned() }, request).await
    })
}

/// A client that asks for a WebSocket is sent to plain HTTP at once: it waits for nothing then.
async fn no_websocket(request: Request) -> Response {
    let error = ProxyError::MethodNotAllowed { method: request.method().to_string(), allowed: "POST".to_owned() };
    let mut response = refuse(&error, &request);
    if request.headers().contains_key(UPGRADE) {
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    }
    response
}

async fn unknown_path(request: Request) -> Response {
    let error = ProxyError::UnknownPath { method: request.method().to_string(), path: request.uri().path().to_owned() };
    turn_away(&error, request).await
}

/// Refuses a request whose body nobody has read.
pub(super) async fn turn_away(error: &ProxyError, request: Request) -> Response {
    let response = refuse(error, &request);
    let (parts, body) = request.into_parts();
    body::discard(&parts.headers, body).await;
    response
}

/// An error of a path that no dialect has answered, in the words of the client's own service.
pub(super) fn refuse(error: &ProxyError, request: &Request) -> Response {
    let id = request.extensions().get::<RequestId>().map(|id| id.0.as_str()).unwrap_or_default();
    worded(Vendor::of(request), error, id)
}

/// The same for a request that is gone.
pub(super) fn worded(vendor: Vendor, error: &ProxyError, id: &str) -> Response {
    let (status, headers, body) = match vendor {
        Vendor::OpenAi => Chat::face(error, id),
        Vendor::Anthropic => Messages::face(error, id),
    };
    faced(status, headers, body)
}

/// Whose API a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vendor {
    OpenAi,
    Anthropic,
}

impl Vendor {
    /// Paths that both have are told apart by a header that Anthropic's clients always send.
    pub(super) fn of(request: &Request) -> Self {
        let (path, _) = paths::canonical(request.uri().path());
        let is_messages =
            path.strip_prefix("/v1/messages").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_messages || request.headers().contains_key("anthropic-version") { Self::Anthropic } else { Self::OpenAi }
    }
}

fn with_canonical_path(mut request: Request) -> Request {
    let (path, model) = paths::canonical(request.uri().path());
    if let Some(uri) = paths::with_path(request.uri(), &path) {
        *request.uri_mut() = uri;
    }
    if let Some(model) = model {
        request.extensions_mut().insert(model);
    }
    request
}

/// Nobody shall take the demo for a model.
async fn stamp(State(backend): State<Backend>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if backend == Backend::Demo {
        response.headers_mut().insert("x-proxy-demo", HeaderValue::from_static("true"));
    }
    response
}

async fn name_request(mut request: Request, next: Next) -> Response {
    let id = RequestId::fresh();
    request.extensions_mut().insert(id.clone());
    let vendor = Vendor::of(&request);
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::try_from(id.0) {
        if vendor == Vendor::Anthropic {
            response.headers_mut().insert("request-id", value.clone());
        }
        response.headers_mut().insert("x-request-id", value);
    }
    response
}
