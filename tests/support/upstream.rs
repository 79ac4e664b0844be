//! A scripted backend on loopback: HTTP/1.1 (and WebSocket), or HTTP/2 over TLS.
//!
//! [`FakeUpstream::on`] adds scripts for a path; each request plays the next one, and the last one is repeated.
//! The path `/of/NAME` holds scripts for the requests of one originator. [`Gate`]s synchronize scripts with the
//! test, without sleeping; only a load has a pace. It records all requests, and detects when a client
//! disconnects in the middle of a script.

#[path = "http2.rs"]
mod http2;
#[path = "listener.rs"]
mod listener;
#[path = "script.rs"]
mod script;
#[path = "websocket.rs"]
mod websocket;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

pub(crate) use script::*;

/// Path of the model endpoints, as in the real backend.
pub(crate) const BASE_PATH: &str = "/backend-api/codex";
/// Longer than any wait in these tests.
const PATIENCE: Duration = Duration::from_secs(10);

/// A recorded request.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Number of bytes on the wire.
    pub(crate) wire_bytes: usize,
}

/// The server; it stops when dropped.
#[derive(Debug)]
pub(crate) struct FakeUpstream {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    scripts: Mutex<HashMap<String, VecDeque<Script>>>,
    seen: watch::Sender<Seen>,
    /// Whether connections are refused.
    is_away: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<Recorded>,
    /// Each accepted WebSocket handshake.
    handshakes: Vec<Recorded>,
    hang_ups: usize,
    /// The frames that scripts have waited for.
    frames: Vec<String>,
}

impl Recorded {
    /// A header as text; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON, decompressed if necessary.
    pub(crate) fn json(&self) -> Value {
        match self.header("content-encoding") {
            "zstd" => serde_json::from_slice(&zstd::decode_all(&*self.body).unwrap()).unwrap(),
            _ => serde_json::from_slice(&self.body).unwrap(),
        }
    }
}

impl FakeUpstream {
    /// Starts on a free port.
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts on a free port, with HTTP/2 over TLS; returns the certificate to trust as PEM.
    pub(crate) async fn start_http2() -> (Self, String) {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        (Self::start_with(Some(TlsAcceptor::from(Arc::new(config)))).await, certified.cert.pem())
    }

