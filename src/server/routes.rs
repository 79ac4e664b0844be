//! Which path is served by what, and what every answer carries.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, any, get, post};
use http::header::{UPGRADE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::exchange::{Exchange, Limits, faced};
use super::gate::Gate;
use super::observe::RequestId;
use super::{Backend, Services, Settings, models, paths, probes, stored};
use crate::error::ProxyError;
use crate::protocol::Dialect;
use crate::protocol::chat::Chat;
use crate::protocol::responses::Responses;

/// The whole service: what every request passes, then the routes on canonical paths.
pub(super) fn service(settings: &Settings, services: &Arc<Services>, gate: Gate, cut: &CancellationToken) -> Router {
    let limits = Limits { body_bytes: settings.body_limit_bytes, keepalive: settings.keepalive };
    let chat = Exchange::<Chat> {
        services: Arc::clone(services),
        options: Arc::clone(&services.chat),
        limits,
        cut: cut.clone(),
    };
    let responses = Exchange::<Responses> {
        services: Arc::clone(services),
        options: Arc::clone(&services.responses),
        limits,
        cut: cut.clone(),
    };
    let routes = Router::new()
        .route("/v1/chat/completions", only("POST", post(move |request: Request| chat.clone().answer(request))))
        .merge(responses_routes(responses))
        .route("/v1/models", only("GET, HEAD", get(models::list)))
        .route("/v1/models/{*id}", only("GET, HEAD", get(models::retrieve)))
        .route("/health", only("GET, HEAD", get(probes::health)))
        .route("/ready", only("GET, HEAD", get(probes::ready)))
        .fallback(unknown_path)
        .with_state(Arc::clone(services));
    // Paths are rewritten before the router looks at them, so the router is a service of its own here.
    let canonical = move |request: Request| {
        let routes = routes.clone();
        async move { routes.oneshot(with_canonical_path(request)).await.unwrap_or_else(|never| match never {}) }
    };
    Router::new()
        .fallback(canonical)
        .layer(from_fn_with_state(Arc::new(gate), admit))
        .layer(from_fn_with_state(services.backend, stamp))
        .layer(from_fn(name_request))
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
        refuse(&ProxyError::MethodNotAllowed { method, allowed: allowed.to_owned() }, &request)
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
    refuse(&error, &request)
}

/// An error of a path that no dialect has answered, in OpenAI's words.
pub(super) fn refuse(error: &ProxyError, request: &Request) -> Response {
    let id = request.extensions().get::<RequestId>().map(|id| id.0.as_str()).unwrap_or_default();
    let (status, headers, body) = Chat::face(error, id);
    faced(status, headers, body)
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

async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match gate.admit(&parts) {
        Ok(key) => {
            key.map(|key| parts.extensions.insert(key));
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => {
            tracing::info!(error = %error, "request refused at the door");
            let mut response = refuse(&error, &Request::from_parts(parts, body));
            if matches!(error, ProxyError::KeyRequired) {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
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
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::try_from(id.0) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}
