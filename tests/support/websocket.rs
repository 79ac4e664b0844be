//! The scripts of the fake backend over a WebSocket: one script per frame, as for HTTP requests.
//!
//! The headers of a script become an event; a JSON error becomes a wrapped error, and any other error rejects
//! the handshake. Stored state lives as long as the connection: a request that continues the last response is
//! recorded as if it were complete.

use std::io;

use bytes::Bytes;
use codex_proxy::protocol::json::raw_object::RawObject;
use codex_proxy::protocol::sse::Splitter;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::{Recorded, Script, Shared, Step, path_of};

/// The frame member that replaces the header of the lite form.
const LITE: &str = "ws_request_header_x_openai_internal_codex_responses_lite";

type Socket = WebSocketStream<TcpStream>;

/// The last response of a connection, and its conversation.
#[derive(Default)]
struct Remembered {
    response_id: String,
    items: Vec<Box<RawValue>>,
}

/// Whether the connection accepts another request.
#[derive(PartialEq)]
enum Then {
    Next,
    Closed,
}

/// Whether the next script is an error of the handshake.
pub(super) fn meets_handshake(script: Option<&Script>) -> bool {
    match script.and_then(|script| script.0.first()) {
        None => true,
        Some(Step::Head(status, headers)) => {
            let is_document = headers.iter().any(|(name, value)| name == "content-type" && value.contains("json"));
            (*status != 200 && refusal(script).is_none()) || (*status == 200 && is_document)
        }
        Some(_) => false,
    }
}

/// The error object of a script.
fn refusal(script: Option<&Script>) -> Option<Value> {
    match script?.0.as_slice() {
        [Step::Head(..), Step::Data(body), ..] => serde_json::from_slice(body).ok().filter(Value::is_object),
        _ => None,
    }
}

pub(super) async fn serve(mut stream: TcpStream, handshake: Recorded, shared: &Shared) -> io::Result<()> {
    shared.count_handshake(&handshake);
    let key = derive_accept_key(handshake.header("sec-websocket-key").as_bytes());
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    stream.write_all(format!("{head}sec-websocket-accept: {key}\r\n\r\n").as_bytes()).await?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let mut remembered = Remembered::default();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(frame) = message else { continue };
        if meets_handshake(shared.peek(path_of(&handshake.target)).as_ref()) {
            return Ok(());
        }
        let played = answer(&mut socket, &handshake, frame.as_str(), &mut remembered, shared).await;
        if played.map_err(io::Error::other)? == Then::Closed {
            return Ok(());
        }
    }
    Ok(())
}

async fn answer(
    socket: &mut Socket,
    handshake: &Recorded,
    frame: &str,
    remembered: &mut Remembered,
    shared: &Shared,
) -> Result<Then, tokio_tungstenite::tungstenite::Error> {
    let members = RawObject::parse(frame).unwrap();
    let text = |name: &str| members.get(name).map(|value| serde_json::from_str::<String>(value.get()).unwrap());
    assert_eq!(text("type").as_deref(), Some("response.create"));
    let previous = text("previous_response_id");
    if previous.as_ref().is_some_and(|id| *id != remembered.response_id) {
        let error = json!({"type": "invalid_request_error", "code": "previous_response_not_found", "message": "gone"});
        socket.send(Message::text(json!({"type": "error", "status": 400, "error": error}).to_string())).await?;
        return Ok(Then::Next);
    }
    let mut items = if previous.is_some() { std::mem::take(&mut remembered.items) } else { Vec::new() };
    items.extend(serde_json::from_str::<Vec<Box<RawValue>>>(members.get("input").unwrap().get()).unwrap());
    let mut request = handshake.clone();
    "POST".clone_into(&mut request.method);
    request.wire_bytes = frame.len();
    let mut metadata = text_members(&members);
    if metadata.remove(LITE).is_some() {
        request.headers.insert("x-openai-internal-codex-responses-lite", "true".parse().unwrap());
    }
    request.body = whole(&members, &items, &metadata);
    remembered.items = items;
    remembered.response_id.clear();
    play(socket, shared.take(request), remembered, shared).await
}

fn text_members(members: &RawObject<'_>) -> Map<String, Value> {
    members.get("client_metadata").map(|own| serde_json::from_str(own.get()).unwrap()).unwrap_or_default()
}

