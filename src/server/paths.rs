//! One path, many spellings: clients put `/v1` in or leave it out, double slashes, and some can
//! only be given an Azure-style address. Everything is brought to the one spelling that `routes`
//! knows, before routing.

use std::borrow::Cow;

use http::Uri;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

/// The model that an Azure-style path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathModel(pub(super) String);

/// First segments that belong to the versioned API.
const VERSIONED: [&str; 9] =
    ["audio", "chat", "completions", "embeddings", "images", "messages", "models", "moderations", "responses"];

/// The canonical path of a request, and the model in it if there was one.
pub(super) fn canonical(path: &str) -> (String, Option<PathModel>) {
    let mut segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut model = None;
    if let ["openai", "deployments", name, ..] = segments.as_slice() {
        model = Some(PathModel(percent_decode_str(name).decode_utf8_lossy().into_owned()));
        segments.drain(..3);
    } else if let ["backend-api", "codex", ..] | ["openai", "v1", ..] = segments.as_slice() {
        segments.drain(..2);
    } else if let ["v1" | "openai", ..] = segments.as_slice() {
        segments.drain(..1);
    } else if segments.first().is_none_or(|first| !VERSIONED.contains(first)) {
        return (format!("/{}", segments.join("/")), None);
    }
    (format!("/v1/{}", segments.join("/")), model)
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
            assert_eq!(canonical(spelling), ("/v1/chat/completions".to_owned(), None), "{spelling}");
        }
    }

    #[test]
    fn an_azure_path_names_its_model() {
        let (path, model) = canonical("/openai/deployments/gpt%2D6/chat/completions");
        assert_eq!((path.as_str(), model), ("/v1/chat/completions", Some(PathModel("gpt-6".to_owned()))));
    }

    #[test]
    fn what_is_not_served_has_its_spellings_too() {
        for name in ["completions", "embeddings", "audio/speech", "images/generations", "moderations"] {
            let expected = format!("/v1/{name}");
            for prefix in ["", "/v1", "/openai/v1", "/openai", "/openai/deployments/d"] {
                assert_eq!(canonical(&format!("{prefix}/{name}")).0, expected, "{prefix}");
            }
        }
    }

    #[test]
    fn our_own_paths_stay() {
        for path in ["/", "/health", "/api/tags", "/metrics"] {
            assert_eq!(canonical(path), (path.to_owned(), None));
        }
    }
}
