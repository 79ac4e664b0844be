//! The headers of requests to the backend, and the response headers that clients get. Pure.
//!
//! Requests have the few headers that the backend needs, and no cookies or telemetry; they identify this proxy, unless
//! the client's own headers are passed on. A value that isn't allowed in a header is left out; if it is the access
//! token or the account id, that is an error.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use super::outgoing::OutgoingRequest;
use super::{ForwardedHeaders, Settings};
use crate::error::ProxyError;
use crate::protocol::codex::failure::text_header;
use crate::protocol::codex::lite;
use crate::protocol::codex::request::ServiceTier;
use crate::token_source::{AuthError, Bearer};

const ACCOUNT: HeaderName = HeaderName::from_static("chatgpt-account-id");
const FEDRAMP: HeaderName = HeaderName::from_static("x-openai-fedramp");
const ORIGINATOR: HeaderName = HeaderName::from_static("originator");
const VERSION: HeaderName = HeaderName::from_static("version");
const SESSION: HeaderName = HeaderName::from_static("session-id");
const ROUTING_HINT: HeaderName = HeaderName::from_static("x-codex-routing-hint");
const FEATURES: HeaderName = HeaderName::from_static("x-codex-beta-features");
const ROUTING_OVERRIDE: HeaderName = HeaderName::from_static("x-openai-account-routing-override");

/// Builds the headers of requests for one account.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestHeaders<'h> {
    pub(super) settings: &'h Settings,
    pub(super) version: &'h str,
    pub(super) bearer: &'h Bearer,
}

impl RequestHeaders<'_> {
    /// Headers of `POST /responses`. `routing` is the region of the account, if it is bound to one.
    pub(super) fn responses(
        &self,
        request: &OutgoingRequest,
        forwarded: &ForwardedHeaders,
        routing: Option<&'static str>,
    ) -> Result<HeaderMap, ProxyError> {
        let mut headers = self.account()?;
        self.add_client_name(&mut headers, forwarded);
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        put(&mut headers, SESSION, &request.session);
        let tier = request.service_tier.map(|tier| match tier {
            ServiceTier::Priority => ";tier=priority",
        });
        put(&mut headers, ROUTING_HINT, &format!("model={}{}", request.model, tier.unwrap_or_default()));
        if let Some(routing) = routing {
            headers.insert(ROUTING_OVERRIDE, HeaderValue::from_static(routing));
        }
        if request.is_compaction {
            headers.insert(FEATURES, HeaderValue::from_static("remote_compaction_v2"));
        }
        if request.is_lite() {
            headers.insert(lite::HEADER, HeaderValue::from_static("true"));
        }
        forwarded.add_to(&mut headers);
        Ok(headers)
    }

    /// Headers of the other endpoints below the same base URL.
    pub(super) fn side_call(&self, forwarded: &ForwardedHeaders) -> Result<HeaderMap, ProxyError> {
        let mut headers = self.account_call(forwarded)?;
        self.add_client_name(&mut headers, forwarded);
        Ok(headers)
    }

    /// Headers of the endpoints beside that base URL, which the official client calls without its version.
    pub(super) fn account_call(&self, forwarded: &ForwardedHeaders) -> Result<HeaderMap, ProxyError> {
        let mut headers = self.account()?;
        forwarded.add_to(&mut headers);
        Ok(headers)
    }

    /// Headers of `GET /models`.
    pub(super) fn models(&self) -> Result<HeaderMap, ProxyError> {
        let mut headers = self.account()?;
        self.add_client_name(&mut headers, &ForwardedHeaders::default());
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        Ok(headers)
    }

    /// Headers of the account endpoints, which need no originator and version.
    pub(super) fn account(&self) -> Result<HeaderMap, ProxyError> {
        let mut headers = HeaderMap::new();
        let token = HeaderValue::from_str(&format!("Bearer {}", self.bearer.token.expose()));
        let mut token = token.map_err(|_| not_a_header("the access token"))?;
        token.set_sensitive(true);
        headers.insert(AUTHORIZATION, token);
        let account = HeaderValue::from_str(&self.bearer.account.id).map_err(|_| not_a_header("the account id"))?;
        if !account.is_empty() {
            headers.insert(ACCOUNT, account);
        }
        if self.bearer.account.is_fedramp {
            headers.insert(FEDRAMP, HeaderValue::from_static("true"));
        }
        put(&mut headers, USER_AGENT, &self.settings.user_agent);
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        Ok(headers)
    }

    fn add_client_name(&self, headers: &mut HeaderMap, forwarded: &ForwardedHeaders) {
        put(headers, VERSION, self.version);
        put(headers, ORIGINATOR, &self.settings.originator);
        put(headers, ORIGINATOR, forwarded.originator.as_deref().unwrap_or_default());
    }
}

impl ForwardedHeaders {
    fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in self.codex.iter().chain([&self.request]).flatten() {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// The response headers for clients other than Codex: the quota (`x-codex-…`) and the serving model. No turn state:
/// only Codex clients send it back.
#[must_use]
pub fn client_headers(headers: &HeaderMap) -> HeaderMap {
    filtered(headers, |name| name == "openai-model" || (name.starts_with("x-codex-") && name != "x-codex-turn-state"))
}

/// The response headers for Codex clients: also turn state, catalog etag, and whether reasoning was included.
#[must_use]
pub fn codex_client_headers(headers: &HeaderMap) -> HeaderMap {
    const KNOWN: [&str; 3] = ["openai-model", "x-models-etag", "x-reasoning-included"];
    filtered(headers, |name| KNOWN.contains(&name) || name.starts_with("x-codex-"))
}

fn filtered(headers: &HeaderMap, is_included: impl Fn(&str) -> bool) -> HeaderMap {
    let included = headers.iter().filter(|(name, _)| is_included(name.as_str()));
    included.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Sets a header, unless the text is empty or not allowed in one.
fn put(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Some(value) = HeaderValue::from_str(text).ok().filter(|value| !value.is_empty()) {
        headers.insert(name, value);
    }
}

fn not_a_header(what: &str) -> ProxyError {
    ProxyError::Auth(AuthError::Ended { reason: format!("{what} contains characters that are not allowed in headers") })
}

/// The backend's id of a request.
pub(super) fn request_id(headers: &HeaderMap) -> Option<&str> {
    text_header(headers, "x-oai-request-id").or_else(|| text_header(headers, "x-request-id"))
}

/// Adds the id of a failed attempt to the log span of the client's request.
pub(super) fn record_failed_id(request_id: Option<&str>) {
    if let Some(id) = request_id {
        tracing::Span::current().record("upstream.id", id);
    }
}
