//! Endpoints of OpenAI's and Ollama's APIs that a ChatGPT subscription doesn't provide.
//!
//! The error says what to configure instead. Uploads to these endpoints get it too, although the access policy accepts
//! forms only where they are needed; their bodies are discarded.

use axum::Router;
use axum::extract::Request;
use axum::routing::any;
use http::request::Parts;

use super::api_flavor::refuse_unread;
use super::multipart::is_multipart;
use super::paths::CanonicalPath;
use crate::error::ProxyError;

/// An API that isn't provided.
struct UnsupportedApi {
    paths: &'static [&'static str],
    /// The service that the subscription doesn't provide, for the error.
    service: &'static str,
    instead: &'static str,
}

const UNSUPPORTED: [UnsupportedApi; 6] = [
    UnsupportedApi {
        paths: &["/v1/embeddings", "/api/embed", "/api/embeddings"],
        service: "embeddings",
        instead: "configure a local embedding model (such as Ollama) or another provider for embeddings in your client",
    },
    UnsupportedApi {
        paths: &["/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/{*rest}"],
        service: "models to load, change or delete",
        instead: "all models are ready to use, and GET /api/tags lists them",
    },
    UnsupportedApi {
        paths: &["/v1/audio/speech", "/v1/audio/translations"],
        service: "API for speech or for translating audio",
        instead: "configure a local speech program or another provider for voice in your client (transcriptions are \
                  served at /v1/audio/transcriptions)",
    },
    UnsupportedApi {
        paths: &["/v1/images", "/v1/images/variations"],
        service: "image endpoint at this path",
        instead: "use /v1/images/generations or /v1/images/edits",
    },
    UnsupportedApi {
        paths: &["/v1/moderations"],
        service: "moderation endpoint",
        instead: "turn moderation off in your client, or configure another provider for it",
    },
    UnsupportedApi {
        paths: &["/v1/realtime", "/v1/realtime/{*rest}"],
        service: "realtime voice API",
        instead: "use the ChatGPT app for voice",
    },
];

/// The routes, which respond with the error to every method.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let paths = UNSUPPORTED.iter().flat_map(|api| api.paths.iter().map(move |path| (path, api)));
    paths.fold(Router::new(), |router, (path, api)| {
        let refuse = move |request: Request| async move {
            refuse_unread(&ProxyError::NotOffered { service: api.service, instead: api.instead }, request).await
        };
        router.route(path, any(refuse))
    })
}

/// Whether a request uploads a file to one of these paths, such as an audio file to translate.
pub(super) fn is_upload(request: &Parts) -> bool {
    let path = request.extensions.get::<CanonicalPath>().map(|canonical| canonical.path.as_str()).unwrap_or_default();
    let covers = |route: &&str| match route.strip_suffix("{*rest}") {
        Some(folder) => path.starts_with(folder),
        None => path == *route,
    };
    is_multipart(&request.headers) && UNSUPPORTED.iter().flat_map(|api| api.paths).any(covers)
}
