//! Maps paths to handlers, and builds the middleware around them.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use http::header::HOST;
use http::{HeaderValue, StatusCode};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::api_flavor::{ApiFlavor, has_google_header, refuse_unread};
use super::audio::Transcriptions;
use super::background::BackgroundRuns;
use super::batches::{self, BatchRunner, Batches};
use super::files::{self, Uploads};
use super::handler::{Handler, Limits};
use super::images::Images;
use super::internal_request::InternalRoutes;
use super::item_replay::ReasoningReplay;
use super::listen::Shutdown;
use super::middleware::{self, PolicySource};
use super::paths::{CanonicalPath, DoubledPrefix};
use super::relay::Relay;
use super::request_log::RequestId;
use super::responses_api::StoredResponses;
use super::side_request::SideEndpoint;
use super::state::ServerState;
use super::websocket::WebSocketHandler;
use super::{
    Backend, Services, Settings, conversations, gemini, health, metrics, models, ollama_models, page, paths,
    responses_api, unsupported, usage,
};
use crate::error::ProxyError;
use crate::protocol::chat::Chat;
use crate::protocol::completions::Completions;
use crate::protocol::images::Operation;
use crate::protocol::messages::Messages;
use crate::protocol::ollama;
use crate::protocol::responses::{self, BackgroundSupport, Compaction, Responses};
use crate::token_source::CredentialSource;

/// The service, and what runs without a connection.
pub(super) struct Routes {
    pub(super) router: Router,
    /// The responses in the background.
    pub(super) background: Arc<BackgroundRuns>,
    pub(super) batches: BatchRunner,
}

/// Builds the service: middleware around the routes, which match canonical paths. Cancelling `abort` ends open
/// responses with an error.
pub(super) fn service(
    settings: &Settings,
    services: &Arc<Services>,
    own_addresses: Arc<[IpAddr]>,
    abort: &CancellationToken,
    shutdown: Shutdown,
) -> Routes {
    let state = Arc::new(ServerState::new(settings, services));
    let chat = Handler::<Chat> {
        services: Arc::clone(services),
        options: Arc::clone(&services.chat),
        reasoning: if services.replays_reasoning { ReasoningReplay::On } else { ReasoningReplay::Off },
        limits: Limits {
            body_bytes: settings.body_limit_bytes,
            body_read: settings.body_read,
            keepalive: settings.keepalive,
        },
        background: None,
        abort: abort.clone(),
        state: Arc::clone(&state),
    };
    // Clients of this API send reasoning back themselves.
    let responses = chat.for_dialect::<Responses>(Arc::new(responses_options(services)), ReasoningReplay::Off);
    let background = BackgroundRuns::new(responses.clone(), settings.background_concurrency, shutdown.clone());
    let sockets = WebSocketHandler::new(&responses, settings.socket_lifetime, shutdown);
    let relayed = relay_routes(&responses);
    let media = media_routes(settings, &responses);
    let batches = Batches::new(services, &state, responses.limits);
    let uploads = Uploads::new(services, &state, responses.limits);
    let metrics_state = Arc::clone(&state);
    let metrics = move |State(services), request| metrics::show(services, metrics_state, request);
    let api = Router::new()
        .merge(messages_routes(&chat))
        .merge(ollama_routes(&chat))
        .merge(gemini::routes(&chat))
        .merge(chat_routes(chat))
        .merge(conversations::routes(&responses))
        .merge(responses_routes(sockets, responses, &background))
        .merge(page_routes(&state))
        .merge(relayed)
        .merge(media)
        .merge(file_routes(uploads))
        .merge(batch_routes(batches))
        .merge(unsupported::routes())
        .route("/v1/models", only("GET, HEAD", get(models::list)))
        .route("/v1/models/{*id}", only("GET, HEAD", get(models::retrieve)))
        .route("/health", only("GET, HEAD", get(health::health)))
        .route("/ready", only("GET, HEAD", get(health::ready)))
        .route("/metrics", only("GET, HEAD", get(metrics)))
        .fallback(unknown_path)
        .with_state(Arc::clone(services));
    let internal = internal_routes(api.clone(), services);
    let batches = BatchRunner::new(settings, services, &state, internal);
    // The router is nested as a service, so that the path is rewritten before it is matched.
    let canonical = move |request: Request| {
        let api = api.clone();
        async move { api.oneshot(with_canonical_path(request)).await.unwrap_or_else(|never| match never {}) }
    };
    let router = with_middleware(Router::new().fallback(canonical), services, own_addresses, &state);
    Routes { router, background, batches }
}

/// Adds the middleware that all requests of connections pass.
fn with_middleware(
    canonical: Router,
    services: &Services,
    own_addresses: Arc<[IpAddr]>,
    state: &ServerState,
) -> Router {
    let policy_source = PolicySource {
        live: services.live.clone(),
        own_addresses,
        backend: services.backend,
        credentials: services.tokens.credentials(),
        refusals: Arc::clone(&state.refusals),
    };
    canonical
        .layer(from_fn(middleware::authorize))
        .layer(from_fn_with_state(services.backend, mark_simulated))
        .layer(from_fn(middleware::catch_panics))
        .layer(from_fn(identify))
        .layer(from_fn_with_state(policy_source, middleware::attach_policy))
}

