//! An HTTP client that sends exactly the given bytes and exposes the exact response.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::proxy::TestProxy;

/// Longer than any response takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request.
#[derive(Clone)]
pub(crate) struct Ask {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    length: Length,
}

/// The framing of the body.
#[derive(Clone, Copy)]
enum Length {
    Counted,
    Chunked,
}

/// A complete response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// A response whose head has arrived. Dropping it disconnects.
pub(crate) struct Open {
    stream: TcpStream,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The body so far, as it was sent.
    received: Vec<u8>,
}

/// A request that was sent and whose response hasn't started. Dropping it disconnects.
pub(crate) struct Sent(TcpStream);

impl Ask {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { method, target, headers: Vec::new(), body: Vec::new(), length: Length::Counted }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A JSON body.
    pub(crate) fn post(target: &str, body: &Value) -> Self {
        Self::raw(target, body.to_string())
    }

    /// A body with the content type of JSON.
    pub(crate) fn raw(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", target) }.header("content-type", "application/json")
    }

    /// A chat request.
    pub(crate) fn chat(body: &Value) -> Self {
        Self::post("/v1/chat/completions", body)
    }

    /// Sets a header, replacing one with the same name.
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        let mut without = self.without(name);
        without.headers.push((name.to_owned(), value.to_owned()));
        without
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(own, _)| own != name);
        self
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn with_content(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }

    /// Sends the body in chunks.
    pub(crate) fn chunked(self) -> Self {
        Self { length: Length::Chunked, ..self }
    }

    fn head(&self, proxy: &TestProxy) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let is_named = self.headers.iter().any(|(name, _)| name == "host");
        let host = (!is_named).then(|| ("host".to_owned(), proxy.authority().to_owned()));
        for (name, value) in host.iter().chain(&self.headers) {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        match self.length {
            Length::Counted if self.body.is_empty() => {}
            Length::Counted => write!(head, "content-length: {}\r\n", self.body.len()).unwrap(),
            Length::Chunked => head += "transfer-encoding: chunked\r\n",
        }
        head + "connection: close\r\n\r\n"
    }

    fn wire(&self, proxy: &TestProxy) -> Vec<u8> {
        let mut wire = self.head(proxy).into_bytes();
        match self.length {
            Length::Counted => wire.extend_from_slice(&self.body),
            Length::Chunked => {
                for chunk in self.body.chunks(1000) {
                    wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    wire.extend_from_slice(chunk);
                    wire.extend_from_slice(b"\r\n");
                }
                wire.extend_from_slice(b"0\r\n\r\n");
            }
        }
        wire
    }

    /// Sends the request without waiting for the response.
    pub(crate) async fn fire(&self, proxy: &TestProxy) -> Sent {
        let mut stream = TcpStream::connect(proxy.authority()).await.unwrap();
        stream.write_all(&self.wire(proxy)).await.unwrap();
        Sent(stream)
    }

    /// Sends the head and this many bytes of the body, and keeps the connection open.
    pub(crate) async fn begin(&self, proxy: &TestProxy, body_bytes: usize) -> Sent {
        let mut stream = TcpStream::connect(proxy.authority()).await.unwrap();
        let head = self.head(proxy).into_bytes();
        stream.write_all(&[&head, &self.body[..body_bytes]].concat()).await.unwrap();
        Sent(stream)
    }

    /// Sends the request and waits for the response head.
    pub(crate) async fn open(&self, proxy: &TestProxy) -> Open {
        self.fire(proxy).await.open().await
    }

    /// Sends the request and waits for the complete response, which must end properly.
    pub(crate) async fn send(&self, proxy: &TestProxy) -> Answer {
        let mut stream = TcpStream::connect(proxy.authority()).await.unwrap();
        let wire = self.wire(proxy);
        let (mut reader, mut writer) = stream.split();
        let mut received = Vec::new();
        let read = async {
            // A reset after the response is the end of the connection, too.
            let _ = reader.read_to_end(&mut received).await;
        };
        // A server that has rejected the request need not read it completely.
        let exchange = async { tokio::join!(writer.write_all(&wire), read) };
        timeout(PATIENCE, exchange).await.expect("the response arrives in time").0.ok();
        let Some((status, headers, body)) = split_head(&received) else { panic!("no answer: {received:?}") };
        let body = decode(&headers, body).expect("the response ends properly");
        Answer { status, headers, body }
    }
}

