//! Normalizes the path of a request to the spelling that `routes` matches.
//!
//! Clients add `/v1`, leave it out or add it twice, write double slashes, or can only be given an Azure-style address.
//! The access policy doesn't use the result: it compares the path as sent.

use std::borrow::Cow;

use http::Uri;
use http::request::Parts;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

/// The model that an Azure-style path or a method of the Gemini API names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathModel(pub(super) String);

impl PathModel {
    /// The model that the path of a request names.
    pub(super) fn of(request: &Parts) -> Option<&str> {
        request.extensions.get::<Self>().map(|model| model.0.as_str())
    }
}

/// A prefix that both the base URL and the client have added to the path. Reported if the path doesn't exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DoubledPrefix {
    /// The path as sent.
    pub(super) path: String,
    /// The prefix that the client adds.
    pub(super) prefix: &'static str,
}

/// A path in its canonical spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CanonicalPath {
    /// For example `/v1/chat/completions`.
    pub(super) path: String,
    /// Set if the path names a model.
    pub(super) model: Option<PathModel>,
    pub(super) doubled: Option<DoubledPrefix>,
}

/// First segments of the paths under `/v1`, which clients may leave out.
const VERSIONED: [&str; 26] = [
    "alpha",
    "assistants",
    "audio",
    "batches",
    "chat",
    "chatkit",
    "completions",
    "containers",
    "conversations",
    "embeddings",
    "evals",
    "files",
    "fine_tuning",
    "images",
    "memories",
    "messages",
    "models",
    "moderations",
    "organization",
    "realtime",
    "responses",
    "skills",
    "threads",
    "uploads",
    "vector_stores",
    "videos",
];

/// Methods of the Gemini API, which are appended to the model in the path. Below `/v1`, other words after a colon may
/// be part of the name of a model.
const GEMINI_METHODS: [&str; 10] = [
    "generateContent",
    "streamGenerateContent",
    "countTokens",
    "embedContent",
    "batchEmbedContents",
    "asyncBatchEmbedContent",
    "batchGenerateContent",
    "generateAnswer",
    "predict",
    "predictLongRunning",
];

/// First segments of paths that only the Gemini API has, also below `/v1`.
const GEMINI_ONLY: [&str; 8] = [
    "auth_tokens",
    "cachedContents",
    "corpora",
    "fileSearchStores",
    "files:register",
    "interactions",
    "operations",
    "tunedModels",
];
/// First segments of paths that the Gemini API has too, apart from the models.
const SHARED_WITH_GEMINI: [&str; 9] =
    ["agents", "batches", "credentials", "decisions", "environments", "files", "triggers", "voices", "webhooks"];

impl CanonicalPath {
    /// Parses a path as sent.
    pub(super) fn of(path: &str) -> Self {
        let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        if let ["upload", version @ ("v1" | "v1alpha"), ..] = segments.as_mut_slice() {
            *version = "v1beta";
        }
        let (mut model, mut prefixes, mut is_beta) = (None, 0, false);
        loop {
            let length = match segments.as_slice() {
                ["openai", "deployments", name, ..] => {
                    model = Some(PathModel(percent_decode_str(name).decode_utf8_lossy().into_owned()));
                    3
                }
                ["backend-api", "codex", ..] | ["openai", "v1", ..] | ["v1beta" | "v1alpha", "openai", ..] => 2,
                ["v1beta" | "v1alpha", ..] => {
                    is_beta = true;
                    1
                }
                ["v1" | "openai", ..] => 1,
                _ => break,
            };
            segments.drain(..length);
            prefixes += 1;
        }
        let first = segments.first().copied().unwrap_or_default();
        // Ollama clients add `/api`.
        let is_api = prefixes > 0 && first == "api";
        let is_versioned = !is_api && (prefixes > 0 || VERSIONED.contains(&first));
        let rest = segments.join("/");
        let method = gemini_method(&rest).filter(|(_, method)| is_beta || GEMINI_METHODS.contains(method));
        let is_gemini = is_beta || method.is_some() || (prefixes > 0 && GEMINI_ONLY.contains(&first));
        let repeated = match prefixes {
            _ if is_api => Some("/api"),
            0 | 1 => None,
            _ if is_gemini => Some("/v1beta"),
            _ => Some("/v1"),
        };
        let start = match (is_gemini, is_versioned) {
            (true, _) => "/v1beta/",
            (false, true) => "/v1/",
            (false, false) => "/",
        };
        let doubled = repeated.map(|prefix| DoubledPrefix { path: path.to_owned(), prefix });
        if let Some((name, method)) = method {
            model = Some(PathModel(percent_decode_str(name).decode_utf8_lossy().into_owned()));
            return Self { path: format!("{start}models:{method}"), model, doubled };
        }
        Self { path: format!("{start}{rest}"), model, doubled }
    }

    /// The path as a client of the Gemini API means it.
    pub(super) fn for_gemini(mut self) -> Self {
        let below = self.path.strip_prefix("/v1/");
        let shared = below.filter(|below| SHARED_WITH_GEMINI.contains(&below.split('/').next().unwrap_or_default()));
        if let Some(path) = shared.map(|below| format!("/v1beta/{below}")) {
            self.path = path;
        }
        self
    }
}

/// Splits `models/{model}:{method}`. `None` for other paths.
fn gemini_method(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("models/")?.rsplit_once(':').filter(|(model, method)| !model.is_empty() && !method.contains('/'))
}