/// The settings of the Responses API, and whether requests may run in the background.
fn responses_options(services: &Services) -> responses::Options {
    let background = match services.tokens.credentials() {
        CredentialSource::Store => BackgroundSupport::Available,
        CredentialSource::Client => BackgroundSupport::NoLogin,
    };
    responses::Options { background, ..responses::Options::clone(&services.responses) }
}

/// The routes for the daemon's own requests, which name canonical paths.
fn internal_routes(routes: Router, services: &Services) -> InternalRoutes {
    let routes = routes.layer(from_fn(middleware::catch_panics)).layer(from_fn(identify));
    InternalRoutes::new(routes, services.live.clone())
}

/// Chat Completions, and the legacy Completions API.
fn chat_routes(chat: Handler<Chat>) -> Router<Arc<Services>> {
    let options = Arc::new(chat.options.common());
    // Requests have no tool calls, which items are stored under.
    let completions = chat.for_dialect::<Completions>(options, ReasoningReplay::Off);
    Router::new()
        .route("/v1/chat/completions", only("POST", post(move |request: Request| chat.clone().handle(request))))
        .route("/v1/completions", only("POST", post(move |request: Request| completions.clone().handle(request))))
}

/// The Responses API.
fn responses_routes(
    sockets: WebSocketHandler,
    handler: Handler<Responses>,
    background: &Arc<BackgroundRuns>,
) -> Router<Arc<Services>> {
    let stored = StoredResponses::new(&handler.services.history, background);
    let handler = Handler { background: Some(Arc::clone(background)), ..handler };
    let counter = handler.clone();
    let compactor = handler.for_dialect::<Compaction>(Arc::clone(&handler.options), ReasoningReplay::Off);
    let create = post(move |request: Request| handler.clone().handle(request));
    let create = create.get(move |request: Request| sockets.clone().open(request));
    Router::new()
        .route("/v1/responses", only("GET, POST", create))
        .route("/v1/responses/input_tokens", only("POST", post(move |request: Request| counter.clone().count(request))))
        .route("/v1/responses/compact", only("POST", post(move |request: Request| compactor.clone().handle(request))))
        .route(
            "/v1/responses/{id}",
            only("GET, HEAD, DELETE", get(responses_api::retrieve).delete(responses_api::delete)),
        )
        .route("/v1/responses/{id}/input_items", only("GET, HEAD", get(responses_api::input_items)))
        .route("/v1/responses/{id}/cancel", only("POST", post(responses_api::cancel)))
        .layer(Extension(stored))
}

/// The Messages API.
fn messages_routes(base: &Handler<Chat>) -> Router<Arc<Services>> {
    let options = Arc::new(base.options.common());
    // Clients of this API send reasoning back themselves.
    let handler = base.for_dialect::<Messages>(options, ReasoningReplay::Off);
    let counter = handler.clone();
    Router::new()
        .route("/v1/messages", only("POST", post(move |request: Request| handler.clone().handle(request))))
        .route("/v1/messages/count_tokens", only("POST", post(move |request: Request| counter.clone().count(request))))
}

/// The page and its data.
fn page_routes(state: &Arc<ServerState>) -> Router<Arc<Services>> {
    let (usage_state, page_state) = (Arc::clone(state), Arc::clone(state));
    let page = get(move |State(services), request: Request| page::show(services, page_state, request));
    Router::new()
        .route(
            "/usage",
            only("GET, HEAD", get(move |State(services), request| usage::show(services, usage_state, request))),
        )
        // Claude Code and Ollama clients send a HEAD request first.
        .route("/", only("GET, HEAD", page.head(async || StatusCode::OK)))
}

/// Ollama's API.
fn ollama_routes(base: &Handler<Chat>) -> Router<Arc<Services>> {
    let options = Arc::new(base.options.common());
    let chat = base.for_dialect::<ollama::Chat>(Arc::clone(&options), base.reasoning);
    // Requests have no tool calls, which items are stored under.
    let generate = base.for_dialect::<ollama::Generate>(options, ReasoningReplay::Off);
    let describer = chat.clone();
    Router::new()
        .route("/api/chat", only("POST", post(move |request: Request| chat.clone().handle(request))))
        .route("/api/generate", only("POST", post(move |request: Request| generate.clone().handle(request))))
        .route("/api/show", only("POST", post(move |request: Request| describer.clone().show(request))))
        .route("/api/tags", only("GET, HEAD", get(ollama_models::tags)))
        .route("/api/ps", only("GET, HEAD", get(ollama_models::running)))
        .route("/api/version", only("GET, HEAD", get(ollama_models::version)))
}

