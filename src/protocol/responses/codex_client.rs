//! Recognizes official Codex clients, and selects the headers to forward for them. They already use the backend's API,
//! so nothing of their requests may be lost.

use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::protocol::upstream_input::cache;

/// The forwarded headers whose names don't begin with `x-codex-`.
const OTHER_FORWARDED: [&str; 4] = ["session-id", "thread-id", "x-client-request-id", "x-openai-subagent"];

/// Whether the client is the Codex CLI or another official Codex client.
#[must_use]
pub fn is_codex(headers: &HeaderMap) -> bool {
    let names = [HeaderName::from_static("originator"), USER_AGENT];
    names.into_iter().filter_map(|name| headers.get(name)).any(|value| {
        let start = value.as_bytes().get(..5);
        start.is_some_and(|start| start.eq_ignore_ascii_case(b"codex"))
    })
}

/// The headers to forward to the backend. Ids that exceed the backend's maximum length are hashed, like cache keys.
/// Other values, such as turn metadata, have no maximum.
pub(super) fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let is_forwarded = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-codex-") || OTHER_FORWARDED.contains(&name)
    };
    headers
        .iter()
        .filter(|(name, _)| is_forwarded(name))
        .map(|(name, value)| (name.clone(), shortened(name, value)))
        .collect()
}

/// The headers that are passed on with the body of a request for another endpoint than `/responses`, for all clients.
#[must_use]
pub fn relayed_headers(headers: &HeaderMap) -> HeaderMap {
    let names = [CONTENT_TYPE, HeaderName::from_static("x-openai-tool-output-truncation-policy")];
    names.into_iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect()
}

fn shortened(name: &HeaderName, value: &HeaderValue) -> HeaderValue {
    let is_id = OTHER_FORWARDED.contains(&name.as_str()) || name.as_str().ends_with("-id");
    if !is_id || value.len() <= cache::MAX_CHARS {
        return value.clone();
    }
    HeaderValue::try_from(cache::derive(&[value.as_bytes()])).expect("a UUID is a header value")
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::forwarded;
    use crate::protocol::upstream_input::cache;

    #[test]
    fn long_ids_are_hashed_like_cache_keys() {
        let (longest, long) = ("x".repeat(64), "x".repeat(65));
        let ids = ["session-id", "thread-id", "x-client-request-id", "x-codex-window-id", "x-openai-subagent"];
        let others = ["x-codex-turn-state", "x-codex-turn-metadata", "x-codex-beta-features"];
        for (value, name, expected) in ids
            .iter()
            .map(|name| (&longest, name, longest.clone()))
            .chain(ids.iter().map(|name| (&long, name, cache::fit(long.as_str().into()).into_owned())))
            .chain(others.iter().map(|name| (&long, name, long.clone())))
        {
            let mut headers = HeaderMap::new();
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
            assert_eq!(forwarded(&headers)[*name], expected, "{name}");
        }
    }
}
