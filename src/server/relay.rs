//! Relays requests of Codex clients to the backend's endpoints other than `/responses`.
//!
//! Only listed endpoints exist. The request body is passed on unread, request headers if they are on a list, and the
//! response body as it arrives. Telemetry, plugin and settings endpoints are not relayed.

use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::access::OwnUsage;
use super::http_response::with_headers;
use super::request_log::RequestRecord;
use super::side_request::{SideApi, SideRequest, passed_on};
use crate::blocking::off_thread;
use crate::budget::BufferedBody;
use crate::error::{Fault, ProxyError, Refusal};
use crate::protocol::Mode;
use crate::protocol::json::string::Str;
use crate::token_source::CredentialSource;
use crate::upstream::{CallQuota, ForwardedHeaders, SideCall, SideTarget, UNBOUND_ORIGIN};

/// Time limit for the head of a response, unless an image is generated.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
const MAX_ACCOUNT_BYTES: u64 = 256 * 1024;
/// The account document with the region routing.
const ACCOUNTS: &str = "accounts/check";
/// The members of `accounts/check` that make the client send requests for responses to another origin.
const ROUTING: [&str; 2] = ["workspace_backend_origin", "account_routing_override"];

/// The member of a body that names the model. The others are skipped.
#[derive(Deserialize)]
struct NamedModel<'b> {
    #[serde(borrow)]
    model: Option<Str<'b>>,
}

/// An endpoint that is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relay {
    /// `POST alpha/search`.
    Search,
    /// `POST images/generations` and `images/edits`, with the time limit for the head of the response.
    Images(Duration),
    /// `POST alpha/notes/v2/…`.
    Notes,
    /// `POST alpha/history/v2/…`.
    History,
    /// `POST memories/trace_summarize`.
    Memories,
    /// `GET` of an account document, by its name.
    Account(&'static str),
}

impl Relay {
    /// The account documents that are relayed.
    pub(super) const ACCOUNT: [Self; 4] = [
        Self::Account("usage"),
        Self::Account(ACCOUNTS),
        Self::Account("profiles/me"),
        Self::Account("rate-limit-reset-credits"),
    ];

    fn head_timeout(self) -> Duration {
        if let Self::Images(limit) = self { limit } else { HEAD_TIMEOUT }
    }

    /// The limit that a request with this body depends on; none if it names no model.
    fn quota(self, body: &[u8]) -> CallQuota {
        let of_model = match self {
            Self::Search => CallQuota::Uncounted,
            Self::Images(_) => CallQuota::Counted,
            Self::Notes | Self::History | Self::Memories | Self::Account(_) => return CallQuota::Free,
        };
        let named = off_thread(body.len(), || serde_json::from_slice::<NamedModel<'_>>(body));
        let model = named.ok().and_then(|named| named.model);
        model.map_or(CallQuota::Free, |model| of_model(model.into_cow().into_owned()))
    }

    fn call(self, request: &SideRequest) -> SideCall {
        let path = request.parts.uri.path();
        let (method, target) = match self {
            Self::Account(document) => (Method::GET, SideTarget::Account(document.to_owned())),
            _ => (Method::POST, SideTarget::Codex(path.trim_start_matches("/v1").to_owned())),
        };
        let quota = self.quota(&request.body);
        let body = if method == Method::POST { request.body.clone() } else { Bytes::new() };
        SideCall { method, target, quota, forwarded: self.forwarded(request), body, head_timeout: self.head_timeout() }
    }

    /// Account documents are requested without the headers that describe a turn.
    fn forwarded(self, request: &SideRequest) -> ForwardedHeaders {
        let forwarded = request.forwarded();
        match self {
            Self::Account(_) => ForwardedHeaders { originator: forwarded.originator, ..ForwardedHeaders::default() },
            _ => forwarded,
        }
    }
}

impl SideApi for Relay {
    fn name(&self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Images(_) => "images",
            Self::Notes => "notes",
            Self::History => "history",
            Self::Memories => "memories",
            Self::Account(_) => "account",
        }
    }

    /// Client errors keep the backend's status, which Codex clients interpret. A challenge of Cloudflare doesn't: the
    /// backend hasn't seen the request.
    fn error_status(&self, error: &ProxyError) -> Option<StatusCode> {
        let ProxyError::Upstream(failure) = error else { return None };
        let status = StatusCode::from_u16(failure.status?).ok()?;
        status.is_client_error().then_some(status).filter(|_| failure.fault != Fault::Challenge)
    }

    async fn respond(
        &self,
        mut request: SideRequest,
        record: &mut Option<RequestRecord>,
    ) -> Result<Response, ProxyError> {
        check_path(&request.parts)?;
        // A client that signs in itself owns the account.
        if matches!(self, Self::Account(_)) && request.token.credentials() == CredentialSource::Store {
            check_admin(&request.parts)?;
        }
        if matches!(self, Self::Images(_)) {
            // A failed call may have been billed.
            request.token.retry_only_unaccepted();
        }
        let call = self.call(&request);
        if let (Some(record), Some(model)) = (record.as_ref(), call.quota.model()) {
            record.set_model(model, Mode::Document);
        }
        let mut response = request.call(&call).await?;
        if let Self::Account(name) = *self {
            let headers = std::mem::take(&mut response.headers);
            let read = response.read(MAX_ACCOUNT_BYTES, &request.budget).await?;
            let BufferedBody { bytes, memory: _memory } = read;
            let document = if name == ACCOUNTS { without_routing(&bytes)? } else { bytes };
            return Ok(with_headers(StatusCode::OK, headers, document));
        }
        let record = record.take().ok_or(ProxyError::Internal)?;
        Ok(passed_on(response, request.abort, record))
    }
}

/// Refuses paths with characters other than letters, digits, `/`, `_` and `-`: the path becomes part of the backend's
/// URL.
fn check_path(request: &Parts) -> Result<(), ProxyError> {
    let path = request.uri.path();
    if path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte)) {
        return Ok(());
    }
    Err(ProxyError::UnknownPath { method: request.method.to_string(), path: path.to_owned() })
}

/// Refuses keys that may read only their own usage: account documents contain the quota and the owner's e-mail address.
fn check_admin(request: &Parts) -> Result<(), ProxyError> {
    if request.extensions.get::<OwnUsage>().is_none() {
        return Ok(());
    }
    let message = "this client key can't read the documents of the account; use a key with admin = true";
    Err(Refusal::forbidden("admin_key_required", None, message))
}

/// Removes the region routing from an `accounts/check` document: the client must send its requests here, and the
/// upstream client applies the routing.
fn without_routing(document: &[u8]) -> Result<Bytes, ProxyError> {
    let mut parsed: Value = serde_json::from_slice(document)
        .map_err(|_| ProxyError::Damaged { reason: "the account document is not JSON".to_owned() })?;
    clear_routing(&mut parsed);
    Ok(Bytes::from(parsed.to_string()))
}

fn clear_routing(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if ROUTING.contains(&name.as_str()) && member.is_string() {
                    *member = UNBOUND_ORIGIN.into();
                } else {
                    clear_routing(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clear_routing),
        _ => {}
    }
}