    #[expect(clippy::disallowed_methods, reason = "a test server, stopped when its handle is dropped")]
    async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (seen, _) = watch::channel(Seen::default());
        let shared = Arc::new(Shared { scripts: Mutex::default(), seen, is_away: watch::Sender::new(false) });
        let accepting = tokio::spawn(listener::accept(listener, tls, Arc::clone(&shared)));
        Self { address, scheme, shared, accepting }
    }

    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    /// The value of `upstream.url`.
    pub(crate) fn url(&self) -> String {
        format!("{}{BASE_PATH}", self.origin())
    }

    /// Adds a script for a path below the base (`/responses`), or an absolute one (`/backend-api/wham/…`).
    pub(crate) fn on(&self, path: &str, script: Script) {
        self.shared.scripts.lock().unwrap().entry(absolute(path)).or_default().push_back(script);
    }

    /// Plays only this script from now on.
    pub(crate) fn replace(&self, path: &str, script: Script) {
        self.clear(path);
        self.on(path, script);
    }

    /// Removes the scripts of a path.
    pub(crate) fn clear(&self, path: &str) {
        self.shared.scripts.lock().unwrap().remove(&absolute(path));
    }

    /// Removes the scripts and the requests of one originator; returns the number of requests.
    pub(crate) fn forget(&self, originator: &str) -> usize {
        self.clear(&format!("/of/{originator}"));
        let mut count = 0;
        self.shared.seen.send_modify(|seen| {
            let before = seen.requests.len();
            seen.requests.retain(|request| request.header("originator") != originator);
            count = before - seen.requests.len();
        });
        count
    }

    /// The requests so far whose path has this suffix.
    pub(crate) fn requests(&self, path_end: &str) -> Vec<Recorded> {
        let seen = self.shared.seen.borrow();
        seen.requests.iter().filter(|request| path_of(&request.target).ends_with(path_end)).cloned().collect()
    }

    /// The WebSocket handshakes so far.
    pub(crate) fn handshakes(&self) -> Vec<Recorded> {
        self.shared.seen.borrow().handshakes.clone()
    }

    /// The frames that scripts have waited for, so far.
    pub(crate) fn frames(&self) -> Vec<String> {
        self.shared.seen.borrow().frames.clone()
    }

    /// Waits until this many requests have arrived.
    pub(crate) async fn received(&self, path_end: &str, count: usize) -> Vec<Recorded> {
        let mut seen = self.shared.seen.subscribe();
        let is_enough = |seen: &Seen| {
            seen.requests.iter().filter(|request| path_of(&request.target).ends_with(path_end)).count() >= count
        };
        timeout(PATIENCE, seen.wait_for(is_enough)).await.expect("the requests arrive in time").unwrap();
        self.requests(path_end)
    }

    /// Waits until this many clients have disconnected in the middle of a script; returns whether that took
    /// less than `limit`.
    pub(crate) async fn hung_up(&self, count: usize, limit: Duration) -> bool {
        let mut seen = self.shared.seen.subscribe();
        timeout(limit, seen.wait_for(|seen| seen.hang_ups >= count)).await.is_ok()
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut is_away = shared.is_away.subscribe();
    loop {
        let request = tokio::select! {
            request = read_request(&mut stream) => request?,
            () = listener::becomes(&mut is_away, true) => None,
        };
        let Some(request) = request else { return Ok(()) };
        let is_handshake = request.header("upgrade") == "websocket";
        if is_handshake && !websocket::meets_handshake(shared.peek(path_of(&request.target)).as_ref()) {
            return websocket::serve(stream, request, shared).await;
        }
        let mut is_chunked = true;
        for step in shared.take(request).0 {
            match step {
                Step::Head(status, headers) => {
                    is_chunked = !headers.iter().any(|(name, _)| name == "content-length");
                    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                    let framing = if is_chunked { "transfer-encoding: chunked\r\n" } else { "" };
                    let head = format!("HTTP/1.1 {status} Status\r\n{}{framing}\r\n", lines.concat());
                    stream.write_all(head.as_bytes()).await?;
                }
                Step::Data(bytes) if !is_chunked => stream.write_all(&bytes).await?,
                Step::End if !is_chunked => {}
                Step::Data(bytes) => {
                    let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
                    stream.write_all(&chunk).await?;
                }
                Step::End => stream.write_all(b"0\r\n\r\n").await?,
                Step::Pause(span) => sleep(span).await,
                Step::Wait(gate) => tokio::select! {
                    () = gate.0.notified() => {}
                    () = client_gone(&mut stream) => {
                        shared.count_hang_up();
                        return Ok(());
                    }
                },
                Step::Frame | Step::Hang => {
                    client_gone(&mut stream).await;
                    shared.count_hang_up();
                    return Ok(());
                }
                Step::Close | Step::CloseWith(..) | Step::Refuse => return Ok(()),
                Step::Reset => return stream.set_zero_linger(),
            }
        }
    }
}

impl Shared {
    /// Records a request; returns its script, preferring that of its originator.
    fn take(&self, request: Recorded) -> Script {
        let mut scripts = self.scripts.lock().unwrap();
        let own = format!("{BASE_PATH}/of/{}", request.header("originator"));
        let path = if scripts.contains_key(&own) { &own } else { path_of(&request.target) };
        let script = match scripts.get_mut(path) {
            None => Script::answer(404, &[], ""),
            Some(queue) if queue.len() > 1 => queue.pop_front().unwrap(),
            Some(queue) => queue.front().cloned().unwrap(),
        };
        self.seen.send_modify(|seen| seen.requests.push(request));
        script
    }

    /// The script that the next request would play.
    fn peek(&self, path: &str) -> Option<Script> {
        self.scripts.lock().unwrap().get(path).and_then(|queue| queue.front().cloned())
    }

    fn count_handshake(&self, handshake: &Recorded) {
        self.seen.send_modify(|seen| seen.handshakes.push(handshake.clone()));
    }

    fn note_frame(&self, frame: String) {
        self.seen.send_modify(|seen| seen.frames.push(frame));
    }

    fn count_hang_up(&self) {
        self.seen.send_modify(|seen| seen.hang_ups += 1);
    }
}

async fn client_gone(stream: &mut TcpStream) {
    let mut byte = [0; 1];
    while matches!(stream.read(&mut byte).await, Ok(1..)) {}
}

/// `None` if the client closes instead.
async fn read_request(stream: &mut TcpStream) -> io::Result<Option<Recorded>> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap().split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap()))
    };
    let headers: HeaderMap = lines.filter_map(pair).collect();
    let length = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    let mut body = bytes.split_off(head_end);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    let wire_bytes = body.len();
    Ok(Some(Recorded { method, target, headers, body, wire_bytes }))
}

fn absolute(path: &str) -> String {
    if path.starts_with("/backend-api") { path.to_owned() } else { format!("{BASE_PATH}{path}") }
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap()
}