impl Sent {
    /// Waits for the response head.
    pub(crate) async fn open(self) -> Open {
        let mut stream = self.0;
        let mut received = Vec::new();
        loop {
            if let Some((status, headers, body)) = split_head(&received) {
                let received = body.to_vec();
                return Open { stream, status, headers, received };
            }
            assert_ne!(more(&mut stream, &mut received).await, 0, "the connection ends without an answer");
        }
    }
}

impl Open {
    /// Reads until this text has arrived.
    pub(crate) async fn until(&mut self, text: &str) {
        while !self.so_far().contains(text) {
            assert_ne!(more(&mut self.stream, &mut self.received).await, 0, "cut before {text}: {}", self.so_far());
        }
    }

    /// Reads more of the response and returns the number of bytes, 0 at the end.
    pub(crate) async fn sip(&mut self, most_bytes: usize) -> usize {
        let mut sip = (&mut self.stream).take(most_bytes as u64);
        let read = timeout(PATIENCE, sip.read_buf(&mut self.received)).await.expect("bytes arrive in time");
        // A reset is an end, too; the data before it shows whether the response is complete.
        read.unwrap_or_default()
    }

    /// The decoded body so far, and whether it is complete.
    pub(crate) fn taken(&self) -> (Vec<u8>, bool) {
        decode_so_far(&self.headers, &self.received)
    }

    /// The rest of the response, which must end properly.
    pub(crate) async fn rest(mut self) -> Answer {
        while more(&mut self.stream, &mut self.received).await > 0 {}
        let body = decode(&self.headers, &self.received).expect("the response ends properly");
        Answer { status: self.status, headers: self.headers, body }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// A header; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The error object, which must have all four members and a request id.
    pub(crate) fn error(&self) -> Value {
        let error = self.json()["error"].clone();
        let members: Vec<_> = error.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        assert_eq!(members, ["code", "message", "param", "type"], "{}", self.text());
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        assert_eq!(self.header("content-type"), "application/json");
        assert!(self.header("x-request-id").starts_with("req_"), "{:?}", self.headers);
        error
    }

    /// The `data` of each frame of a stream.
    pub(crate) fn frames(&self) -> Vec<Value> {
        let blocks = self.text().split_terminator("\n\n").filter(|block| !block.starts_with(':'));
        let data = blocks.map(|block| block.strip_prefix("data: ").unwrap_or_else(|| panic!("no frame: {block}")));
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::from(data))).collect()
    }
}

async fn more(stream: &mut TcpStream, received: &mut Vec<u8>) -> usize {
    let read = timeout(PATIENCE, stream.read_buf(received)).await.expect("bytes arrive in time");
    match read {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
        Err(error) => panic!("{error}"),
    }
}

/// Status, headers and the remaining bytes, once the head is complete.
fn split_head(received: &[u8]) -> Option<(u16, HeaderMap, &[u8])> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&received[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    Some((status, lines.map(pair).collect(), &received[end + 4..]))
}

/// The decoded chunked body; `None` if its end is missing.
fn decode(headers: &HeaderMap, wire: &[u8]) -> Option<Vec<u8>> {
    let (body, is_whole) = decode_so_far(headers, wire);
    is_whole.then_some(body)
}

/// The decoded body so far, and whether it is complete.
fn decode_so_far(headers: &HeaderMap, mut wire: &[u8]) -> (Vec<u8>, bool) {
    if !headers.contains_key("transfer-encoding") {
        let length = headers.get("content-length").map(|length| length.to_str().unwrap().parse().unwrap());
        return (wire.to_vec(), length.is_none_or(|length: usize| length == wire.len()));
    }
    let mut body = Vec::new();
    while let Some((chunk, rest)) = split_chunk(wire) {
        if chunk.is_empty() {
            return (body, true);
        }
        body.extend_from_slice(chunk);
        wire = rest;
    }
    (body, false)
}

/// The first chunk, if complete, and the remaining bytes.
fn split_chunk(wire: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = wire.windows(2).position(|window| window == b"\r\n")?;
    let size = usize::from_str_radix(std::str::from_utf8(&wire[..end]).ok()?, 16).ok()?;
    let chunk = wire.get(end + 2..end + 2 + size)?;
    Some((chunk, wire.get(end + 2 + size + 2..)?))
}
