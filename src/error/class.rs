//! Error classes for metrics, the request list, and limits on repeated log lines.
//!
//! The names are stable, since dashboards use them. No name comes from the backend or a client, so their number is
//! bounded and they contain nothing private.

use super::{Fault, ProxyError, Reason, Refusal};

impl ProxyError {
    /// Returns the error's class.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Refused(Refusal { reason: Reason::Forbidden, .. }) => "forbidden",
            Self::Refused(Refusal { reason: Reason::TooLarge, .. })
            | Self::BodyTooLarge { .. }
            | Self::TooManyValues { .. } => "body_too_large",
            Self::Refused(_) => "invalid_request",
            Self::BodyTooSlow { .. } => "body_too_slow",
            Self::MemoryFull { .. } => "memory_full",
            Self::BodyUnreadable { .. } => "body_unreadable",
            Self::UnsupportedEncoding { .. } => "unsupported_encoding",
            Self::UnsupportedMediaType { .. } => "unsupported_media_type",
            Self::UnknownPath { .. } | Self::DoubledPath { .. } => "unknown_path",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::NotOffered { .. } => "not_offered",
            Self::KeyRequired { .. } => "key_required",
            Self::ForeignHost { .. } => "foreign_host",
            Self::ForeignOrigin { .. } => "foreign_origin",
            Self::CrossSite => "cross_site",
            Self::ForeignUser { .. } => "foreign_user",
            Self::Busy { .. } => "busy",
            Self::Reserved(_) => "window_reserved",
            Self::Auth(_) => "sign_in",
            Self::Upstream(failure) => failure.fault.class(),
            Self::Unreachable { .. } => "upstream_unreachable",
            Self::Silent { .. } => "upstream_timeout",
            Self::Truncated { .. } => "upstream_truncated",
            Self::MessageTooLarge { .. } => "upstream_message_too_large",
            Self::EventTooLarge { .. } => "upstream_event_too_large",
            Self::Damaged { .. } => "upstream_damaged",
            Self::StoreFailed(_) => "store_failed",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
        }
    }
}

impl Fault {
    fn class(self) -> &'static str {
        match self {
            Self::InvalidRequest => "upstream_invalid_request",
            Self::ContextLength => "upstream_context_length",
            Self::Policy => "upstream_policy",
            Self::InvalidImage => "upstream_invalid_image",
            Self::EncryptedContent => "upstream_encrypted_content",
            Self::ModelNotFound => "upstream_model_not_found",
            Self::ClientVersion => "upstream_client_version",
            Self::Unauthorized | Self::ClientUnauthorized => "upstream_unauthorized",
            Self::Permission => "upstream_permission",
            Self::TooLarge => "upstream_too_large",
            Self::UsageLimit => "upstream_usage_limit",
            Self::InsufficientQuota => "upstream_insufficient_quota",
            Self::RateLimited => "upstream_rate_limited",
            Self::FlexUnavailable => "upstream_flex_unavailable",
            Self::Overloaded => "upstream_overloaded",
            Self::PolicyCapacity => "upstream_policy_capacity",
            Self::Challenge => "upstream_challenge",
            Self::Server => "upstream_server",
            Self::WrongPlace => "upstream_wrong_place",
        }
    }
}
