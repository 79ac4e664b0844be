//! Answers over a WebSocket: a frame for each request, a frame for each event.
//!
//! What is remembered is the last response of the connection, as in the real backend: a request
//! may go on from it, and from nothing else. One response at a time; it ends when the client goes.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::super::reply::Refusal;
use super::form_of;
use super::responses::{Answered, Close, Responses};

/// The last response of a connection, and its conversation.
#[derive(Default)]
struct Remembered {
    response_id: String,
    items: Vec<Value>,
}

/// Why a connection ends.
struct Gone;

/// Answers requests until the client goes.
pub(super) async fn converse(socket: WebSocket, responses: Arc<Responses>) {
    tokio::select! {
        () = responses.cut().cancelled() => {}
        () = serve(socket, &responses) => {}
    }
}

async fn serve(mut socket: WebSocket, responses: &Responses) {
    let mut remembered = Remembered::default();
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Text(frame) = message else { continue };
        let answered = match remembered.request(frame.as_str()) {
            Ok(request) => answer(responses, &mut remembered, request),
            Err(refusal) => Err(refusal),
        };
        let sent = match answered {
            Ok(answered) => send(&mut socket, &mut remembered, answered).await,
            Err(refusal) => send_event(&mut socket, &refused(refusal)).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

fn answer(responses: &Responses, remembered: &mut Remembered, mut request: Value) -> Result<Answered, Refusal> {
    let generates = request.as_object_mut().and_then(|members| members.remove("generate")) != Some(Value::Bool(false));
    let form = form_of(&HeaderMap::new(), &request);
    let is_first = std::mem::take(&mut remembered.response_id).is_empty();
    let answered = match (generates, is_first) {
        (false, _) => responses.prewarmed(&request, form),
        (true, true) => responses.answer(&request, form),
        (true, false) => responses.answer_again(&request, form),
    }?;
    remembered.items = request["input"].as_array().cloned().unwrap_or_default();
    Ok(answered)
}

impl Remembered {
    /// The whole request that a frame stands for.
    fn request(&self, frame: &str) -> Result<Value, Refusal> {
        let invalid = || Refusal::rule("Request body is not valid JSON");
        let mut request: Map<String, Value> = serde_json::from_str(frame).map_err(|_| invalid())?;
        if request.remove("type").is_none_or(|kind| kind != "response.create") {
            return Err(Refusal::rule("Unknown event type"));
        }
        if let Some(previous) = request.remove("previous_response_id").filter(|previous| !previous.is_null()) {
            if self.response_id.is_empty() || previous != *self.response_id {
                let message = format!("Previous response with id {previous} not found.");
                return Err(Refusal::invalid(Some("previous_response_not_found"), "previous_response_id", message));
            }
            if let Some(Value::Array(new)) = request.get_mut("input") {
                *new = self.items.iter().cloned().chain(std::mem::take(new)).collect();
            }
        }
        Ok(Value::Object(request))
    }

    fn note(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("response.output_item.done") => self.items.push(event["item"].clone()),
            Some("response.completed") => {
                event["response"]["id"].as_str().unwrap_or_default().clone_into(&mut self.response_id);
            }
            _ => {}
        }
    }
}

async fn send(socket: &mut WebSocket, remembered: &mut Remembered, answered: Answered) -> Result<(), Gone> {
    let headers =
        object(answered.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))));
    send_event(socket, &json!({ "type": "response.metadata", "headers": headers })).await?;
    for frame in answered.frames {
        if !frame.pause.is_zero() {
            tokio::time::sleep(frame.pause).await;
        }
        remembered.note(&frame.event);
        send_event(socket, &frame.event).await?;
    }
    let is_whole = !matches!(answered.close, Close::Broken | Close::Early);
    if is_whole { Ok(()) } else { Err(Gone) }
}

async fn send_event(socket: &mut WebSocket, event: &Value) -> Result<(), Gone> {
    socket.send(Message::text(event.to_string())).await.map_err(|_| Gone)
}

/// A refusal as it comes inside a connection: its body, with status and headers.
fn refused(refusal: Refusal) -> Value {
    let headers = object(refusal.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut event = refusal.body;
    event["type"] = json!("error");
    event["status"] = json!(refusal.status.as_u16());
    event["headers"] = headers;
    event
}

fn object<'h>(headers: impl Iterator<Item = (&'h str, &'h str)>) -> Value {
    headers.map(|(name, value)| (name.to_owned(), json!(value))).collect::<Map<_, _>>().into()
}
