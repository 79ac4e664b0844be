//! The little server that the browser comes back to.
//!
//! It answers on loopback only, to GET and to a loopback `Host`. A callback counts only with the
//! state of this login; whatever else comes is answered and forgotten, and the waiting goes on.
//! The login future drives the connections; dropping it closes them. One without a request can
//! be closed at any time to make room.

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

type Reply = Response<Full<Bytes>>;

/// What the browser has to say about a login.
#[derive(Debug)]
pub(super) enum Message {
    /// The issuer sent a code.
    Code(Secret),
    /// The issuer sent an error, or another login asks for the port.
    Failed(LoginError),
}

/// Why a callback says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is not of this login.
    Foreign,
    /// It is, and brings neither code nor error.
    Empty,
}

/// What becomes of the login, once that is known.
pub(super) type Verdict = Option<Result<(), LoginError>>;

/// The server's side of one login. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    /// The state that a callback must bring.
    pub(super) state: Arc<Secret>,
    /// Where messages go.
    pub(super) messages: mpsc::Sender<Message>,
    /// Where the verdict comes from.
    pub(super) verdict: watch::Receiver<Verdict>,
    /// Set when the person has been shown the outcome.
    pub(super) shown: watch::Sender<bool>,
}

impl Desk {
    /// Answers one connection's single request. Until the request is there, the connection is closed
    /// when the sender of `evicted` is dropped.
    pub(super) async fn serve(self, stream: TcpStream, mut evicted: oneshot::Receiver<Infallible>) {
        let requested = CancellationToken::new();
        let request_arrives = requested.clone();
        let service = service_fn(move |request| {
            request_arrives.cancel();
            let desk = self.clone();
            async move { Ok::<_, Infallible>(desk.answer(&request).await) }
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        server.keep_alive(false).timer(TokioTimer::new());
        let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
        // In this order: once there is a request, it is answered. A browser that disconnects is no
        // failure of the login.
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

    async fn answer(&self, request: &Request<Incoming>) -> Reply {
        if !is_for_us(request.headers()) {
            return text(StatusCode::FORBIDDEN, "This address answers to loopback names only.");
        }
        if request.method() != Method::GET {
            let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET.");
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return reply;
        }
        match request.uri().path() {
            "/auth/callback" => self.callback(request.uri().query().unwrap_or_default()).await,
            "/success" => self.success(),
            "/cancel" => self.cancel(request.headers()).await,
            _ => text(StatusCode::NOT_FOUND, "Not found."),
        }
    }

    async fn callback(&self, query: &str) -> Reply {
        let message = match read(&self.state, query) {
            Ok(message) => message,
            Err(Unread::Foreign) => return text(StatusCode::BAD_REQUEST, "State mismatch"),
            Err(Unread::Empty) => return text(StatusCode::BAD_REQUEST, "There is no code in this address."),
        };
        // Full: another callback with the right state was first, and its verdict is this one's too.
        let _ = self.messages.try_send(message);
        let mut verdict = self.verdict.clone();
        let outcome = match verdict.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        match outcome {
            Some(Ok(())) => redirect("/success"),
            Some(Err(error)) => self.show(StatusCode::BAD_REQUEST, page::failure(&error.to_string())),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "The login has ended."),
        }
    }

    fn success(&self) -> Reply {
        if matches!(&*self.verdict.borrow(), Some(Ok(()))) {
            return self.show(StatusCode::OK, page::success());
        }
        text(StatusCode::NOT_FOUND, "Not found.")
    }

    async fn cancel(&self, headers: &HeaderMap) -> Reply {
        // A web page must not be able to end a login; another program sends no such header.
        let is_page =
            headers.get("sec-fetch-site").is_some_and(|site| site != "none") || headers.contains_key("origin");
        if is_page {
            return text(StatusCode::FORBIDDEN, "Not from a page.");
        }
        let _ = self.messages.send(Message::Failed(LoginError::Cancelled)).await;
        self.shown.send_replace(true);
        text(StatusCode::OK, "Login cancelled")
    }

    fn show(&self, status: StatusCode, page: String) -> Reply {
        self.shown.send_replace(true);
        let mut reply = Response::new(Full::from(page));
        *reply.status_mut() = status;
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        guarded(reply)
    }
}

/// What a callback's query says. Without the state of this login it says nothing.
pub(super) fn read(state: &Secret, query: &str) -> Result<Message, Unread> {
    let value = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    let told = value("state").ok_or(Unread::Foreign)?;
    if !bool::from(told.as_bytes().ct_eq(state.expose().as_bytes())) {
        return Err(Unread::Foreign);
    }
    if let Some(error) = value("error") {
        let description = value("error_description").unwrap_or_default();
        return Ok(Message::Failed(LoginError::refused(&error, &description)));
    }
    let code = value("code").filter(|code| !code.is_empty()).ok_or(Unread::Empty)?;
    Ok(Message::Code(Secret::new(code)))
}

/// Whether the request was addressed to this machine, and not by a name that was bent to it.
fn is_for_us(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let url = host.and_then(|host| Url::parse(&format!("http://{host}/")).ok());
    url.is_some_and(|url| url.username().is_empty() && url.host().is_some_and(|host| is_local(&host)))
}

fn text(status: StatusCode, text: &'static str) -> Reply {
    let mut reply = Response::new(Full::from(text));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    guarded(reply)
}

fn redirect(to: &'static str) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::FOUND;
    reply.headers_mut().insert(LOCATION, HeaderValue::from_static(to));
    guarded(reply)
}

fn guarded(mut reply: Reply) -> Reply {
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    reply
}
