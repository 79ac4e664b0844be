//! The headers that leave, and those that come back and are passed on. Pure.
//!
//! What leaves is the small set that the backend needs of a third party, under our own name: no
//! cookies, no telemetry. A value that no header can carry is left out where it is a hint, and is
//! an error where it is the token or the account.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use super::{Hints, Settings};
use crate::error::ProxyError;
use crate::protocol::codex::lite;
use crate::protocol::codex::request::{Omissions, Request, ServiceTier, WireFormat};
use crate::token_source::{AuthError, Bearer};

const ACCOUNT: HeaderName = HeaderName::from_static("chatgpt-account-id");
const FEDRAMP: HeaderName = HeaderName::from_static("x-openai-fedramp");
const ORIGINATOR: HeaderName = HeaderName::from_static("originator");
const VERSION: HeaderName = HeaderName::from_static("version");
const SESSION: HeaderName = HeaderName::from_static("session-id");
const ROUTING_HINT: HeaderName = HeaderName::from_static("x-codex-routing-hint");
const FEATURES: HeaderName = HeaderName::from_static("x-codex-beta-features");
const ROUTING_OVERRIDE: HeaderName = HeaderName::from_static("x-openai-account-routing-override");

/// Who calls: the same for every endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'c> {
    pub(super) settings: &'c Settings,
    pub(super) version: &'c str,
    pub(super) bearer: &'c Bearer,
}

impl Caller<'_> {
    /// Headers of `POST /responses`.
    pub(super) fn responses(
        &self,
        request: &Request<'_>,
        omitted: &Omissions,
        hints: &Hints,
        routing: Option<&'static str>,
    ) -> Result<HeaderMap, ProxyError> {
        let mut headers = self.account()?;
        self.name(&mut headers, hints);
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        put(&mut headers, SESSION, &request.prompt_cache_key);
        let tier = request.service_tier.filter(|_| !omitted.contains("service_tier")).map(|tier| match tier {
            ServiceTier::Priority => ";tier=priority",
        });
        put(&mut headers, ROUTING_HINT, &format!("model={}{}", request.model, tier.unwrap_or_default()));
        if let Some(routing) = routing {
            headers.insert(ROUTING_OVERRIDE, HeaderValue::from_static(routing));
        }
        if request.is_compaction() {
            headers.insert(FEATURES, HeaderValue::from_static("remote_compaction_v2"));
        }
        if request.format != WireFormat::Classic {
            headers.insert(lite::HEADER, HeaderValue::from_static("true"));
        }
        for (name, value) in hints.forwarded.iter().flatten() {
            headers.insert(name.clone(), value.clone());
        }
        Ok(headers)
    }

    /// Headers of `GET /models`.
    pub(super) fn models(&self) -> Result<HeaderMap, ProxyError> {
        let mut headers = self.account()?;
        self.name(&mut headers, &Hints::default());
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        Ok(headers)
    }

    /// Headers of the account endpoints, which get no originator.
    pub(super) fn account(&self) -> Result<HeaderMap, ProxyError> {
        let mut headers = HeaderMap::new();
        let token = HeaderValue::from_str(&format!("Bearer {}", self.bearer.token.expose()));
        let mut token = token.map_err(|_| unusable("the access token"))?;
        token.set_sensitive(true);
        headers.insert(AUTHORIZATION, token);
        let account = HeaderValue::from_str(&self.bearer.account.id).map_err(|_| unusable("the account id"))?;
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

    fn name(&self, headers: &mut HeaderMap, hints: &Hints) {
        put(headers, VERSION, self.version);
        put(headers, ORIGINATOR, &self.settings.originator);
        put(headers, ORIGINATOR, hints.originator.as_deref().unwrap_or_default());
    }
}

/// The headers of an answer that a client may see: quota and the serving model; no cookie, no
/// turn state.
#[must_use]
pub fn passed_on(headers: &HeaderMap) -> HeaderMap {
    chosen(headers, |name| name == "openai-model" || (name.starts_with("x-codex-") && name != "x-codex-turn-state"))
}

/// The headers of an answer that a Codex client knows what to do with.
#[must_use]
pub fn passed_to_codex(headers: &HeaderMap) -> HeaderMap {
    const KNOWN: [&str; 3] = ["openai-model", "x-models-etag", "x-reasoning-included"];
    chosen(headers, |name| KNOWN.contains(&name) || name.starts_with("x-codex-"))
}

fn chosen(headers: &HeaderMap, is_shown: impl Fn(&str) -> bool) -> HeaderMap {
    let shown = headers.iter().filter(|(name, _)| is_shown(name.as_str()));
    shown.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A header as text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim).filter(|text| !text.is_empty())
}

fn put(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Some(value) = HeaderValue::from_str(text).ok().filter(|value| !value.is_empty()) {
        headers.insert(name, value);
    }
}

fn unusable(what: &str) -> ProxyError {
    ProxyError::Auth(AuthError::Ended { reason: format!("{what} holds characters that no header can carry") })
}
/// The backend's own id for a request.
pub(super) fn request_id(headers: &HeaderMap) -> Option<&str> {
    text(headers, "x-oai-request-id").or_else(|| text(headers, "x-request-id"))
}

/// Leaves the id of an attempt that failed with the client's request, for the log.
pub(super) fn note_failed(request_id: Option<&str>) {
    if let Some(id) = request_id {
        tracing::Span::current().record("upstream.id", id);
    }
}
