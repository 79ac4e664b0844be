//! What the issuer answered, read.
//!
//! Grants and both shapes of errors. Tells failures that are final from those that pass, and never
//! quotes the issuer's free text: it might hold a token or an address. Pure.

use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use super::AuthorityError;
use crate::auth::credential::Grant;
use crate::retry_after;
use crate::secret::Secret;

/// An answer, not yet understood.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The tokens of a grant; each may be missing, null or empty.
    pub(super) fn grant(&self) -> Result<Grant, AuthorityError> {
        let unreadable = || AuthorityError::unreadable();
        let Ok(Value::Object(members)) = serde_json::from_slice(&self.body) else { return Err(unreadable()) };
        let token = |name: &str| match members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(Secret::new(text.clone()))),
            Some(_) => Err(unreadable()),
        };
        Ok(Grant {
            id_token: token("id_token")?,
            access_token: token("access_token")?,
            refresh_token: token("refresh_token")?,
        })
    }

    /// What an answer other than a success means.
    pub(super) fn failure(&self) -> AuthorityError {
        let code = self.code();
        let told = code.as_deref().map(|code| format!(": {code}")).unwrap_or_default();
        match final_reason(self.status, code.as_deref()) {
            Some(reason) => AuthorityError::Refused { reason: format!("{reason}{told}") },
            None => AuthorityError::Unavailable {
                message: format!("the issuer answered {}{told}", self.status),
                retry_after: self.retry_after(),
            },
        }
    }

    /// The error's code, wherever the issuer put it, and only if it looks like one.
    pub(super) fn code(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let found = [&body["error"]["code"], &body["error"], &body["code"]].into_iter().find_map(Value::as_str)?;
        is_code(found).then(|| found.to_owned())
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        retry_after::from_headers(&self.headers)
    }
}

/// Whether a text is a machine's word, and so can't be a token or prose.
pub(in crate::auth) fn is_code(text: &str) -> bool {
    (1..=48).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Why a refusal is final, or `None` where a later try may succeed.
fn final_reason(status: u16, code: Option<&str>) -> Option<&'static str> {
    if code == Some("app_session_terminated") {
        return Some("the session was ended by the issuer");
    }
    if !(400..500).contains(&status) || status == 429 {
        return None;
    }
    match code {
        Some("refresh_token_expired") => Some("the refresh token is too old"),
        Some("refresh_token_reused") => Some("the refresh token was already used, perhaps by another program"),
        Some("refresh_token_invalidated") => Some("the sign-in was revoked"),
        Some("invalid_grant") => Some("the issuer does not accept it any more"),
        _ if status == 401 => Some("the issuer refused it"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{Answer, AuthorityError};

    fn failure(status: u16, body: &str) -> AuthorityError {
        Answer { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }.failure()
    }

    #[test]
    fn every_final_code_is_recognised_in_both_shapes() {
        for code in ["refresh_token_expired", "refresh_token_reused", "refresh_token_invalidated", "invalid_grant"] {
            let nested = format!(r#"{{"error":{{"message":"m","type":"t","param":null,"code":"{code}"}}}}"#);
            let flat = format!(r#"{{"error":"{code}","error_description":"d"}}"#);
            let top = format!(r#"{{"code":"{code}"}}"#);
            for (status, body) in [(401, &nested), (400, &nested), (400, &flat), (401, &flat), (401, &top)] {
                let AuthorityError::Refused { reason } = failure(status, body) else { panic!("{status} {body}") };
                assert!(reason.contains(code), "{reason}");
            }
        }
    }

    #[test]
    fn an_unknown_401_is_final_and_an_ended_session_always_is() {
        assert!(matches!(failure(401, "<html>"), AuthorityError::Refused { .. }));
        assert!(matches!(failure(403, r#"{"error":"app_session_terminated"}"#), AuthorityError::Refused { .. }));
    }

    #[test]
    fn trouble_passes() {
        for status in [302, 400, 403, 404, 408, 429, 500, 502, 503] {
            assert!(matches!(failure(status, "{}"), AuthorityError::Unavailable { .. }), "{status}");
        }
        assert!(matches!(failure(503, r#"{"error":"invalid_grant"}"#), AuthorityError::Unavailable { .. }));
    }

    #[test]
    fn free_text_of_the_issuer_is_not_repeated() {
        let error = failure(401, r#"{"error":{"code":"rt_9x: ann@example.com","message":"rt_9x"}}"#);
        assert!(!error.to_string().contains("rt_9x"), "{error}");
    }
}