/// The backend's other endpoints, for Codex clients.
fn relay_routes(handler: &Handler<Responses>) -> Router<Arc<Services>> {
    let relayed = |relay| {
        let endpoint = SideEndpoint::new(relay, handler);
        move |request: Request| endpoint.clone().handle(request)
    };
    let posted = [
        ("/v1/alpha/search", Relay::Search),
        ("/v1/alpha/notes/v2/{operation}", Relay::Notes),
        ("/v1/alpha/history/v2/{operation}", Relay::History),
        ("/v1/memories/trace_summarize", Relay::Memories),
    ];
    let routes = posted
        .into_iter()
        .fold(Router::new(), |routes, (path, relay)| routes.route(path, only("POST", post(relayed(relay)))));
    Relay::ACCOUNT.into_iter().fold(routes, |routes, relay| {
        let Relay::Account(document) = relay else { return routes };
        routes
            .route(&format!("/backend-api/wham/{document}"), only("GET, HEAD", get(relayed(relay))))
            .route(&format!("/api/codex/{document}"), only("GET, HEAD", get(relayed(relay))))
    })
}

/// The Images API, and transcription.
fn media_routes(settings: &Settings, handler: &Handler<Responses>) -> Router<Arc<Services>> {
    let images = |operation| {
        let endpoint = SideEndpoint::new(Images::new(operation, settings), handler);
        post(move |request: Request| endpoint.clone().handle(request))
    };
    let transcriptions = SideEndpoint::new(Transcriptions::new(settings), handler);
    let transcribe = post(move |request: Request| transcriptions.clone().handle(request));
    Router::new()
        .route("/v1/images/generations", only("POST", images(Operation::Generation)))
        .route("/v1/images/edits", only("POST", images(Operation::Edit)))
        .route("/v1/audio/transcriptions", only("POST", transcribe))
}

/// Uploaded files.
fn file_routes(uploads: Uploads) -> Router<Arc<Services>> {
    let create = get(files::list).post(move |request: Request| uploads.clone().create(request));
    Router::new()
        .route("/v1/files", only("GET, HEAD, POST", create))
        .route("/v1/files/{id}", only("GET, HEAD, DELETE", get(files::retrieve).delete(files::delete)))
        .route("/v1/files/{id}/content", only("GET, HEAD", get(files::content)))
}

/// Batches.
fn batch_routes(batches: Batches) -> Router<Arc<Services>> {
    let canceller = batches.clone();
    let create = get(batches::list).post(move |request: Request| batches.clone().create(request));
    let cancel = post(move |path, request: Request| canceller.clone().cancel(path, request));
    Router::new()
        .route("/v1/batches", only("GET, HEAD, POST", create))
        .route("/v1/batches/{id}", only("GET, HEAD", get(batches::retrieve)))
        .route("/v1/batches/{id}/cancel", only("POST", cancel))
}

/// Completes a route: other methods get 405 with the list of allowed ones.
pub(super) fn only(allowed: &'static str, route: MethodRouter<Arc<Services>>) -> MethodRouter<Arc<Services>> {
    route.fallback(move |request: Request| async move {
        let method = request.method().to_string();
        refuse_unread(&ProxyError::MethodNotAllowed { method, allowed: allowed.to_owned() }, request).await
    })
}

/// Responds with 404; if the path had a doubled prefix, with the base URL to configure.
async fn unknown_path(request: Request) -> Response {
    let method = request.method().to_string();
    let error = match request.extensions().get::<DoubledPrefix>() {
        Some(DoubledPrefix { path, prefix }) => {
            let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
            let base = host.map_or_else(|| "the address without a path".to_owned(), |host| format!("http://{host}"));
            ProxyError::DoubledPath { path: path.clone(), prefix, base }
        }
        None => ProxyError::UnknownPath { method, path: request.uri().path().to_owned() },
    };
    refuse_unread(&error, request).await
}

/// Replaces the path by its canonical form. Attaches the model that it names, and its doubled prefix.
fn with_canonical_path(mut request: Request) -> Request {
    let Some(CanonicalPath { path, model, doubled }) = request.extensions_mut().remove() else { return request };
    if let Some(uri) = paths::with_path(request.uri(), &path) {
        *request.uri_mut() = uri;
    }
    if let Some(model) = model {
        request.extensions_mut().insert(model);
    }
    if let Some(doubled) = doubled {
        request.extensions_mut().insert(doubled);
    }
    request
}

/// Marks every response of the demo or a replay.
async fn mark_simulated(State(backend): State<Backend>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let header = match backend {
        Backend::ChatGpt => None,
        Backend::Demo => Some("x-proxy-demo"),
        Backend::Replay => Some("x-proxy-replay"),
    };
    if let Some(header) = header {
        response.headers_mut().insert(header, HeaderValue::from_static("true"));
    }
    response
}

/// Attaches what later layers need: the request id, the canonical path and the API. Adds the id to the response.
async fn identify(mut request: Request, next: Next) -> Response {
    let id = RequestId::fresh();
    let path = CanonicalPath::of(request.uri().path());
    let path = if has_google_header(request.headers()) { path.for_gemini() } else { path };
    let flavor = ApiFlavor::detect(&path.path, request.headers());
    let extensions = request.extensions_mut();
    extensions.insert(id.clone());
    extensions.insert(path);
    extensions.insert(flavor);
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::try_from(id.0) {
        if flavor == ApiFlavor::Anthropic {
            response.headers_mut().insert("request-id", value.clone());
        }
        response.headers_mut().insert("x-request-id", value);
    }
    response
}
