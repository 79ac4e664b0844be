//! One path, many spellings: clients put `/v1` in, leave it out or put it in twice, write double slashes,
//! and some can only be given an Azure-style address. Everything is brought to the one spelling that
//! `routes` knows, before routing.

use std::borrow::Cow;

use http::Uri;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

/// The model that an Azure-style path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathModel(pub(super) String);

/// A path that the client's base URL and the client have both put a prefix before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DoubledPrefix {
    /// The path as the client wrote it.
    pub(super) path: String,
    /// The prefix that the client adds itself.
    pub(super) prefix: &'static str,
}

/// What a path comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CanonicalPath {
    /// The one spelling that `routes` knows.
    pub(super) path: String,
    pub(super) model: Option<PathModel>,
    pub(super) doubled: Option<DoubledPrefix>,
}

/// First segments that belong to the versioned API.
const VERSIONED: [&str; 9] =
    ["audio", "chat", "completions", "embeddings", "images", "messages", "models", "moderations", "responses"];

/// The canonical path of a request, and what its spelling says.
pub(super) fn canonical(path: &str) -> CanonicalPath {
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let (mut model, mut prefixes) = (None, 0);
    loop {
        let length = match segments.as_slice() {
            ["openai", "deployments", name, ..] => {
                model = Some(PathModel(percent_decode_str(name).decode_utf8_lossy().into_owned()));
                3
            }
            ["backend-api", "codex", ..] | ["openai", "v1", ..] => 2,
            ["v1" | "openai", ..] => 1,
            _ => break,
        };
        segments.drain(..length);
        prefixes += 1;
    }
    let first = segments.first().copied().unwrap_or_default();
    // Ollama's clients add `/api` themselves.
    let is_api = prefixes > 0 && first == "api";
    let is_versioned = !is_api && (prefixes > 0 || VERSIONED.contains(&first));
    let repeated = match prefixes {
        _ if is_api => Some("/api"),
        0 | 1 => None,
        _ => Some("/v1"),
    };
    let start = if is_versioned { "/v1/" } else { "/" };
    let doubled = repeated.map(|prefix| DoubledPrefix { path: path.to_owned(), prefix });
    CanonicalPath { path: format!("{start}{}", segments.join("/")), model, doubled }
}

/// The address with its path replaced and its query kept.
pub(super) fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let text = uri.query().map_or(Cow::Borrowed(path), |query| Cow::Owned(format!("{path}?{query}")));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text.as_ref()).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::{PathModel, canonical};

    #[test]
    fn every_spelling_comes_to_the_same_path() {
        for spelling in [
            "/v1/chat/completions",
            "/chat/completions",
            "//v1//chat/completions/",
            "/openai/v1/chat/completions",
            "/openai/chat/completions",
            "/backend-api/codex/chat/completions",
        ] {
            let canonical = canonical(spelling);
            assert_eq!((canonical.path.as_str(), canonical.model), ("/v1/chat/completions", None), "{spelling}");
            assert_eq!(canonical.doubled, None, "{spelling}");
        }
    }

    #[test]
    fn a_prefix_may_stand_there_twice() {
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
            let canonical = canonical(spelling);
            let doubled = canonical.doubled.unwrap();
            assert_eq!((canonical.path.as_str(), doubled.prefix), (path, prefix), "{spelling}");
            assert_eq!(doubled.path, spelling);
        }
    }

    #[test]
    fn an_azure_path_names_its_model() {
        for path in ["/openai/deployments/gpt%2D6/chat/completions", "/openai/deployments/gpt%2D6/v1/chat/completions"]
        {
            let canonical = canonical(path);
            assert_eq!(canonical.path, "/v1/chat/completions");
            assert_eq!(canonical.model, Some(PathModel("gpt-6".to_owned())));
        }
    }

    #[test]
    fn what_is_not_served_has_its_spellings_too() {
        for name in ["completions", "embeddings", "audio/speech", "images/generations", "moderations"] {
            let expected = format!("/v1/{name}");
            for prefix in ["", "/v1", "/openai/v1", "/openai", "/openai/deployments/d"] {
                assert_eq!(canonical(&format!("{prefix}/{name}")).path, expected, "{prefix}");
            }
        }
    }

    #[test]
    fn our_own_paths_stay() {
        for path in ["/", "/health", "/api/tags", "/metrics"] {
            let canonical = canonical(path);
            assert_eq!((canonical.path.as_str(), canonical.model, canonical.doubled), (path, None, None));
        }
    }
}
