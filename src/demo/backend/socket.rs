//! Serves responses over a WebSocket: one frame per request, one frame per event.
//!
//! Like the real backend, a connection stores its last response, which a request can continue with
//! `previous_response_id`; earlier ones are not found. Responses are sent one at a time. A fault that cuts a response
//! closes the connection.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::super::json_response::Refusal;
use super::form_of;
use super::responses::{PreparedResponse, Responses, StreamEnd};

/// The last completed response of a connection, with all items of its conversation.
#[derive(Default)]
struct PreviousResponse {
    response_id: String,
    items: Vec<Value>,
}

/// The connection is to be closed, or the client has disconnected.
struct Disconnected;

/// Serves requests until the client disconnects or the demo stops.
pub(super) async fn serve_socket(socket: WebSocket, responses: Arc<Responses>) {
    tokio::select! {
        () = responses.cancel().cancelled() => {}
        () = serve(socket, &responses) => {}
    }
}

async fn serve(mut socket: WebSocket, responses: &Responses) {
    let mut previous_response = PreviousResponse::default();
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Text(frame) = message else { continue };
        let response = match previous_response.request(frame.as_str()) {
            Ok(request) => answer(responses, &mut previous_response, request),
            Err(refusal) => Err(refusal),
        };
        let sent = match response {
            Ok(response) => send(&mut socket, &mut previous_response, response).await,
            Err(refusal) => send_event(&mut socket, &error_event(refusal)).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

fn answer(
    responses: &Responses,
    previous_response: &mut PreviousResponse,
    mut request: Value,
) -> Result<PreparedResponse, Refusal> {
    let generates = request.as_object_mut().and_then(|members| members.remove("generate")) != Some(Value::Bool(false));
    let form = form_of(&HeaderMap::new(), &request);
    let is_first = std::mem::take(&mut previous_response.response_id).is_empty();
    let response = match (generates, is_first) {
        (false, _) => responses.prewarmed(&request, form),
        (true, true) => responses.answer(&request, form),
        (true, false) => responses.answer_on_used_connection(&request, form),
    }?;
    previous_response.items = request["input"].as_array().cloned().unwrap_or_default();
    Ok(response)
}

impl PreviousResponse {
    /// Parses a frame. Returns the request, with the stored items before its input if it continues the last response.
    fn request(&self, frame: &str) -> Result<Value, Refusal> {
        let invalid = || Refusal::bad_request("Request body is not valid JSON");
        let mut request: Map<String, Value> = serde_json::from_str(frame).map_err(|_| invalid())?;
        if request.remove("type").is_none_or(|kind| kind != "response.create") {
            return Err(Refusal::bad_request("Unknown event type"));
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

    /// Stores what an event adds to the conversation.
    fn record(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("response.output_item.done") => self.items.push(event["item"].clone()),
            Some("response.completed") => {
                event["response"]["id"].as_str().unwrap_or_default().clone_into(&mut self.response_id);
            }
            _ => {}
        }
    }
}

async fn send(
    socket: &mut WebSocket,
    previous_response: &mut PreviousResponse,
    response: PreparedResponse,
) -> Result<(), Disconnected> {
    let headers =
        object(response.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))));
    send_event(socket, &json!({ "type": "response.metadata", "headers": headers })).await?;
    for timed in response.events {
        if !timed.delay.is_zero() {
            tokio::time::sleep(timed.delay).await;
        }
        previous_response.record(&timed.event);
        send_event(socket, &timed.event).await?;
    }
    let is_complete = !matches!(response.end, StreamEnd::Aborted | StreamEnd::Truncated);
    if is_complete { Ok(()) } else { Err(Disconnected) }
}

async fn send_event(socket: &mut WebSocket, event: &Value) -> Result<(), Disconnected> {
    socket.send(Message::text(event.to_string())).await.map_err(|_| Disconnected)
}

/// Converts an HTTP error to an `error` event with its body, status and headers.
fn error_event(refusal: Refusal) -> Value {
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
