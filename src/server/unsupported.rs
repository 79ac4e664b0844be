//! Endpoints of the official APIs that a ChatGPT subscription doesn't provide.
//!
//! Without these routes, a client's user would read 404 and look for a mistake in the base URL. The error says what to
//! configure instead. Uploads to these endpoints get it too, although the access policy accepts
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
    /// Its paths. One that ends in `{*rest}` includes the path without that segment.
    paths: &'static [&'static str],
    /// The service that the subscription doesn't provide, for the error.
    service: &'static str,
    instead: &'static str,
}

const UNSUPPORTED: &[UnsupportedApi] = &[
    UnsupportedApi {
        paths: &[
            "/v1/embeddings",
            "/api/embed",
            "/api/embeddings",
            "/v1beta/models:embedContent",
            "/v1beta/models:batchEmbedContents",
            "/v1beta/models:asyncBatchEmbedContent",
        ],
        service: "embeddings",
        instead: "configure a local embedding model (such as Ollama) or another provider for embeddings in your client",
    },
    UnsupportedApi {
        paths: &["/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/{*rest}"],
        service: "models to load, change or delete",
        instead: "all models are ready to use, and GET /api/tags lists them",
    },
    UnsupportedApi {
        paths: &[
            "/v1/audio/speech",
            "/v1/audio/translations",
            "/v1/audio/voices/{*rest}",
            "/v1/audio/voice_consents/{*rest}",
        ],
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
        paths: &[
            "/v1beta/files/{*rest}",
            "/v1beta/files:register",
            "/upload/v1beta/{*rest}",
            "/v1beta/cachedContents/{*rest}",
        ],
        service: "storage for files or cached content in the Gemini API",
        instead: "send images and PDFs as inlineData in the request",
    },
    UnsupportedApi {
        paths: &[
            "/v1beta/models:batchGenerateContent",
            "/v1beta/models:predict",
            "/v1beta/models:predictLongRunning",
            "/v1beta/models:generateAnswer",
            "/v1beta/batches/{*rest}",
            "/v1beta/tunedModels/{*rest}",
            "/v1beta/fileSearchStores/{*rest}",
            "/v1beta/corpora/{*rest}",
            "/v1beta/operations/{*rest}",
            "/v1beta/interactions/{*rest}",
            "/v1beta/auth_tokens",
            "/v1beta/agents/{*rest}",
            "/v1beta/credentials/{*rest}",
            "/v1beta/decisions",
            "/v1beta/environments/{*rest}",
            "/v1beta/triggers/{*rest}",
            "/v1beta/voices/{*rest}",
            "/v1beta/webhooks/{*rest}",
        ],
        service: "batches, image and video models, tuned models, stores or agents of the Gemini API",
        instead: "use generateContent or streamGenerateContent, or images and batches of the OpenAI API",
    },
    UnsupportedApi {
        paths: &["/v1/moderations"],
        service: "moderation endpoint",
        instead: "turn moderation off in your client, or configure another provider for it",
    },
    UnsupportedApi {
        paths: &["/v1/realtime/{*rest}", "/v1/live/{*rest}"],
        service: "realtime voice API",
        instead: "use the ChatGPT app for voice",
    },
    UnsupportedApi { paths: &["/v1/videos/{*rest}"], service: "video API", instead: "use another provider for videos" },
    UnsupportedApi {
        paths: &["/v1/chat/completions/{id}", "/v1/chat/completions/{id}/messages"],
        service: "stored chat completions",
        instead: "use the Responses API to retrieve a response later (GET /v1/responses/{id})",
    },
    UnsupportedApi {
        paths: &["/v1/uploads/{*rest}"],
        service: "uploads in parts",
        instead: "upload the whole file to /v1/files",
    },
    UnsupportedApi {
        paths: &["/v1/vector_stores/{*rest}"],
        service: "vector stores",
        instead: "configure a local vector database in your client",
    },
    UnsupportedApi {
        paths: &["/v1/assistants/{*rest}", "/v1/threads/{*rest}", "/v1/chatkit/{*rest}", "/v1/agents/{*rest}"],
        service: "assistants, threads or hosted agents",
        instead: "use the Responses API (POST /v1/responses) with tools that your client runs",
    },
    UnsupportedApi {
        paths: &["/v1/containers/{*rest}", "/v1/skills/{*rest}", "/v1/environments/{*rest}"],
        service: "containers, environments or hosted skills",
        instead: "run code with tools of your client",
    },
    UnsupportedApi {
        paths: &["/v1/fine_tuning/{*rest}", "/v1/evals/{*rest}"],
        service: "fine-tuning and evaluation APIs",
        instead: "use the OpenAI API platform with an API key for them",
    },
    UnsupportedApi {
        paths: &[
            "/v1/organization/{*rest}",
            "/v1/projects/{*rest}",
            "/v1/vaults/{*rest}",
            "/v1/webhook_endpoints/{*rest}",
            "/v1/webhook_event_types",
            "/v1/safety/{*rest}",
            "/v1/content_provenance_checks",
            "/v1/decisions",
        ],
        service: "administration APIs of the OpenAI API platform",
        instead: "use the website of the platform; GET /usage of this proxy shows your quota and usage",
    },
    UnsupportedApi {
        paths: &["/v1/messages/batches/{*rest}"],
        service: "message batches",
        instead: "send each request to /v1/messages",
    },
    UnsupportedApi {
        paths: &["/v1/complete"],
        service: "legacy text completions of Anthropic's API",
        instead: "use /v1/messages",
    },
    UnsupportedApi {
        paths: &[
            "/v1/organizations/{*rest}",
            "/v1/sessions/{*rest}",
            "/v1/memory_stores/{*rest}",
            "/v1/user_profiles/{*rest}",
            "/v1/deployments/{*rest}",
            "/v1/deployment_runs/{*rest}",
            "/v1/dreams/{*rest}",
            "/v1/tunnels/{*rest}",
        ],
        service: "managed agents or administration APIs of Anthropic's platform",
        instead: "use /v1/messages with tools that your client runs",
    },
    UnsupportedApi {
        paths: &["/api/web_search", "/api/web_fetch"],
        service: "endpoint for searching or fetching pages",
        instead: "send the tool {\"type\": \"web_search\"} to /api/chat, and the model searches",
    },
];

/// The end of a path that includes everything below it.
const BELOW: &str = "/{*rest}";

/// The routes, which respond with the error to every method.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let paths = UNSUPPORTED.iter().flat_map(|api| api.paths.iter().map(move |path| (*path, api)));
    paths.fold(Router::new(), |router, (path, api)| {
        let refuse = any(move |request: Request| async move {
            refuse_unread(&ProxyError::NotOffered { service: api.service, instead: api.instead }, request).await
        });
        match path.strip_suffix(BELOW) {
            Some(folder) => router.route(folder, refuse.clone()).route(path, refuse),
            None => router.route(path, refuse),
        }
    })
}

/// Whether a request uploads a file to one of these paths, such as an audio file to translate.
pub(super) fn is_upload(request: &Parts) -> bool {
    let path = request.extensions.get::<CanonicalPath>().map(|canonical| canonical.path.as_str()).unwrap_or_default();
    let covers = |route: &&str| match route.strip_suffix(BELOW) {
        Some(folder) => path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        None => path == *route,
    };
    is_multipart(&request.headers) && UNSUPPORTED.iter().flat_map(|api| api.paths).any(covers)
}
