//! The local server that the issuer redirects the browser to.
//!
//! Listens on loopback only, and accepts GET requests with a loopback `Host`. A callback must contain the state of this
//! login; other requests get an error response and don't affect the login. The login future drives the connections, so
//! dropping it closes them. A connection without a request can be closed at any time to admit another.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION, REFERRER_POLICY};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{LoginError, page};
use crate::endpoint::is_local;
use crate::secret::Secret;

type HttpResponse = Response<Full<Bytes>>;

/// The result of the authorization in the browser.
#[derive(Debug)]
pub(super) enum CallbackResult {
    /// The issuer sent an authorization code.
    Code(Secret),
    /// The issuer sent an error, or another login asked for the port.
    Failed(LoginError),
}

/// Why a callback is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallbackError {
    /// It belongs to another login.
    Foreign,
    /// It contains neither a code nor an error.
    Empty,
}

/// The outcome of the login, once known.
pub(super) type LoginOutcome = Option<Result<(), LoginError>>;

/// Handles the requests of one login. Clones share its state.
#[derive(Clone, Debug)]
pub(super) struct CallbackHandler {
    /// The OAuth `state` that a callback must contain.
    pub(super) state: Arc<Secret>,
    /// Receives the results of callbacks.
    pub(super) results: mpsc::Sender<CallbackResult>,
    /// Reports the outcome of the login.
    pub(super) outcome: watch::Receiver<LoginOutcome>,
    /// Set when the user has been shown the outcome.
    pub(super) shown: watch::Sender<bool>,
}

impl CallbackHandler {
    /// Serves the only request of a connection. Until the request arrives, dropping the sender of `evicted` closes the
    /// connection.
    pub(super) async fn serve(self, stream: TcpStream, mut evicted: oneshot::Receiver<Infallible>) {
        let requested = CancellationToken::new();
        let request_arrives = requested.clone();
        let service = service_fn(move |request| {
            request_arrives.cancel();
            let handler = self.clone();
            async move { Ok::<_, Infallible>(handler.respond(&request).await) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        server.keep_alive(false).timer(TokioTimer::new());
        let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
        // Biased, so that a request that has arrived gets its response. A browser that disconnects doesn't fail the
        // login.
        tokio::select! {
            biased;
            _ = &mut connection => {}
            () = requested.cancelled() => {
                drop(evicted);
                let _ = connection.await;
            }
            _ = &mut evicted => {}
        }
    }

    async fn respond(&self, request: &Request<Incoming>) -> HttpResponse {
        if !has_local_host(request.headers()) {
            return text(StatusCode::FORBIDDEN, "This server accepts loopback host names only.");
        }
        if request.method() != Method::GET {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET.");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return response;
        }
        match request.uri().path() {
            "/auth/callback" => self.callback(request.uri().query().unwrap_or_default()).await,
            "/success" => self.success(),
            "/cancel" => self.cancel(request.headers()).await,
            _ => text(StatusCode::NOT_FOUND, "Not found."),
        }
    }

    async fn callback(&self, query: &str) -> HttpResponse {
        let result = match parse_query(&self.state, query) {
            Ok(result) => result,
            Err(CallbackError::Foreign) => return text(StatusCode::BAD_REQUEST, "State mismatch"),
            Err(CallbackError::Empty) => return text(StatusCode::BAD_REQUEST, "This address contains no code."),
        };
        // If the channel is full, an earlier callback of this login is being processed, and has the same outcome.
        let _ = self.results.try_send(result);
        let mut outcome = self.outcome.clone();
        let outcome = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        match outcome {
            Some(Ok(())) => redirect("/success"),
            Some(Err(error)) => self.show(StatusCode::BAD_REQUEST, page::failure(&error.to_string())),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "This login has ended."),
        }
    }

    fn success(&self) -> HttpResponse {
        if matches!(&*self.outcome.borrow(), Some(Ok(()))) {
            return self.show(StatusCode::OK, page::success());
        }
        text(StatusCode::NOT_FOUND, "Not found.")
    }

    async fn cancel(&self, headers: &HeaderMap) -> HttpResponse {
        // A web page must not be able to end a login. Browsers send these headers; other programs don't.
        let is_page =
            headers.get("sec-fetch-site").is_some_and(|site| site != "none") || headers.contains_key("origin");
        if is_page {
            return text(StatusCode::FORBIDDEN, "Web pages can't cancel a login.");
        }
        let _ = self.results.send(CallbackResult::Failed(LoginError::Cancelled)).await;
        self.shown.send_replace(true);
        text(StatusCode::OK, "Login cancelled")
    }

    fn show(&self, status: StatusCode, page: String) -> HttpResponse {
        self.shown.send_replace(true);
        let mut response = Response::new(Full::from(page));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        with_security_headers(response)
    }
}

/// Parses the query of a callback, which must contain this state.
pub(super) fn parse_query(state: &Secret, query: &str) -> Result<CallbackResult, CallbackError> {
    let value = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let found = value("state").ok_or(CallbackError::Foreign)?;
    if !bool::from(found.as_bytes().ct_eq(state.expose().as_bytes())) {
        return Err(CallbackError::Foreign);
    }
    if let Some(error) = value("error") {
        let description = value("error_description").unwrap_or_default();
        return Ok(CallbackResult::Failed(LoginError::refused(&error, &description)));
    }
    let code = value("code").filter(|code| !code.is_empty()).ok_or(CallbackError::Empty)?;
    Ok(CallbackResult::Code(Secret::new(code)))
}

/// Whether the `Host` header is a loopback name, which protects against DNS rebinding.
fn has_local_host(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let url = host.and_then(|host| Url::parse(&format!("http://{host}/")).ok());
    url.is_some_and(|url| url.username().is_empty() && url.host().is_some_and(|host| is_local(&host)))
}

fn text(status: StatusCode, text: &'static str) -> HttpResponse {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    with_security_headers(response)
}

fn redirect(to: &'static str) -> HttpResponse {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static(to));
    with_security_headers(response)
}

fn with_security_headers(mut response: HttpResponse) -> HttpResponse {
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
