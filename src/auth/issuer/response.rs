//! Parses the issuer's responses: tokens, and errors in the form of OAuth or of the OpenAI API.
//!
//! Distinguishes permanent refusals from temporary failures. Never quotes the issuer's free text, which might contain a
//! token or an e-mail address. Pure.

use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use super::IssuerError;
use crate::auth::credential::TokenResponse;
use crate::retry_after;
use crate::secret::Secret;

/// A response of any endpoint.
#[derive(Debug)]
pub(super) struct IssuerResponse {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl IssuerResponse {
    /// Parses tokens; each may be missing, null or empty.
    pub(super) fn tokens(&self) -> Result<TokenResponse, IssuerError> {
        let unreadable = || IssuerError::unreadable();
        let Ok(Value::Object(members)) = serde_json::from_slice(&self.body) else { return Err(unreadable()) };
        let token = |name: &str| match members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(Secret::new(text.clone()))),
            Some(_) => Err(unreadable()),
        };
        Ok(TokenResponse {
            id_token: token("id_token")?,
            access_token: token("access_token")?,
            refresh_token: token("refresh_token")?,
        })
    }

    /// Returns the error of an unsuccessful response.
    pub(super) fn failure(&self) -> IssuerError {
        let code = self.code();
        let suffix = code.as_deref().map(|code| format!(": {code}")).unwrap_or_default();
        match permanent_reason(self.status, code.as_deref()) {
            Some(reason) => IssuerError::Refused { reason: format!("{reason}{suffix}") },
            None => IssuerError::Unavailable {
                message: format!("the issuer answered {}{suffix}", self.status),
                retry_after: self.retry_after(),
            },
        }
    }

    /// Returns the error code from any of the members that the issuer uses, if it has the form of a code.
    pub(super) fn code(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let found = [&body["error"]["code"], &body["error"], &body["code"]].into_iter().find_map(Value::as_str)?;
        is_code(found).then(|| found.to_owned())
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        retry_after::from_headers(&self.headers)
    }
}

/// Whether a text has the form of an error code, so that it can't be a token or prose.
pub(in crate::auth) fn is_code(text: &str) -> bool {
    (1..=48).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Returns why an error is permanent, or `None` if a later attempt may succeed.
fn permanent_reason(status: u16, code: Option<&str>) -> Option<&'static str> {
    if code == Some("app_session_terminated") {
        return Some("the issuer ended the session");
    }
    if !(400..500).contains(&status) || status == 429 {
        return None;
    }
    match code {
        Some("refresh_token_expired") => Some("the refresh token has expired"),
        Some("refresh_token_reused") => Some("the refresh token was already used, perhaps by another program"),
        Some("refresh_token_invalidated") => Some("the session was revoked"),
        Some("invalid_grant") => Some("the issuer no longer accepts the refresh token"),
        _ if status == 401 => Some("the issuer refused it"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{IssuerError, IssuerResponse};

    fn failure(status: u16, body: &str) -> IssuerError {
        IssuerResponse { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }.failure()
    }

    #[test]
    fn every_permanent_code_is_recognized_in_both_forms() {
        for code in ["refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated", "invalid_grant"] {
            let nested = format!(r#"{{"error":{{"message":"m","type":"t","param":null,"code":"{code}"}}}}"#);
            let flat = format!(r#"{{"error":"{code}","error_description":"d"}}"#);
            let top = format!(r#"{{"code":"{code}"}}"#);
            for (status, body) in [(401, &nested), (400, &nested), (400, &flat), (401, &flat), (401, &top)] {
                let IssuerError::Refused { reason } = failure(status, body) else { panic!("{status} {body}") };
                assert!(reason.contains(code), "{reason}");
            }
        }
    }

    #[test]
    fn an_unknown_401_and_an_ended_session_are_permanent() {
        assert!(matches!(failure(401, "<html>"), IssuerError::Refused { .. }));
        assert!(matches!(failure(403, r#"{"error":"app_session_terminated"}"#), IssuerError::Refused { .. }));
    }

    #[test]
    fn other_statuses_are_temporary() {
        for status in [302, 400, 403, 404, 408, 429, 500, 502, 503] {
            assert!(matches!(failure(status, "{}"), IssuerError::Unavailable { .. }), "{status}");
        }
        assert!(matches!(failure(503, r#"{"error":"invalid_grant"}"#), IssuerError::Unavailable { .. }));
    }

    #[test]
    fn free_text_of_the_issuer_is_not_repeated() {
        let error = failure(401, r#"{"error":{"code":"rt_9x: ann@example.com","message":"rt_9x"}}"#);
        assert!(!error.to_string().contains("rt_9x"), "{error}");
    }
}
