//! Reads the claims of the issuer's tokens.
//!
//! Tokens are JSON Web Tokens. Their signature isn't checked: they come from the issuer over TLS, and no access is
//! granted because of a claim. A token that can't be parsed is opaque and has no claims. A claim of an unexpected type
//! counts as absent. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use crate::secret::Secret;

const AUTH_OBJECT: &str = "https://api.openai.com/auth";
const PROFILE_OBJECT: &str = "https://api.openai.com/profile";

/// The last second of the year 9999; the store can't hold later times.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// Base64 for URLs, with or without padding and trailing bits.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The claims in use, each `None` if the token lacks it.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    /// When the token expires (`exp`).
    pub(super) expires_at: Option<SystemTime>,
    /// The user's e-mail address; only a label.
    pub(super) email: Option<Secret>,
    /// The workspace (`chatgpt_account_id`).
    pub(super) account_id: Option<String>,
    /// The plan (`chatgpt_plan_type`).
    pub(super) plan: Option<String>,
    /// Whether this is a FedRAMP workspace (`chatgpt_account_is_fedramp`).
    pub(super) is_fedramp: Option<bool>,
}

impl Claims {
    /// Reads the claims of a token.
    #[must_use]
    pub(super) fn of(token: &Secret) -> Self {
        payload(token.expose()).map(|payload| Self::read(&payload)).unwrap_or_default()
    }

    /// Fills in missing claims from another token.
    #[must_use]
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            expires_at: self.expires_at.or(other.expires_at),
            email: self.email.or(other.email),
            account_id: self.account_id.or(other.account_id),
            plan: self.plan.or(other.plan),
            is_fedramp: self.is_fedramp.or(other.is_fedramp),
        }
    }

    fn read(payload: &Value) -> Self {
        let auth = &payload[AUTH_OBJECT];
        let email = text(&payload["email"]).or_else(|| text(&payload[PROFILE_OBJECT]["email"]));
        Self {
            expires_at: payload["exp"].as_f64().and_then(timestamp),
            email: email.map(Secret::new),
            account_id: text(&auth["chatgpt_account_id"]),
            plan: text(&auth["chatgpt_plan_type"]),
            is_fedramp: auth["chatgpt_account_is_fedramp"].as_bool(),
        }
    }
}

/// Returns a token's payload, or `None` for an opaque token.
pub(super) fn payload(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    let bytes = LENIENT.decode(payload).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn timestamp(seconds: f64) -> Option<SystemTime> {
    let since_epoch = Duration::try_from_secs_f64(seconds.min(LAST_SECOND)).ok()?;
    UNIX_EPOCH.checked_add(since_epoch)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use base64::Engine;
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::Claims;
    use crate::secret::Secret;

    fn token(payload: &serde_json::Value) -> Secret {
        Secret::new(format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload.to_string())))
    }

    #[test]
    fn an_id_token_names_account_plan_and_owner() {
        let claims = Claims::of(&token(&json!({
            "email": "ann@example.com", "exp": 1_790_000_000,
            "https://api.openai.com/auth": {
                "chatgpt_account_id": "acct-1", "chatgpt_plan_type": "plus", "chatgpt_account_is_fedramp": true,
            },
        })));
        assert_eq!(claims.expires_at, Some(UNIX_EPOCH + Duration::from_secs(1_790_000_000)));
        assert_eq!(claims.email.unwrap().expose(), "ann@example.com");
        assert_eq!(claims.account_id.as_deref(), Some("acct-1"));
        assert_eq!(claims.plan.as_deref(), Some("plus"));
        assert_eq!(claims.is_fedramp, Some(true));
    }

    #[test]
    fn the_address_is_also_read_from_the_profile() {
        let claims = Claims::of(&token(&json!({"https://api.openai.com/profile": {"email": "bo@example.com"}})));
        assert_eq!(claims.email.unwrap().expose(), "bo@example.com");
    }

    #[test]
    fn an_opaque_or_broken_token_has_no_claims() {
        for text in ["", "opaque", "a.b", "a.!!.c", "e30.bm90IGpzb24.x", "at-123.456"] {
            let claims = Claims::of(&Secret::new(text));
            assert!(claims.expires_at.is_none() && claims.account_id.is_none(), "{text}");
        }
    }

    #[test]
    fn claims_of_wrong_types_count_as_absent() {
        let claims = Claims::of(&token(&json!({
            "exp": "soon", "email": 7, "https://api.openai.com/auth": {"chatgpt_account_id": ["x"], "chatgpt_plan_type": ""},
        })));
        assert!(claims.expires_at.is_none() && claims.email.is_none() && claims.account_id.is_none());
        assert!(claims.plan.is_none());
    }

    #[test]
    fn an_expiry_may_be_a_fraction_and_never_overflows() {
        let of = |exp: f64| Claims::of(&token(&json!({ "exp": exp }))).expires_at;
        assert_eq!(of(10.5), Some(UNIX_EPOCH + Duration::from_millis(10_500)));
        assert_eq!(of(-1.0), None);
        assert!(of(1e300).is_some_and(|end| end < UNIX_EPOCH + Duration::from_secs(253_402_300_800)));
    }

    #[test]
    fn padding_is_accepted() {
        let padded = format!("e30.{}.x", URL_SAFE.encode(r#"{"exp":5,"x":12}"#));
        assert!(padded.contains('='), "the case needs padding");
        assert_eq!(Claims::of(&Secret::new(padded)).expires_at, Some(UNIX_EPOCH + Duration::from_secs(5)));
    }
}
