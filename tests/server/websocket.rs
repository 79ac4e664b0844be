//! A WebSocket client that sends exactly the given frames and exposes every received frame.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderName, HeaderValue, Request, Response};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::proxy::TestProxy;

/// Longer than any wait in these tests.
const PATIENCE: Duration = Duration::from_secs(60);
const TERMINAL: [&str; 4] = ["response.completed", "response.incomplete", "response.failed", "error"];

/// An open socket.
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// The response to the upgrade request.
    pub(crate) upgrade: Response<Option<Vec<u8>>>,
    pub(crate) pings: usize,
}

impl Socket {
    pub(crate) async fn open(proxy: &TestProxy) -> Self {
        Self::ask(proxy, "/v1/responses", &[]).await.unwrap_or_else(|refused| panic!("no socket: {refused:?}"))
    }

    pub(crate) async fn open_as(proxy: &TestProxy, headers: &[(&str, &str)]) -> Self {
        Self::ask(proxy, "/v1/responses", headers).await.unwrap_or_else(|refused| panic!("no socket: {refused:?}"))
    }

    /// Requests an upgrade; returns the response if it is rejected.
    pub(crate) async fn ask(
        proxy: &TestProxy,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Box<Response<Option<Vec<u8>>>>> {
        let mut request: Request<()> = format!("ws://{}{path}", proxy.authority()).into_client_request().unwrap();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        let stream = TcpStream::connect(proxy.authority()).await.unwrap();
        match timeout(PATIENCE, client_async(request, stream)).await.expect("the upgrade response arrives in time") {
            Ok((stream, upgrade)) => Ok(Self { stream, upgrade, pings: 0 }),
            Err(Error::Http(response)) => Err(response),
            Err(other) => panic!("{other}"),
        }
    }

    pub(crate) async fn say(&mut self, message: Message) {
        self.stream.send(message).await.unwrap();
    }

    /// Sends bytes that may be incomplete frames; stops if the other side no longer reads.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        let _ =
            timeout(PATIENCE, self.stream.get_mut().write_all(bytes)).await.expect("the other side reads or closes");
    }

    pub(crate) async fn send(&mut self, frame: &Value) {
        self.say(Message::text(frame.to_string())).await;
    }

    /// Requests a response.
    pub(crate) async fn create(&mut self, body: &Value) {
        let mut frame = body.clone();
        frame["type"] = json!("response.create");
        self.send(&frame).await;
    }

    /// The next event, or the code of a close frame.
    pub(crate) async fn hear(&mut self) -> Result<Value, Option<u16>> {
        loop {
            let next = timeout(PATIENCE, self.stream.next()).await.expect("a frame arrives in time");
            match next {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_))) => self.pings += 1,
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|CloseFrame { code, .. }| code.into())),
                Some(Ok(Message::Pong(_))) => return Ok(json!({"type": "pong"})),
                Some(Ok(other)) => panic!("unexpected: {other:?}"),
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        self.hear().await.expect("an event")
    }

    /// The events up to one of this type.
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            events.push(self.next().await);
            if events.last().unwrap()["type"] == kind {
                return events;
            }
        }
    }

    /// The events up to the end of a response.
    pub(crate) async fn answer(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            events.push(self.next().await);
            if TERMINAL.iter().any(|kind| events.last().unwrap()["type"] == *kind) {
                return events;
            }
        }
    }

    /// The close code of the other side; fails if another frame arrives first.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        self.hear().await.expect_err("the socket closes")
    }

    pub(crate) async fn ping(&mut self) {
        self.say(Message::Ping(Bytes::from_static(b"there?"))).await;
    }

    pub(crate) async fn close(&mut self) {
        self.stream.close(None).await.unwrap();
    }
}
