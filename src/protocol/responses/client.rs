//! The Codex CLI as a client: it speaks to the backend through us, and nothing shall be lost.

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName};

/// Headers for the backend that are not named after the CLI.
const ALSO_MEANT: [&str; 4] = ["session-id", "thread-id", "x-client-request-id", "x-openai-subagent"];

/// Whether the client is the Codex CLI or one of its kin, which speak exactly what the backend does.
pub(super) fn is_codex(headers: &HeaderMap) -> bool {
    let names = [HeaderName::from_static("originator"), USER_AGENT];
    names.into_iter().filter_map(|name| headers.get(name)).any(|value| {
        let start = value.as_bytes().get(..5);
        start.is_some_and(|start| start.eq_ignore_ascii_case(b"codex"))
    })
}

/// Its headers that are meant for the backend.
pub(super) fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let is_meant = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-codex-") || ALSO_MEANT.contains(&name)
    };
    headers.iter().filter(|(name, _)| is_meant(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
