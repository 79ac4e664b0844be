//! Classifies a failure.
//!
//! The first of these that is known decides: a Cloudflare page or an unambiguous status, the code, the message, the
//! class in `error.type`, the status. A failure without any of them counts as a server error, so that it may be
//! retried.

use super::BodyKind;
use super::html_error::CloudflareBlock;
use crate::error::Fault;

/// The parts of a failure that decide its class.
pub(super) struct Details<'e> {
    pub(super) status: Option<u16>,
    pub(super) body_kind: BodyKind,
    pub(super) block: CloudflareBlock,
    pub(super) code: Option<&'e str>,
    /// `error.type`.
    pub(super) kind: Option<&'e str>,
    pub(super) param: Option<&'e str>,
    pub(super) message: &'e str,
}

pub(super) fn classify(details: &Details<'_>) -> Fault {
    by_unambiguous_status(details)
        .or_else(|| details.code.and_then(|code| by_code(code, details.param)))
        .or_else(|| by_message(details))
        .or_else(|| details.kind.and_then(by_kind))
        .unwrap_or_else(|| by_status(details))
}

fn by_unambiguous_status(details: &Details<'_>) -> Option<Fault> {
    match details.status {
        _ if details.block == CloudflareBlock::BotCheck => Some(Fault::Challenge),
        Some(403) if details.body_kind == BodyKind::WebPage || details.block == CloudflareBlock::Network => {
            Some(Fault::Challenge)
        }
        Some(401) => Some(Fault::Unauthorized),
        Some(413) => Some(Fault::TooLarge),
        Some(100..=399) if details.body_kind != BodyKind::Json => Some(Fault::WrongPlace),
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

fn by_message(details: &Details<'_>) -> Option<Fault> {
    let contains = |phrase: &str| details.message.contains(phrase);
    let is_request = matches!(details.status, None | Some(400..500));
    let is_server = matches!(details.status, None | Some(500..));
    if is_request && contains("requires a newer version of Codex") {
        Some(Fault::ClientVersion)
    } else if is_request
        && (contains("not supported when using Codex with a ChatGPT account") || contains("Model not found"))
    {
        Some(Fault::ModelNotFound)
    } else if is_request && details.message.to_ascii_lowercase().contains("invalid image") {
        Some(Fault::InvalidImage)
    } else if is_request && is_unreadable_reasoning(details.message) {
        Some(Fault::EncryptedContent)
    } else if is_server && details.code.is_none() && (contains("at capacity") || contains("overloaded")) {
        Some(Fault::Overloaded)
    } else {
        None
    }
}

/// Whether the backend rejected replayed reasoning that belongs to another account or model.
fn is_unreadable_reasoning(message: &str) -> bool {
    const REASONS: [&str; 4] = ["could not be", "can not be", "cannot be", "did not match"];
    let message = message.to_ascii_lowercase();
    let is_named = message.contains("encrypted content") || message.contains("encrypted_content");
    message.contains("not issued to this caller") || (is_named && REASONS.iter().any(|reason| message.contains(reason)))
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

fn by_status(details: &Details<'_>) -> Fault {
    match details.status {
        None | Some(408 | 500..) => Fault::Server,
        Some(402 | 403) => Fault::Permission,
        Some(404 | 405 | 0..400) => Fault::WrongPlace,
        Some(429) => Fault::RateLimited,
        Some(400..500) if details.body_kind == BodyKind::WebPage => Fault::WrongPlace,
        Some(400..500) => Fault::InvalidRequest,
    }
}
