//! What every request passes on its way in, and every answer on its way out.
//!
//! From the outside in: [`share`] takes the rules that hold at this moment, once for the whole
//! request, and lets allowed pages read the answer; [`contain`] keeps a defect from doing more harm
//! than spoiling its own request; [`admit`] asks the gate. Nothing behind them is reached by a
//! request that the gate refuses.

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

use super::access::{Admission, ClientKey, Door, Gate, KeyName, OwnUsage};
use super::api_flavor::{Vendor, turn_away, worded};
use super::refusals::Refusals;
use super::request_log::RequestId;
use super::{Backend, Live, account, cors, page, unsupported};
use crate::error::ProxyError;
use crate::history::Owner;

/// Where the rules of the moment are found.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) live: watch::Receiver<Arc<Live>>,
    pub(super) own_addresses: Arc<[IpAddr]>,
    pub(super) backend: Backend,
    pub(super) refusals: Arc<Refusals>,
}

/// Takes the rules in force, and opens the answer to allowed pages.
pub(super) async fn share(
    State(rules): State<InForce>,
    Extension(door): Extension<Door>,
    mut request: Request,
    next: Next,
) -> Response {
    let live = Arc::clone(&rules.live.borrow());
    let InForce { own_addresses, backend, refusals, .. } = rules;
    let gate = Arc::new(Gate { live, own_addresses, door, backend, refusals });
    let page = gate.page(request.headers()).cloned();
    request.extensions_mut().insert(Arc::clone(&gate));
    let mut response = next.run(request).await;
    if gate.admits_pages() {
        cors::vary(response.headers_mut());
    }
    if let Some(origin) = page {
        cors::open(response.headers_mut(), origin);
    }
    response
}

/// Turns a panic into an error of this one request. What a panic says may repeat a request's
/// content, so that it is not told; the log says where it was.
pub(super) async fn contain(request: Request, next: Next) -> Response {
    let vendor = Vendor::of(&request);
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(request.id = %id, "a request ended in a defect of this program");
        worded(vendor, &ProxyError::Internal, &id)
    })
}

/// Asks the gate.
pub(super) async fn admit(Extension(gate): Extension<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match gate.authorize(&parts).await {
        Ok(Admission::Preflight) => cors::preflight(&parts),
        Ok(Admission::Request(key)) => {
            if let Some(key) = key {
                introduce(&gate, key, &mut parts);
            }
            next.run(Request::from_parts(parts, body)).await
        }
        // What it asks for is not there; a hint about its content type would lead nowhere.
        Err(ProxyError::UnsupportedMediaType) if unsupported::is_upload(&parts) => {
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => {
            gate.refusals.note(&error);
            let asks_for_key = matches!(error, ProxyError::KeyRequired);
            if asks_for_key && page::is_for_person(&parts) {
                return page::locked();
            }
            let mut response = turn_away(&error, Request::from_parts(parts, body)).await;
            if asks_for_key {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

/// Asks the gate again, by the rules that hold now: for one more turn of a WebSocket.
pub(super) async fn readmit(live: &Arc<Live>, parts: &mut Parts) -> Result<(), ProxyError> {
    let Some(gate) = parts.extensions.get::<Arc<Gate>>() else { return Ok(()) };
    let gate = Gate { live: Arc::clone(live), ..Gate::clone(gate) };
    parts.extensions.remove::<KeyName>();
    parts.extensions.remove::<Owner>();
    parts.extensions.remove::<OwnUsage>();
    account::forget(parts);
    if let Admission::Request(Some(key)) = gate.authorize(parts).await? {
        introduce(&gate, key, parts);
    }
    Ok(())
}

/// Notes whose request it is.
fn introduce(gate: &Gate, key: &ClientKey, parts: &mut Parts) {
    gate.own_usage(key).map(|usage| parts.extensions.insert(usage));
    parts.extensions.insert(KeyName(key.name.clone()));
    parts.extensions.insert(Owner::of_key(&key.name, &key.sha256));
    account::introduce(key, parts);
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use http::StatusCode;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn defect() -> Response {
        let prompt = String::from("private words");
        panic!("it was {prompt}")
    }

    async fn ask(router: &Router, path: &str) -> (StatusCode, serde_json::Value) {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(RequestId("req_1".to_owned()));
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// What is logged, as text.
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
    async fn a_panic_spoils_its_own_request_alone() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _log = tracing::subscriber::set_default(subscriber);
        let router = Router::new()
            .route("/v1/chat/completions", get(defect))
            .route("/v1/messages", get(defect))
            .route("/health", get(async || "well"))
            .layer(from_fn(contain));
        let (status, body) = ask(&router, "/v1/chat/completions").await;
        assert_eq!((status, &body["error"]["message"]), (StatusCode::INTERNAL_SERVER_ERROR, &"internal error".into()));
        let (status, body) = ask(&router, "/v1/messages").await;
        assert_eq!((status, &body["type"]), (StatusCode::INTERNAL_SERVER_ERROR, &"error".into()));
        assert_eq!(body["error"]["type"], "api_error");
        assert_eq!(ask(&router, "/health").await.0, StatusCode::OK);
        let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("req_1") && log.contains("defect") && !log.contains("private"), "{log}");
    }
}
