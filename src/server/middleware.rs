//! The middleware around all routes, outermost first; `routes` adds some that only set headers and extensions.
//!
//! [`attach_policy`] attaches the access rules in force, which apply to the whole request even if the settings are
//! reloaded, and adds CORS headers to the response. [`catch_panics`] turns a panic into an error response.
//! [`authorize`] checks the request against the policy; a refused request doesn't reach any route.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt;
use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;
use http::request::Parts;
use tokio::sync::watch;

use super::access::{AccessPolicy, Admission, ClientKey, ConnectionSource, KeyName, OwnUsage};
use super::api_flavor::{ApiFlavor, error_response, refuse_unread};
use super::refusals::Refusals;
use super::request_log::RequestId;
use super::{Backend, LiveSettings, account, cors, page, unsupported};
use crate::error::ProxyError;
use crate::history::ResponseOwner;
use crate::token_source::CredentialSource;

/// The inputs of an [`AccessPolicy`].
#[derive(Clone, Debug)]
pub(super) struct PolicySource {
    pub(super) live: watch::Receiver<Arc<LiveSettings>>,
    pub(super) own_addresses: Arc<[IpAddr]>,
    pub(super) backend: Backend,
    pub(super) credentials: CredentialSource,
    pub(super) refusals: Arc<Refusals>,
}

/// Attaches the access policy in force, and lets pages of allowed origins read the response.
pub(super) async fn attach_policy(
    State(config): State<PolicySource>,
    Extension(source): Extension<ConnectionSource>,
    mut request: Request,
    next: Next,
) -> Response {
    let live = Arc::clone(&config.live.borrow());
    let PolicySource { own_addresses, backend, credentials, refusals, .. } = config;
    let policy = Arc::new(AccessPolicy { live, own_addresses, source, backend, credentials, refusals });
    let origin = policy.allowed_origin(request.headers()).cloned();
    request.extensions_mut().insert(Arc::clone(&policy));
    let mut response = next.run(request).await;
    if policy.allows_origins() {
        cors::vary(response.headers_mut());
    }
    if let Some(origin) = origin {
        cors::allow_origin(response.headers_mut(), origin);
    }
    response
}

/// Responds to a panic with an internal error. The panic message isn't reported, since it can repeat request content;
/// the panic hook logs where it happened.
pub(super) async fn catch_panics(request: Request, next: Next) -> Response {
    let flavor = ApiFlavor::of(&request);
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(request.id = %id, "a request handler panicked");
        error_response(flavor, &ProxyError::Internal, &id)
    })
}

/// Checks the request against the access policy, and attaches what its client key determines.
pub(super) async fn authorize(
    Extension(policy): Extension<Arc<AccessPolicy>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    match policy.authorize(&parts).await {
        Ok(Admission::Preflight) => cors::preflight(&parts),
        Ok(Admission::Request(key)) => {
            if let Some(key) = key {
                attach_key(&policy, key, &mut parts);
            }
            attach_login(&policy, &mut parts);
            next.run(Request::from_parts(parts, body)).await
        }
        // The route refuses it: the endpoint isn't supported, so an error about the content type would be misleading.
        Err(ProxyError::UnsupportedMediaType { .. }) if unsupported::is_upload(&parts) => {
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => {
            policy.refusals.note(&error);
            let requires_key = matches!(error, ProxyError::KeyRequired { .. });
            if requires_key && page::is_page_request(&parts) {
                return page::key_required();
            }
            let mut response = refuse_unread(&error, Request::from_parts(parts, body)).await;
            // A bearer token is the client's own login if clients sign in themselves, and not the key.
            if requires_key && policy.credentials == CredentialSource::Store {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

/// Checks the opening request of a WebSocket again, by the rules in force now, for a further request on it.
pub(super) async fn reauthorize(live: &Arc<LiveSettings>, parts: &mut Parts) -> Result<(), ProxyError> {
    let Some(policy) = parts.extensions.get::<Arc<AccessPolicy>>() else { return Ok(()) };
    let policy = AccessPolicy { live: Arc::clone(live), ..AccessPolicy::clone(policy) };
    parts.extensions.remove::<KeyName>();
    parts.extensions.remove::<ResponseOwner>();
    parts.extensions.remove::<OwnUsage>();
    account::detach_key(parts);
    if let Admission::Request(Some(key)) = policy.authorize(parts).await? {
        attach_key(&policy, key, parts);
    }
    attach_login(&policy, parts);
    Ok(())
}

/// Attaches what the login of a client that signs in itself determines.
fn attach_login(policy: &AccessPolicy, parts: &mut Parts) {
    if policy.credentials == CredentialSource::Client {
        account::attach_login(parts);
    }
}

/// Attaches what the key determines: visible usage, and what [`attach_client_key`] attaches.
fn attach_key(policy: &AccessPolicy, key: &ClientKey, parts: &mut Parts) {
    policy.own_usage(key).map(|usage| parts.extensions.insert(usage));
    attach_client_key(key, parts);
}

/// Attaches the name of the key, and the owner, account and limits that it stands for.
pub(super) fn attach_client_key(key: &ClientKey, parts: &mut Parts) {
    parts.extensions.insert(KeyName(key.name.clone()));
    parts.extensions.insert(ResponseOwner::of_key(&key.name, &key.sha256));
    account::attach_key(key, parts);
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use http::{HeaderMap, StatusCode};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn panicking() -> Response {
        let prompt = String::from("private words");
        panic!("it was {prompt}")
    }

    async fn get_json(router: &Router, path: &str) -> (StatusCode, serde_json::Value) {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(RequestId("req_1".to_owned()));
        request.extensions_mut().insert(ApiFlavor::detect(path, &HeaderMap::new()));
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// The log as text.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_panic_becomes_an_error_of_its_own_request() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _log = tracing::subscriber::set_default(subscriber);
        let router = Router::new()
            .route("/v1/chat/completions", get(panicking))
            .route("/v1/messages", get(panicking))
            .route("/health", get(async || "ok"))
            .layer(from_fn(catch_panics));
        let (status, body) = get_json(&router, "/v1/chat/completions").await;
        assert_eq!((status, &body["error"]["message"]), (StatusCode::INTERNAL_SERVER_ERROR, &"internal error".into()));
        let (status, body) = get_json(&router, "/v1/messages").await;
        assert_eq!((status, &body["type"]), (StatusCode::INTERNAL_SERVER_ERROR, &"error".into()));
        assert_eq!(body["error"]["type"], "api_error");
        assert_eq!(get_json(&router, "/health").await.0, StatusCode::OK);
        let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("req_1") && log.contains("panicked") && !log.contains("private"), "{log}");
    }
}
