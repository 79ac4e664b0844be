//! The issuer's token endpoints.
//!
//! Sends what the issuer expects of this kind of client, byte for byte in the places where it
//! differs from plain OAuth (a refresh is JSON and gives a reason), and reads both shapes of its
//! errors. Tells failures that are final for a refresh token from those that pass. Keeps nothing,
//! retries nothing, and never quotes a token or the issuer's free text: it might hold one.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use serde_json::{Value, json};

use crate::auth::Settings;
use crate::auth::credential::{Credential, Grant};
use crate::net::{Endpoint, HttpClient, causes};
use crate::secret::Secret;

const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT_BYTES: usize = 1024 * 1024;
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// The issuer, as this client speaks to it.
#[derive(Clone, Debug)]
pub struct Authority {
    http: HttpClient,
    url: Endpoint,
    client_id: String,
    originator: String,
    user_agent: String,
    timeout: Duration,
}

/// Why a refresh is asked for; the issuer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshReason {
    /// The access token has ended or is about to.
    ProactiveExpiry,
    /// The backend refused the access token.
    UnauthorizedRecovery,
}

/// Why the issuer gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The issuer refused for good: the same question will get the same answer.
    #[error("{reason}")]
    Refused {
        /// What it means for the user.
        reason: String,
    },
    /// The issuer can't be reached or has trouble; another try may succeed.
    #[error("{message}")]
    Unavailable {
        /// The cause.
        message: String,
        /// What the issuer says about the next try.
        retry_after: Option<Duration>,
    },
}

/// Whether a call names the program that makes it; only some of the endpoints expect it.
#[derive(Clone, Copy)]
enum Introduction {
    Anonymous,
    Named,
}

struct Call {
    path: &'static str,
    content_type: &'static str,
    body: String,
    introduction: Introduction,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Authority {
    /// The issuer of the settings, reached through a client.
    #[must_use]
    pub fn new(http: HttpClient, settings: &Settings) -> Self {
        Self {
            http,
            url: settings.authority.clone(),
            client_id: settings.client_id.clone(),
            originator: settings.originator.clone(),
            user_agent: settings.user_agent.clone(),
            timeout: CALL_TIMEOUT,
        }
    }

    /// The same issuer, with another limit for each call.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The client, for other calls of a login.
    pub(in crate::auth) fn http(&self) -> &HttpClient {
        &self.http
    }

    /// Turns the code of a browser login into tokens.
    ///
    /// # Errors
    /// When the issuer refuses the code or can't be asked.
    pub async fn exchange(
        &self,
        code: &Secret,
        verifier: &Secret,
        redirect_uri: &str,
    ) -> Result<Grant, AuthorityError> {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "authorization_code")
            .append_pair("client_id", &self.client_id)
            .append_pair("code", code.expose())
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("code_verifier", verifier.expose())
            .finish();
        let call = Call { path: "/oauth/token", content_type: FORM, body, introduction: Introduction::Anonymous };
        self.granted(call).await
    }

    /// Spends a refresh token. The caller stores the outcome before anything else.
    ///
    /// # Errors
    /// When the issuer refuses the token or can't be asked.
    pub async fn refresh(&self, refresh_token: &Secret, reason: RefreshReason) -> Result<Grant, AuthorityError> {
        let reason = match reason {
            RefreshReason::ProactiveExpiry => "proactive_expiry",
            RefreshReason::UnauthorizedRecovery => "unauthorized_recovery",
        };
        let body = json!({
            "client_id": self.client_id,
            "grant_type": "refresh_token",
            "refresh_reason": reason,
            "refresh_token": refresh_token.expose(),
        });
        let call = Call {
            path: "/oauth/token",
            content_type: JSON,
            body: body.to_string(),
            introduction: Introduction::Named,
        };
        self.granted(call).await
    }

    /// Tells the issuer that a login is over.
    ///
    /// # Errors
    /// When the issuer refuses or can't be asked within ten seconds.
    pub async fn revoke(&self, credential: &Credential) -> Result<(), AuthorityError> {
        let body = match &credential.refresh_token {
            Some(token) => json!({
                "token": token.expose(), "token_type_hint": "refresh_token", "client_id": self.client_id,
            }),
            None => json!({"token": credential.access_token.expose(), "token_type_hint": "access_token"}),
        };
        let call = Call {
            path: "/oauth/revoke",
            content_type: JSON,
            body: body.to_string(),
            introduction: Introduction::Named,
        };
        let answer = self.call(call, self.timeout.min(REVOKE_TIMEOUT)).await?;
        if (200..300).contains(&answer.status) { Ok(()) } else { Err(answer.failure()) }
    }

    async fn granted(&self, call: Call) -> Result<Grant, AuthorityError> {
        let answer = self.call(call, self.timeout).await?;
        if answer.status == 200 { answer.grant() } else { Err(answer.failure()) }
    }

    async fn call(&self, call: Call, limit: Duration) -> Result<Answer, AuthorityError> {
        match tokio::time::timeout(limit, self.send(call)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable(&format!("no answer within {} s", limit.as_secs_f32()))),
        }
    }

    async fn send(&self, call: Call) -> Result<Answer, AuthorityError> {
        let client = self.http.to(&self.url).await.map_err(|error| self.unreachable(&error.to_string()))?;
        let mut request = client.post(self.url.join(call.path)).header(CONTENT_TYPE, call.content_type).body(call.body);
        if matches!(call.introduction, Introduction::Named) {
            if !self.originator.is_empty() {
                request = request.header("originator", &self.originator);
            }
            request = request.header(USER_AGENT, &self.user_agent);
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&causes(&error)))?;
        let mut answer =
            Answer { status: response.status().as_u16(), headers: response.headers().clone(), body: Vec::new() };
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&causes(&error)))? {
            if answer.body.len() + chunk.len() > ANSWER_LIMIT_BYTES {
                return Err(self.unreachable("the answer is too long"));
            }
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    fn unreachable(&self, cause: &str) -> AuthorityError {
        AuthorityError::Unavailable { message: format!("{}: {cause}", self.url.host()), retry_after: None }
    }
}

impl Answer {
    fn grant(&self) -> Result<Grant, AuthorityError> {
        let unreadable = || AuthorityError::Unavailable {
            message: "the issuer's answer can't be read".to_owned(),
            retry_after: None,
        };
        let Ok(Value::Object(members)) = serde_json::from_slice(&self.body) else { return Err(unreadable()) };
        let token = |name: &str| match members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(Secret::new(text.clone()))),
            Some(_) => Err(unreadable()),
        };
        Ok(Grant {
            id_token: token("id_token")?,
            access_token: token("access_token")?,
            refresh_token: token("refresh_token")?,
        })
    }

    fn failure(&self) -> AuthorityError {
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
    fn code(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        let found = [&body["error"]["code"], &body["error"], &body["code"]].into_iter().find_map(Value::as_str)?;
        is_code(found).then(|| found.to_owned())
    }

    fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
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
