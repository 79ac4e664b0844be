//! Calls the issuer's endpoints.
//!
//! Sends exactly what the issuer expects of the Codex client, including its differences from plain OAuth (a refresh is
//! JSON and contains a reason). Distinguishes permanent refusals of a refresh token from temporary failures. Stores and
//! retries nothing. Errors never quote a token or the issuer's free text, which might contain one.

mod device;
mod refresh_counter;
mod response;
mod whoami;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use serde_json::json;

pub(in crate::auth) use self::device::{DeviceCode, DevicePoll};
use self::refresh_counter::RefreshCounter;
use self::response::IssuerResponse;
pub(in crate::auth) use self::response::is_code;
use crate::auth::Settings;
use crate::auth::credential::{Credential, TokenResponse};
use crate::endpoint::Endpoint;
use crate::net::{HttpClient, error_chain};
use crate::secret::Secret;
use crate::token_source::RefreshCounts;

const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// A client of the issuer. Clones share the connections and counters.
#[derive(Clone, Debug)]
pub struct Issuer {
    http: HttpClient,
    url: Endpoint,
    client_id: String,
    originator: String,
    user_agent: String,
    timeout: Duration,
    refreshes: Arc<RefreshCounter>,
}

/// Why a token is refreshed; sent to the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshReason {
    /// The access token has expired or expires soon.
    ProactiveExpiry,
    /// The backend refused the access token.
    UnauthorizedRecovery,
}

/// Why a call to the issuer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// The issuer refused permanently: repeating the call won't help.
    #[error("{reason}")]
    Refused {
        /// The reason, for the user.
        reason: String,
    },
    /// The issuer can't be reached or had a temporary failure; a later attempt may succeed.
    #[error("{message}")]
    Unavailable {
        /// The cause.
        message: String,
        /// How long to wait before the next attempt, if the issuer specified it.
        retry_after: Option<Duration>,
    },
}

/// Whether a call sends the headers `originator` and `user-agent`; only some endpoints expect them.
#[derive(Clone, Copy)]
enum ClientHeaders {
    Omit,
    Send,
}

struct Call {
    path: &'static str,
    body: CallBody,
    client_headers: ClientHeaders,
}

/// Method and body of a call.
enum CallBody {
    Form(String),
    Json(serde_json::Value),
    /// A GET without a body, with this bearer token.
    Bearer(Secret),
}

impl Issuer {
    /// Creates a client of the configured issuer.
    #[must_use]
    pub fn new(http: HttpClient, settings: &Settings) -> Self {
        Self {
            http,
            url: settings.issuer.clone(),
            client_id: settings.client_id.clone(),
            originator: settings.originator.clone(),
            user_agent: settings.user_agent.clone(),
            timeout: CALL_TIMEOUT,
            refreshes: Arc::default(),
        }
    }

    /// Changes the timeout of each call.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Returns how many refreshes there were, by outcome.
    pub(in crate::auth) fn refreshes(&self) -> RefreshCounts {
        self.refreshes.read()
    }

    /// Returns the HTTP client, for other calls of a login.
    pub(in crate::auth) fn http(&self) -> &HttpClient {
        &self.http
    }

    /// Exchanges an authorization code for tokens.
    ///
    /// # Errors
    /// If the issuer refuses the code or can't be reached.
    pub async fn exchange(
        &self,
        code: &Secret,
        verifier: &Secret,
        redirect_uri: &str,
    ) -> Result<TokenResponse, IssuerError> {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "authorization_code")
            .append_pair("client_id", &self.client_id)
            .append_pair("code", code.expose())
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("code_verifier", verifier.expose())
            .finish();
        let call = Call { path: "/oauth/token", body: CallBody::Form(body), client_headers: ClientHeaders::Omit };
        self.request_tokens(call).await
    }

    /// Exchanges a refresh token for new tokens. The refresh token is used up: the caller must store the new tokens
    /// before it does anything else.
    ///
    /// # Errors
    /// If the issuer refuses the token or can't be reached.
    pub async fn refresh(&self, refresh_token: &Secret, reason: RefreshReason) -> Result<TokenResponse, IssuerError> {
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
        let call = Call { path: "/oauth/token", body: CallBody::Json(body), client_headers: ClientHeaders::Send };
        let response = self.request_tokens(call).await;
        self.refreshes.add(&response);
        response
    }

    /// Revokes the refresh token of a credential, or its access token if there is none.
    ///
    /// # Errors
    /// If the issuer refuses, or can't be reached within ten seconds.
    pub async fn revoke(&self, credential: &Credential) -> Result<(), IssuerError> {
        let body = match &credential.refresh_token {
            Some(token) => json!({
                "token": token.expose(), "token_type_hint": "refresh_token", "client_id": self.client_id,
            }),
            None => json!({"token": credential.access_token.expose(), "token_type_hint": "access_token"}),
        };
        let call = Call { path: "/oauth/revoke", body: CallBody::Json(body), client_headers: ClientHeaders::Send };
        let response = self.call(call, self.timeout.min(REVOKE_TIMEOUT)).await?;
        if (200..300).contains(&response.status) { Ok(()) } else { Err(response.failure()) }
    }

    async fn request_tokens(&self, call: Call) -> Result<TokenResponse, IssuerError> {
        let response = self.call(call, self.timeout).await?;
        if response.status == 200 { response.tokens() } else { Err(response.failure()) }
    }

    async fn call(&self, call: Call, timeout: Duration) -> Result<IssuerResponse, IssuerError> {
        match tokio::time::timeout(timeout, self.send(call)).await {
            Ok(response) => response,
            Err(_) => Err(self.unreachable(&format!("no response within {} s", timeout.as_secs_f32()))),
        }
    }

    async fn send(&self, call: Call) -> Result<IssuerResponse, IssuerError> {
        let client = self.http.client_for(&self.url).await.map_err(|error| self.unreachable(&error.to_string()))?;
        let mut request = call.body.request(&client, self.url.join(call.path));
        if matches!(call.client_headers, ClientHeaders::Send) {
            if !self.originator.is_empty() {
                request = request.header("originator", &self.originator);
            }
            request = request.header(USER_AGENT, &self.user_agent);
        }
        let mut reply = request.send().await.map_err(|error| self.unreachable(&error_chain(&error)))?;
        self.http.observe_date(reply.headers());
        let mut response =
            IssuerResponse { status: reply.status().as_u16(), headers: reply.headers().clone(), body: Vec::new() };
        while let Some(chunk) = reply.chunk().await.map_err(|error| self.unreachable(&error_chain(&error)))? {
            if response.body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(self.unreachable("the response is too long"));
            }
            response.body.extend_from_slice(&chunk);
        }
        Ok(response)
    }

    fn unreachable(&self, cause: &str) -> IssuerError {
        IssuerError::Unavailable { message: format!("{}: {cause}", self.url.host()), retry_after: None }
    }
}

impl CallBody {
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
                    // Not a valid header value: send no token, and the issuer refuses the call.
                    Err(_) => request,
                }
            }
        }
    }
}

impl IssuerError {
    fn unreadable() -> Self {
        Self::Unavailable { message: "the issuer's response can't be read".to_owned(), retry_after: None }
    }
}