/// Replaces the path of a URI and keeps its query.
pub(super) fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let text = uri.query().map_or(Cow::Borrowed(path), |query| Cow::Owned(format!("{path}?{query}")));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text.as_ref()).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::{CanonicalPath, PathModel};

    #[test]
    fn all_spellings_have_one_canonical_path() {
        for spelling in [
            "/v1/chat/completions",
            "/chat/completions",
            "//v1//chat/completions/",
            "/openai/v1/chat/completions",
            "/openai/chat/completions",
            "/backend-api/codex/chat/completions",
        ] {
            let canonical = CanonicalPath::of(spelling);
            assert_eq!((canonical.path.as_str(), canonical.model), ("/v1/chat/completions", None), "{spelling}");
            assert_eq!(canonical.doubled, None, "{spelling}");
        }
    }

    #[test]
    fn a_doubled_prefix_is_removed_and_reported() {
        for (spelling, path, prefix) in [
            ("/v1/v1/messages", "/v1/messages", "/v1"),
            ("/v1/v1/messages/count_tokens", "/v1/messages/count_tokens", "/v1"),
            ("/v1/v1/chat/completions", "/v1/chat/completions", "/v1"),
            ("/v1/openai/v1/chat/completions", "/v1/chat/completions", "/v1"),
            ("/openai/v1/v1/models/v1", "/v1/models/v1", "/v1"),
            ("/backend-api/codex/v1/responses", "/v1/responses", "/v1"),
            ("/v1/v1/nothing", "/v1/nothing", "/v1"),
            ("/v1/api/chat", "/api/chat", "/api"),
            ("/v1/v1/api/tags", "/api/tags", "/api"),
        ] {
            let canonical = CanonicalPath::of(spelling);
            let doubled = canonical.doubled.unwrap();
            assert_eq!((canonical.path.as_str(), doubled.prefix), (path, prefix), "{spelling}");
            assert_eq!(doubled.path, spelling);
        }
    }

    #[test]
    fn an_azure_path_names_its_model() {
        for path in ["/openai/deployments/gpt%2D6/chat/completions", "/openai/deployments/gpt%2D6/v1/chat/completions"]
        {
            let canonical = CanonicalPath::of(path);
            assert_eq!(canonical.path, "/v1/chat/completions");
            assert_eq!(canonical.model, Some(PathModel("gpt-6".to_owned())));
        }
    }

    #[test]
    fn a_method_of_the_gemini_api_names_its_model() {
        for (spelling, path, model) in [
            ("/v1beta/models/gpt-6:generateContent", "/v1beta/models:generateContent", Some("gpt-6")),
            ("/v1/models/gpt-6:streamGenerateContent", "/v1beta/models:streamGenerateContent", Some("gpt-6")),
            ("/models/openai/gpt-6:countTokens", "/v1beta/models:countTokens", Some("openai/gpt-6")),
            ("/v1beta/models/llama3%3Alatest:countTokens", "/v1beta/models:countTokens", Some("llama3:latest")),
            ("/v1alpha/models/gpt-6:predict", "/v1beta/models:predict", Some("gpt-6")),
            ("/v1beta/models/gpt-6", "/v1beta/models/gpt-6", None),
            ("/v1beta/models", "/v1beta/models", None),
            ("/v1beta/files", "/v1beta/files", None),
            ("/v1/models/llama3:latest", "/v1/models/llama3:latest", None),
            ("/v1beta/openai/chat/completions", "/v1/chat/completions", None),
            ("/v1/models/gpt-6:batchGenerateContent", "/v1beta/models:batchGenerateContent", Some("gpt-6")),
            ("/upload/v1beta/files", "/upload/v1beta/files", None),
            ("/upload/v1/files", "/upload/v1beta/files", None),
            ("/v1/cachedContents/1", "/v1beta/cachedContents/1", None),
            ("/v1/files", "/v1/files", None),
        ] {
            let canonical = CanonicalPath::of(spelling);
            assert_eq!(canonical.path, path, "{spelling}");
            assert_eq!(canonical.model, model.map(|name| PathModel(name.to_owned())), "{spelling}");
            assert_eq!(canonical.doubled, None, "{spelling}");
        }
        let doubled = CanonicalPath::of("/v1/v1beta/models/m:generateContent");
        assert_eq!(
            (doubled.path.as_str(), doubled.doubled.unwrap().prefix),
            ("/v1beta/models:generateContent", "/v1beta")
        );
    }

    #[test]
    fn a_client_of_the_gemini_api_means_google_s_files_and_batches() {
        for (path, expected) in [
            ("/v1/files", "/v1beta/files"),
            ("/v1/batches/1", "/v1beta/batches/1"),
            ("/v1/filesystem", "/v1/filesystem"),
            ("/v1/models", "/v1/models"),
            ("/v1/responses", "/v1/responses"),
        ] {
            assert_eq!(CanonicalPath::of(path).for_gemini().path, expected);
        }
    }

    #[test]
    fn unsupported_apis_have_canonical_paths_too() {
        for name in ["completions", "embeddings", "audio/speech", "images/generations", "moderations"] {
            let expected = format!("/v1/{name}");
            for prefix in ["", "/v1", "/openai/v1", "/openai", "/openai/deployments/d"] {
                assert_eq!(CanonicalPath::of(&format!("{prefix}/{name}")).path, expected, "{prefix}");
            }
        }
    }

    #[test]
    fn other_paths_stay_as_they_are() {
        for path in ["/", "/health", "/api/tags", "/metrics"] {
            let canonical = CanonicalPath::of(path);
            assert_eq!((canonical.path.as_str(), canonical.model, canonical.doubled), (path, None, None));
        }
    }
}
