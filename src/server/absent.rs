//! What OpenAI's API has and a ChatGPT subscription has not.
//!
//! A client that is pointed here with everything it has will ask for these too. It is told what to
//! set up instead, at once and for good, rather than that the path is unknown.

use axum::Router;
use axum::extract::Request;
use axum::routing::any;

use super::routes::refuse;
use crate::error::ProxyError;

/// A service that is not there.
struct Absent {
    paths: &'static [&'static str],
    service: &'static str,
    instead: &'static str,
}

const ABSENT: [Absent; 4] = [
    Absent {
        paths: &["/v1/embeddings"],
        service: "embeddings",
        instead: "set a local embedder (Ollama, for one) or another provider as the embedding model of your client",
    },
    Absent {
        paths: &["/v1/audio", "/v1/audio/{*rest}"],
        service: "speech or transcription",
        instead: "set a local speech program or another provider for voice in your client",
    },
    Absent {
        paths: &["/v1/images", "/v1/images/{*rest}"],
        service: "image endpoint",
        instead: "ask for pictures in a chat completion with the tool {\"type\": \"image_generation\"}",
    },
    Absent {
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
            refuse(&ProxyError::NotOffered { service: absent.service, instead: absent.instead }, &request)
        };
        router.route(path, any(answer))
    })
}
