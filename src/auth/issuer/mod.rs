//! The issuer's endpoints.
//!
//! Sends what the issuer expects of this kind of client, byte for byte in the places where it
//! differs from plain OAuth (a refresh is JSON and gives a reason), and reads both shapes of its
//! errors. Tells failures that are final for a refresh token from those that pass. Keeps nothing,
//! retries nothing, and never quotes a token or the issuer's free text: it might hold one.

mod answer;
mod count;
mod device;
mod whoami;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use serde_json::json;

use self::answer::Answer;
pub(in crate::auth) use self::answer::is_code;
use self::count::Count;
pub(in crate::auth) use self::device::{DeviceCode, Poll};
use crate::auth::Settings;
use crate::auth::credential::{Credential, Grant};
use crate::endpoint::Endpoint;
use crate::net::{HttpClient, error_chain};
use crate::secret::Secret;
use crate::token_source::Refreshes;

const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT_BYTES: usize = 1024 * 1024;

/// The issuer, as this client speaks to it.
#[derive(Clone, Debug)]
pub struct Authority {
    http: HttpClient,
    url: Endpoint,
    client_id: String,
    originator: String,
    user_agent: String,
    timeout: Duration,
    refreshes: Arc<Count>,
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
    content: Content,
    introduction: Introduction,
}

/// What a call carries.
enum Content {
    Form(String),
    Json(serde_json::Value),
    /// Nothing; it is a GET with this bearer.
    Bearer(Secret),
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
            refreshes: Arc::default(),
        }
    }

    /// The same issuer, with another limit for each call.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How often tokens were renewed.
    pub(in crate::auth) fn refreshes(&self) -> Refreshes {
        self.refreshes.read()
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
        let call = Call { path: "/oauth/token", content: Content::Form(body), introduction: Introduction::Anonymous };
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
        let call = Call { path: "/oauth/token", content: Content::Json(body), introduction: Introduction::Named };
        let granted = self.granted(call).await;
        self.refreshes.add(&granted);
        granted
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
        let call = Call { path: "/oauth/revoke", content: Content::Json(body), introduction: Introduction::Named };
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
        let client = self.http.client_for(&self.url).await.map_err(|error| self.unreachable(&error.to_string()))?;
        let mut request = call.content.request(&client, self.url.join(call.path));
        if matches!(call.introduction, Introduction::Named) {
            if !self.originator.is_empty() {
                request = request.header("originator", &self.originator);
            }
            request = request.header(USER_AGENT, &self.user_agent);
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&error_chain(&error)))?;
        self.http.observe_date(response.headers());
        let mut answer =
            Answer { status: response.status().as_u16(), headers: response.headers().clone(), body: Vec::new() };
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error_chain(&error)))? {
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

impl Content {
    fn request(self, client: &reqwest::Client, url: url::Url) -> reqwest::RequestBuilder {
        match self {
            Self::Form(body) => client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body),
            Self::Json(body) => client.post(url).header(CONTENT_TYPE, "application/json").body(body.to_string()),
            Self::Bearer(token) => {
                let request = client.request(Method::GET, url);
                match HeaderValue::from_str(&format!("Bearer {}", token.expose())) {
                    Ok(mut value) => {
                        value.set_sensitive(true);
                        request.header(AUTHORIZATION, value)
                    }
                    // A token that no header can carry is refused like any other wrong one.
                    Err(_) => request,
                }
            }
        }
    }
}

impl AuthorityError {
    fn unreadable() -> Self {
        Self::Unavailable { message: "the issuer's answer can't be read".to_owned(), retry_after: None }
    }
}
