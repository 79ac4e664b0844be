//! Requests that the daemon makes itself, on behalf of a client.
//!
//! Such a request goes through the same routes as one of a connection: it has the limits and the account of the
//! client's key, and appears in log, metrics, usage totals and the list of requests as one of that key. It isn't checked
//! against the rules for connections, since the request that caused it was. It needs no concurrency permit: what makes
//! it has a limit of its own.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request};
use tokio::sync::watch;
use tower::ServiceExt;

use super::LiveSettings;
use super::access::ClientKey;
use super::middleware::attach_client_key;
use crate::error::{ProxyError, Refusal};
use crate::history::ResponseOwner;

/// A request on behalf of a client.
#[derive(Debug)]
pub(super) struct InternalRequest {
    /// The client key, or all clients if no keys are set.
    pub(super) owner: ResponseOwner,
    pub(super) method: Method,
    /// The path, with the query if any, such as `/v1/responses`.
    pub(super) path: String,
    /// Headers that the request depends on, such as `x-proxy-account` and `user-agent`. The content type is added.
    pub(super) headers: HeaderMap,
    /// The JSON body; empty for methods without one.
    pub(super) body: Bytes,
    /// What else handlers read, such as the share of the quota.
    pub(super) extensions: Extensions,
}

/// The error that a response reports, as an extension of the response.
#[derive(Clone, Debug)]
pub(super) struct ReportedError(pub(super) Arc<ProxyError>);

/// The code of the error for a client key that no longer exists.
pub(super) const KEY_REMOVED: &str = "client_key_removed";

/// Marks a request of the daemon itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct IsInternal;

/// The routes that the daemon's own requests may use.
#[derive(Clone, Debug)]
pub(super) struct InternalRoutes {
    /// The routes, with the layers that identify a request and catch panics.
    routes: Router,
    live: watch::Receiver<Arc<LiveSettings>>,
}

impl InternalRoutes {
    pub(super) fn new(routes: Router, live: watch::Receiver<Arc<LiveSettings>>) -> Self {
        Self { routes, live }
    }

    /// Runs a request. Returns its response, which is an error in the format of the API if the request fails. Dropping
    /// the future, or the body of the response, drops the upstream call.
    ///
    /// # Errors
    /// If the path is invalid, or the client key of the request no longer exists.
    pub(super) async fn run(&self, request: InternalRequest) -> Result<Response, ProxyError> {
        let InternalRequest { owner, method, path, headers, body, extensions } = request;
        let built = Request::builder().method(method).uri(path).body(Body::from(body));
        let mut built = built.map_err(|_| Refusal::body("the path of the request is not valid"))?;
        *built.headers_mut() = headers;
        built.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let (mut parts, body) = built.into_parts();
        parts.extensions.extend(extensions);
        attach_owner(&self.live.borrow(), &owner, &mut parts)?;
        let request = Request::from_parts(parts, body);
        Ok(self.routes.clone().oneshot(request).await.unwrap_or_else(|never| match never {}))
    }
}

/// Attaches what the key of this owner determines, by the settings in force: name, limits and account.
///
/// # Errors
/// If the key no longer exists, or there were no keys before and there are now.
pub(super) fn attach_owner(live: &LiveSettings, owner: &ResponseOwner, parts: &mut Parts) -> Result<(), ProxyError> {
    let keys = &live.access.keys;
    parts.extensions.insert(IsInternal);
    if *owner == ResponseOwner::default() && keys.is_empty() {
        return Ok(());
    }
    let is_owner = |key: &&ClientKey| ResponseOwner::of_key(&key.name, &key.sha256) == *owner;
    let Some(key) = keys.iter().find(is_owner) else {
        let message = "the client key that this request was made with is not valid anymore (setting keys)";
        return Err(Refusal::forbidden(KEY_REMOVED, None, message));
    };
    attach_client_key(key, parts);
    Ok(())
}

/// Whether a request is made by the daemon itself.
pub(super) fn is_internal(parts: &Parts) -> bool {
    parts.extensions.get::<IsInternal>().is_some()
}
