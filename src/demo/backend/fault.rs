//! Faults on request: words in a prompt that make the simulated backend fail.

use http::header::RETRY_AFTER;
use http::{HeaderName, StatusCode};
use serde_json::json;

use super::super::issuer::PLAN;
use super::super::json_response::Refusal;
use super::prompt::Prompt;

/// Time until the quota that [`Fault::UsageLimit`] uses up resets: short, so that the demo stays usable.
const QUOTA_RESET_SECONDS: u64 = 2;

/// Makes a conversation exceed the context window until the client compacts it, because the summary doesn't contain the
/// word.
pub(super) const OVERFLOW_WORD: &str = "demo:overflow";

/// The fault words and their effects: `(word, effect)`. Unless the effect says otherwise, the word must be in the
/// last user message. In the prompt of an image request, only words that cause an error status have an effect.
pub const FAULT_WORDS: [(&str, &str); 16] = [
    ("demo:usage-limit", "status 429, usage_limit_reached, with the time of the reset"),
    ("demo:rate-limit", "status 429, rate_limit_exceeded, with retry-after"),
    ("demo:unavailable", "status 503, server_is_overloaded, with retry-after"),
    ("demo:not-in-plan", "status 403: the plan doesn't include the request"),
    ("demo:moderation", "status 400, moderation_blocked"),
    ("demo:overloaded", "status 200, then response.failed with server_is_overloaded before any output"),
    ("demo:context", "status 200, then response.failed with context_length_exceeded"),
    (OVERFLOW_WORD, "the same after two tool results, except for summary requests; the word may be in any message"),
    ("demo:error", "response.failed with server_error in the middle of the response"),
    ("demo:cut", "the connection breaks in the middle of the response"),
    ("demo:end", "the stream ends in the middle of the response without a terminal event"),
    ("demo:length", "response.incomplete with max_output_tokens in the middle of the response"),
    ("demo:refuse", "the response is a refusal"),
    ("demo:slow", "three words per second"),
    ("demo:connection-limit", "a WebSocket that has been used before reports its age limit"),
    ("demo:lite", "status 400 that requires the lite form, unless the request has it"),
];

/// The faults, in the order of [`FAULT_WORDS`].
const FAULTS: [Fault; 16] = [
    Fault::UsageLimit,
    Fault::RateLimit,
    Fault::Unavailable,
    Fault::NotInPlan,
    Fault::Moderation,
    Fault::Overloaded,
    Fault::Context,
    Fault::Overflow,
    Fault::Error,
    Fault::Cut,
    Fault::End,
    Fault::Length,
    Fault::Refuse,
    Fault::Slow,
    Fault::ConnectionLimit,
    Fault::Lite,
];

/// A fault. [`FAULT_WORDS`] has the effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    UsageLimit,
    RateLimit,
    Unavailable,
    NotInPlan,
    Moderation,
    Overloaded,
    Context,
    Overflow,
    Error,
    Cut,
    End,
    Length,
    Refuse,
    Slow,
    ConnectionLimit,
    Lite,
}

impl Fault {
    /// Returns the fault that a prompt causes: if it contains several words, that of the first in [`FAULT_WORDS`].
    pub(super) fn find(prompt: &Prompt<'_>) -> Option<Self> {
        let applies = |word: &str, fault: Self| match fault {
            Self::Overflow => prompt.is_too_long,
            _ => prompt.user_text.contains(word),
        };
        FAULT_WORDS.iter().zip(FAULTS).find(|((word, _), fault)| applies(word, *fault)).map(|(_, fault)| fault)
    }

    /// Returns the fault that the prompt of an image request causes.
    pub(super) fn find_in(text: &str) -> Option<Self> {
        FAULT_WORDS.iter().zip(FAULTS).find(|((word, _), _)| text.contains(word)).map(|(_, fault)| fault)
    }

    /// The error that the backend responds with; `None` for a fault of the stream. `now` is in Unix seconds.
    pub(super) fn refusal(self, now: u64) -> Option<Refusal> {
        let error = |status, code: &str, message: &str, headers| {
            let error = json!({ "message": message, "type": null, "param": null, "code": code });
            Some(Refusal { status, body: json!({ "error": error }), headers })
        };
        match self {
            Self::UsageLimit => Some(usage_limit(now)),
            Self::RateLimit => error(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_exceeded",
                "Rate limit reached. Please try again in 1s.",
                vec![(RETRY_AFTER, "1".to_owned())],
            ),
            Self::Unavailable => error(
                StatusCode::SERVICE_UNAVAILABLE,
                "server_is_overloaded",
                "Our servers are currently overloaded. Please try again later.",
                vec![(RETRY_AFTER, "1".to_owned())],
            ),
            Self::NotInPlan => {
                error(StatusCode::FORBIDDEN, "not_in_plan", "This feature is not available on your plan.", Vec::new())
            }
            Self::Moderation => error(
                StatusCode::BAD_REQUEST,
                "moderation_blocked",
                "Your request was rejected by the safety system.",
                Vec::new(),
            ),
            _ => None,
        }
    }
}

fn usage_limit(now: u64) -> Refusal {
    let resets_at = now + QUOTA_RESET_SECONDS;
    let error = json!({
        "type": "usage_limit_reached", "message": "The usage limit has been reached", "plan_type": PLAN,
        "resets_at": resets_at, "eligible_promo": null, "resets_in_seconds": QUOTA_RESET_SECONDS,
    });
    let header = |name: &'static str, value: &str| (HeaderName::from_static(name), value.to_owned());
    let headers = vec![
        header("x-codex-plan-type", PLAN),
        header("x-codex-active-limit", "codex"),
        header("x-codex-primary-used-percent", "100"),
        header("x-codex-primary-window-minutes", "300"),
        header("x-codex-primary-reset-at", &resets_at.to_string()),
        header("x-codex-rate-limit-reached-type", "rate_limit_reached"),
    ];
    Refusal { status: StatusCode::TOO_MANY_REQUESTS, body: json!({ "error": error }), headers }
}
