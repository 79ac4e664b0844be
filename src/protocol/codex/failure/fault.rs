//! Which class a failure belongs to.
//!
//! The order is: what the status alone settles, then the code, then words where the backend has no
//! code, then the class in `error.type`, then the status. What nothing explains is the server's
//! trouble, so that it may be tried again.

use super::Form;
use super::html_error::Guard;
use crate::error::Fault;

/// What is known about a failure when it is classified.
pub(super) struct Evidence<'e> {
    pub(super) status: Option<u16>,
    pub(super) form: Form,
    pub(super) guard: Guard,
    pub(super) code: Option<&'e str>,
    pub(super) kind: Option<&'e str>,
    pub(super) param: Option<&'e str>,
    pub(super) message: &'e str,
}

pub(super) fn classify(evidence: &Evidence<'_>) -> Fault {
    settled(evidence)
        .or_else(|| evidence.code.and_then(|code| by_code(code, evidence.param)))
        .or_else(|| by_words(evidence))
        .or_else(|| evidence.kind.and_then(by_kind))
        .unwrap_or_else(|| by_status(evidence))
}

fn settled(evidence: &Evidence<'_>) -> Option<Fault> {
    match evidence.status {
        _ if evidence.guard == Guard::BotCheck => Some(Fault::Challenge),
        Some(403) if evidence.form == Form::WebPage || evidence.guard == Guard::Block => Some(Fault::Challenge),
        Some(401) => Some(Fault::Unauthorized),
        Some(413) => Some(Fault::TooLarge),
        Some(100..=399) if evidence.form != Form::Json => Some(Fault::WrongPlace),
        _ => None,
    }
}

fn by_code(code: &str, param: Option<&str>) -> Option<Fault> {
    Some(match code {
        "context_length_exceeded" => Fault::ContextLength,
        "cyber_policy"
        | "bio_policy"
        | "misalignment_policy_violation"
        | "invalid_prompt"
        | "content_policy_violation" => Fault::Policy,
        "invalid_value" if param.is_some_and(|param| param.ends_with(".image_url")) => Fault::InvalidImage,
        "invalid_encrypted_content" => Fault::EncryptedContent,
        "model_not_found" => Fault::ModelNotFound,
        "usage_limit_reached" => Fault::UsageLimit,
        "usage_not_included"
        | "access_program_not_enabled"
        | "deactivated_workspace"
        | "invalid_workspace_selected" => Fault::Permission,
        "insufficient_quota"
        | "credit_balance_exhausted"
        | "organization_spend_limit_exceeded"
        | "project_spend_limit_exceeded" => Fault::InsufficientQuota,
        "flex_unavailable" => Fault::FlexUnavailable,
        "rate_limit_exceeded" | "slow_down" => Fault::RateLimited,
        "server_is_overloaded" => Fault::Overloaded,
        "policy_capacity_unavailable" => Fault::PolicyCapacity,
        "token_expired" | "token_invalidated" | "token_revoked" => Fault::Unauthorized,
        "server_error" => Fault::Server,
        _ if code.starts_with("invalid_image") || code.starts_with("invalid_audio") => Fault::InvalidImage,
        _ => return None,
    })
}

fn by_words(evidence: &Evidence<'_>) -> Option<Fault> {
    let says = |words: &str| evidence.message.contains(words);
    let is_request = matches!(evidence.status, None | Some(400..500));
    let is_server = matches!(evidence.status, None | Some(500..));
    if is_request && says("requires a newer version of Codex") {
        Some(Fault::ClientVersion)
    } else if is_request && (says("not supported when using Codex with a ChatGPT account") || says("Model not found")) {
        Some(Fault::ModelNotFound)
    } else if is_request && evidence.message.to_ascii_lowercase().contains("invalid image") {
        Some(Fault::InvalidImage)
    } else if is_request && is_unreadable_reasoning(evidence.message) {
        Some(Fault::EncryptedContent)
    } else if is_server && evidence.code.is_none() && (says("at capacity") || says("overloaded")) {
        Some(Fault::Overloaded)
    } else {
        None
    }
}

/// Whether the backend can't use reasoning that was replayed to it: made for another account or model.
fn is_unreadable_reasoning(message: &str) -> bool {
    const WHY: [&str; 4] = ["could not be", "can not be", "cannot be", "did not match"];
    let message = message.to_ascii_lowercase();
    let is_named = message.contains("encrypted content") || message.contains("encrypted_content");
    message.contains("not issued to this caller") || (is_named && WHY.iter().any(|why| message.contains(why)))
}

fn by_kind(kind: &str) -> Option<Fault> {
    Some(match kind {
        "invalid_request_error" => Fault::InvalidRequest,
        "authentication_error" => Fault::Unauthorized,
        "permission_error" => Fault::Permission,
        "rate_limit_error" => Fault::RateLimited,
        "overloaded_error" => Fault::Overloaded,
        _ => return None,
    })
}

fn by_status(evidence: &Evidence<'_>) -> Fault {
    match evidence.status {
        None | Some(408 | 500..) => Fault::Server,
        Some(402 | 403) => Fault::Permission,
        Some(404 | 405 | 0..400) => Fault::WrongPlace,
        Some(429) => Fault::RateLimited,
        Some(400..500) if evidence.form == Form::WebPage => Fault::WrongPlace,
        Some(400..500) => Fault::InvalidRequest,
    }
}
