//! What OpenAI's API has, or Ollama's, and a ChatGPT subscription has not.
//!
//! A client that is pointed here with everything it has will ask for these too. It is told what to
//! set up instead, at once and for good, rather than that the path is unknown. Uploads are told so
//! too: the door, which takes JSON only, lets them through to here, where no body is used.

use axum::Router;
use axum::extract::Request;
use axum::routing::any;
use http::header::CONTENT_TYPE;
use http::request::Parts;

use super::api_flavor::refuse_unread;
use super::paths;
use crate::error::ProxyError;

/// A service that is not there.
struct UnsupportedApi {
    paths: &'static [&'static str],
    service: &'static str,
    instead: &'static str,
}

const ABSENT: [UnsupportedApi; 5] = [
    UnsupportedApi {
        paths: &["/v1/embeddings", "/api/embed", "/api/embeddings"],
        service: "embeddings",
        instead: "set a local embedder (Ollama, for one) or another provider as the embedding model of your client",
    },
    UnsupportedApi {
        paths: &["/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/{*rest}"],
        service: "models to load, change or delete",
        instead: "all that it has can be used at once, and GET /api/tags lists them",
    },
    UnsupportedApi {
        paths: &["/v1/audio", "/v1/audio/{*rest}"],
        service: "speech or transcription",
        instead: "set a local speech program or another provider for voice in your client",
    },
    UnsupportedApi {
        paths: &["/v1/images", "/v1/images/{*rest}"],
        service: "image endpoint",
        instead: "ask for pictures in a chat completion with the tool {\"type\": \"image_generation\"}",
    },
    UnsupportedApi {
        paths: &["/v1/moderations"],
        service: "moderation endpoint",
        instead: "switch moderation off in your client, or set another provider for it",
    },
];

/// Answers these paths, whatever the method.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let paths = ABSENT.iter().flat_map(|absent| absent.paths.iter().map(move |path| (path, absent)));
    paths.fold(Router::new(), |router, (path, absent)| {
        let answer = move |request: Request| async move {
            refuse_unread(&ProxyError::NotOffered { service: absent.service, instead: absent.instead }, request).await
        };
        router.route(path, any(answer))
    })
}

/// Whether a request uploads something to one of these paths, as a client does with a recording.
pub(super) fn is_upload(request: &Parts) -> bool {
    let kind = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = paths::canonical(request.uri.path()).path;
    let covers = |place: &&str| match place.strip_suffix("{*rest}") {
        Some(folder) => path.starts_with(folder),
        None => path == **place,
    };
    kind.starts_with("multipart/form-data") && ABSENT.iter().flat_map(|absent| absent.paths).any(covers)
}
