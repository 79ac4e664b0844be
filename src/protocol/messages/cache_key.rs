//! Derives the prompt cache key of a Messages request from the client's session.
//!
//! Claude Code sends its session id in a header; older releases send it in `metadata.user_id`. Subagents share the
//! session but have other prompts, so the agent id is part of the key, as is the model.

use std::borrow::Cow;

use crate::protocol::Context;
use crate::protocol::codex::Request;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::cache;

const SESSION_HEADER: &str = "x-claude-code-session-id";
const AGENT_HEADER: &str = "x-claude-code-agent-id";
/// The agent of requests without an agent id.
const MAIN_AGENT: &str = "main";

/// Returns the prompt cache key: one per session, model and agent. Without a session, [`cache::choose`] decides.
pub(super) fn cache_key<'a>(
    user_id: Option<&str>,
    context: &Context<'_>,
    upstream: &Request<'a>,
    first_user_text: &str,
) -> Cow<'a, str> {
    let in_header = cache::header(context.headers, SESSION_HEADER).map(Cow::Borrowed);
    let session = in_header.or_else(|| user_id.filter(|id| !id.is_empty()).map(session_of_user));
    let Some(session) = session else {
        return cache::choose(None, None, context, upstream, first_user_text);
    };
    let agent = cache::header(context.headers, AGENT_HEADER).unwrap_or(MAIN_AGENT);
    let parts = ["messages", &upstream.model, &session, agent];
    Cow::Owned(cache::derive(&parts.map(str::as_bytes)))
}

/// Returns the session id in a user id, or the whole user id if it has none.
fn session_of_user(id: &str) -> Cow<'_, str> {
    let in_json = || {
        let members = RawObject::parse(id).ok()?;
        let session = Field::root("session_id", members.get("session_id")?).text().ok()?;
        (!session.is_empty()).then_some(session)
    };
    let suffix = || {
        let (_, session) = id.rsplit_once("_session_")?;
        (!session.is_empty()).then_some(Cow::Borrowed(session))
    };
    in_json().or_else(suffix).unwrap_or(Cow::Borrowed(id))
}

#[cfg(test)]
mod tests {
    use super::session_of_user;

    #[test]
    fn a_session_is_found_in_every_form_of_user_id() {
        for (id, session) in [
            (r#"{"device_id":"d","session_id":"s-1"}"#, "s-1"),
            ("user_abc_account__session_s-1", "s-1"),
            ("user", "user"),
            (r#"{"device_id":"d"}"#, r#"{"device_id":"d"}"#),
            (r#"{"session_id":""}"#, r#"{"session_id":""}"#),
            ("x_session_", "x_session_"),
        ] {
            assert_eq!(session_of_user(id), session, "{id}");
        }
    }
}
