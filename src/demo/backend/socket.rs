//! Serves responses over a WebSocket: one frame per request, one frame per event.
//!
//! Like the real backend, a connection stores its last response, which a request can continue with
//! `previous_response_id`; earlier ones are not found. Responses are sent one at a time; frames for the running one are
//! handled by [`super::control`]. A fault that cuts a response closes the connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use http::HeaderMap;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};

use super::super::json_response::Refusal;
use super::control::{ControlFrame, Course, RunningResponse};
use super::form_of;
use super::responses::{PreparedResponse, Responses, StreamEnd};

/// Maximum number of requests that wait for the end of a response.
const MAX_WAITING: usize = 16;

/// The last completed response of a connection, with all items of its conversation.
#[derive(Default)]
struct PreviousResponse {
    response_id: String,
    items: Vec<Value>,
}

/// The connection, and the requests that wait for the end of a response.
struct Client {
    socket: WebSocket,
    waiting: VecDeque<String>,
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

async fn serve(socket: WebSocket, responses: &Responses) {
    let mut client = Client { socket, waiting: VecDeque::new() };
    let mut previous_response = PreviousResponse::default();
    while let Ok(frame) = client.next_frame().await {
        let sent = match ControlFrame::parse(&frame) {
            Some(control) => client.send(&control.refused()).await,
            None => match previous_response.request(&frame) {
                Ok(request) => respond(&mut client, responses, &mut previous_response, request).await,
                Err(refusal) => client.send(&error_event(refusal)).await,
            },
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Responds to a request, and then to the input of `response.steer` frames that arrived meanwhile.
async fn respond(
    client: &mut Client,
    responses: &Responses,
    previous_response: &mut PreviousResponse,
    request: Value,
) -> Result<(), Disconnected> {
    let mut next = Some(request);
    while let Some(request) = next.take() {
        let mut successor = request.clone();
        let response = match answer(responses, previous_response, request) {
            Ok(response) => response,
            Err(refusal) => return client.send(&error_event(refusal)).await,
        };
        let mut running = stream(client, previous_response, response).await?;
        let inputs = std::mem::take(&mut running.inputs);
        if running.has_tool_call && !inputs.is_empty() {
            client.send(&running.pending(&previous_response.tool_calls())).await?;
            previous_response.items.extend(inputs);
        } else if !inputs.is_empty() {
            successor["input"] = previous_response.items.iter().cloned().chain(inputs).collect();
            next = Some(successor);
        }
    }
    Ok(())
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

    /// The tool calls at the end of the conversation.
    fn tool_calls(&self) -> Vec<Value> {
        self.items.iter().rev().take_while(|item| item.get("call_id").is_some()).cloned().collect()
    }

    /// Stores what an event adds to the conversation.
    fn record(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("response.output_item.done") => self.items.push(event["item"].clone()),
            Some("response.completed" | "response.incomplete") => {
                event["response"]["id"].as_str().unwrap_or_default().clone_into(&mut self.response_id);
            }
            _ => {}
        }
    }
}

/// Streams a response, and handles the frames that arrive meanwhile.
async fn stream(
    client: &mut Client,
    previous_response: &mut PreviousResponse,
    response: PreparedResponse,
) -> Result<RunningResponse, Disconnected> {
    let headers =
        object(response.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))));
    client.send(&json!({ "type": "response.metadata", "headers": headers })).await?;
    let terminal = response.events.iter().rev().find(|timed| timed.event["response"].is_object());
    let terminal = terminal.map(|timed| timed.event.clone()).unwrap_or_default();
    let mut running = RunningResponse::new(terminal["response"]["id"].as_str().unwrap_or_default().to_owned());
    for timed in response.events {
        client.wait(timed.delay, &mut running).await?;
        if running.ends_before(&timed.event) {
            for event in running.early_end(&terminal) {
                previous_response.record(&event);
                client.send(&event).await?;
            }
            return Ok(running);
        }
        let mut event = timed.event;
        running.record(&mut event);
        previous_response.record(&event);
        client.send(&event).await?;
    }
    let is_complete = !matches!(response.end, StreamEnd::Aborted | StreamEnd::Truncated);
    if is_complete { Ok(running) } else { Err(Disconnected) }
}

impl Client {
    /// The next text frame.
    async fn next_frame(&mut self) -> Result<String, Disconnected> {
        match self.waiting.pop_front() {
            Some(frame) => Ok(frame),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Result<String, Disconnected> {
        loop {
            match self.socket.recv().await {
                Some(Ok(Message::Text(frame))) => return Ok(frame.as_str().to_owned()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Disconnected),
            }
        }
    }

    /// Waits before an event, and handles frames for the running response. Other frames wait until it has ended; when
    /// [`MAX_WAITING`] of them wait, no more frames are read.
    async fn wait(&mut self, delay: Duration, running: &mut RunningResponse) -> Result<(), Disconnected> {
        if delay.is_zero() {
            return Ok(());
        }
        let due = Instant::now() + delay;
        while running.course != Course::Interrupted {
            tokio::select! {
                () = sleep_until(due) => return Ok(()),
                frame = self.receive(), if self.waiting.len() < MAX_WAITING => {
                    let frame = frame?;
                    match ControlFrame::parse(&frame) {
                        Some(control) => self.send(&running.handle(&control)).await?,
                        None => self.waiting.push_back(frame),
                    }
                }
            }
        }
        Ok(())
    }

    async fn send(&mut self, event: &Value) -> Result<(), Disconnected> {
        self.socket.send(Message::text(event.to_string())).await.map_err(|_| Disconnected)
    }
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