/// The body as it would have been posted.
fn whole(members: &RawObject<'_>, items: &[Box<RawValue>], metadata: &Map<String, Value>) -> Vec<u8> {
    let mut parts = Vec::new();
    for (name, value) in members.members() {
        match &**name {
            "type" | "previous_response_id" => {}
            "client_metadata" if metadata.is_empty() => {}
            "client_metadata" if value.text().contains(LITE) => {
                parts.push(format!("\"{name}\":{}", Value::from(metadata.clone())));
            }
            "input" => {
                let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
                parts.push(format!("\"input\":[{}]", items.join(",")));
            }
            _ => parts.push(format!("\"{name}\":{}", value.text())),
        }
    }
    format!("{{{}}}", parts.join(",")).into_bytes()
}

async fn play(
    socket: &mut Socket,
    script: Script,
    remembered: &mut Remembered,
    shared: &Shared,
) -> Result<Then, tokio_tungstenite::tungstenite::Error> {
    let refusal = refusal(Some(&script));
    let mut splitter = Splitter::new(1 << 26);
    let mut is_over = false;
    for step in script.0 {
        match step {
            Step::Head(200, headers) => {
                let reported = object(headers.iter().filter(|(name, _)| name != "content-type"));
                if reported != json!({}) {
                    let event = json!({"type": "response.metadata", "headers": reported}).to_string();
                    socket.send(Message::text(event)).await?;
                }
            }
            Step::Head(status, headers) => {
                let mut error = refusal.unwrap();
                error["type"] = json!("error");
                error["status"] = json!(status);
                error["headers"] = object(headers.iter());
                socket.send(Message::text(error.to_string())).await?;
                return Ok(Then::Next);
            }
            Step::Data(bytes) => {
                splitter.push(&Bytes::from(bytes));
                while let Some(data) = splitter.next_event().unwrap() {
                    is_over |= remembered.note(&data);
                    socket.send(Message::text(String::from_utf8(data.to_vec()).unwrap())).await?;
                }
            }
            Step::Pause(span) => tokio::time::sleep(span).await,
            Step::End if is_over => {}
            Step::End => {
                let _ = socket.close(None).await;
                return Ok(Then::Closed);
            }
            Step::Wait(gate) => tokio::select! {
                () = gate.0.notified() => {}
                () = client_gone(socket) => {
                    shared.count_hang_up();
                    return Ok(Then::Closed);
                }
            },
            Step::Frame => {
                let Some(frame) = next_text(socket).await else {
                    shared.count_hang_up();
                    return Ok(Then::Closed);
                };
                shared.note_frame(frame);
            }
            Step::Hang => {
                client_gone(socket).await;
                shared.count_hang_up();
                return Ok(Then::Closed);
            }
            Step::Close | Step::Refuse => return Ok(Then::Closed),
            Step::CloseWith(code, reason) => {
                let _ = socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await;
                return Ok(Then::Closed);
            }
            Step::Reset => {
                socket.get_ref().set_zero_linger()?;
                return Ok(Then::Closed);
            }
        }
    }
    Ok(Then::Next)
}

impl Remembered {
    /// Records an event; returns whether it is the last one.
    fn note(&mut self, data: &[u8]) -> bool {
        let event: Value = serde_json::from_slice(data).unwrap_or_default();
        let kind = event["type"].as_str().unwrap_or_default();
        if kind == "response.output_item.done" {
            self.items.push(serde_json::value::to_raw_value(&event["item"]).unwrap());
        }
        if kind == "response.completed" {
            event["response"]["id"].as_str().unwrap_or_default().clone_into(&mut self.response_id);
        }
        matches!(kind, "response.completed" | "response.done" | "response.incomplete" | "response.failed" | "error")
    }
}

fn object<'h>(headers: impl Iterator<Item = &'h (String, String)>) -> Value {
    headers.map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

async fn next_text(socket: &mut Socket) -> Option<String> {
    loop {
        match socket.next().await? {
            Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
            Ok(message) if !message.is_close() => {}
            _ => return None,
        }
    }
}

async fn client_gone(socket: &mut Socket) {
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() {
            return;
        }
    }
}
