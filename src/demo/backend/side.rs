//! The simulated endpoints other than `/responses` and `/models`: search, images, transcription, notes, account
//! documents.
//!
//! Texts say that they are simulated. Results depend only on the request and the time.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::super::issuer::{ACCOUNT_ID, Sessions, unix};
use super::super::json_response::{Refusal, json_response};
use super::fault::Fault;
use super::{authenticate, png, quota};

/// Width and height of the simulated images in pixels, whatever size a request has.
const IMAGE_PIXELS: u32 = 64;
/// Number of results per query of a search.
const RESULTS: usize = 2;

/// The routes.
pub(super) fn router(sessions: &Arc<Sessions>) -> Router {
    Router::new()
        .route("/backend-api/codex/alpha/search", post(search))
        .route("/backend-api/codex/images/generations", post(generate))
        .route("/backend-api/codex/images/edits", post(edit))
        .route("/backend-api/codex/alpha/notes/v2/{operation}", post(context))
        .route("/backend-api/codex/alpha/history/v2/{operation}", post(context))
        .route("/backend-api/codex/memories/trace_summarize", post(summarize))
        .route("/backend-api/transcribe", post(transcribe))
        .route("/backend-api/wham/profiles/me", get(profile))
        .route("/backend-api/wham/rate-limit-reset-credits", get(resets))
        .with_state(Arc::clone(sessions))
}

async fn search(State(sessions): State<Arc<Sessions>>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let body = request(&sessions, &headers, &body)?;
    for member in ["id", "model"] {
        if body[member].as_str().is_none_or(str::is_empty) {
            return Err(Refusal::invalid(None, member, format!("Missing required parameter: '{member}'.")));
        }
    }
    let commands = body["commands"].as_object();
    let commands = commands.ok_or_else(|| Refusal::invalid(None, "commands", "'commands' must be an object."))?;
    let output: Vec<String> = commands.iter().flat_map(|(command, value)| results(command, value)).collect();
    Ok(answer(&sessions, &json!({ "output": output.join("\n") })))
}

/// Returns the text that the search endpoint returns for one kind of command.
fn results(command: &str, value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if command != "search_query" {
        return list.iter().map(|entry| format!("[simulated {command}] {entry}")).collect();
    }
    let queries = list.iter().enumerate().filter_map(|(turn, query)| Some((turn, query["q"].as_str()?)));
    let result = |turn: usize, query: &str, number: usize| {
        let slug: String = query.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        format!(
            "[turn{turn}search{number}] Simulated result {} for \"{query}\" (https://example.com/{slug}/{number})\nThis \
             text is simulated.",
            number + 1
        )
    };
    queries.flat_map(|(turn, query)| (0..RESULTS).map(move |number| result(turn, query, number))).collect()
}

async fn generate(State(sessions): State<Arc<Sessions>>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let body = request(&sessions, &headers, &body)?;
    image_response(&sessions, &body, 0)
}

async fn edit(State(sessions): State<Arc<Sessions>>, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let body = request(&sessions, &headers, &body)?;
    let images = body["images"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_data_url = |image: &Value| image["image_url"].as_str().is_some_and(|url| url.starts_with("data:image/"));
    if images.is_empty() || !images.iter().all(is_data_url) {
        return Err(Refusal::invalid(None, "images", "'images' must be a list of objects with an 'image_url'."));
    }
    image_response(&sessions, &body, images.len())
}

/// The response to a request for images. Their color depends on the prompt. Like the real backend, it chooses size and
/// quality itself.
fn image_response(sessions: &Sessions, body: &Value, references: usize) -> Result<Response, Refusal> {
    let prompt = body["prompt"].as_str().filter(|prompt| !prompt.trim().is_empty());
    let prompt = prompt.ok_or_else(|| Refusal::invalid(None, "prompt", "Missing required parameter: 'prompt'."))?;
    if let Some(refusal) = Fault::find_in(prompt).and_then(|fault| fault.refusal(unix(sessions.now()))) {
        return Err(refusal);
    }
    let images = (0..body["n"].as_u64().unwrap_or(1).clamp(1, 4)).map(
        |number| json!({ "b64_json": STANDARD.encode(png::checkerboard(&format!("{prompt} {number}"), IMAGE_PIXELS)) }),
    );
    let data: Vec<Value> = images.collect();
    let input = 10 + prompt.len() / 4;
    let image = 100 * references;
    let output = 200 * data.len();
    let document = json!({
        "created": unix(sessions.now()), "data": data,
        "background": if body["background"] == "transparent" { "transparent" } else { "opaque" },
        "quality": "low", "size": format!("{IMAGE_PIXELS}x{IMAGE_PIXELS}"), "output_format": "png",
        "usage": {
            "input_tokens": input + image, "input_tokens_details": { "image_tokens": image, "text_tokens": input },
            "output_tokens": output, "total_tokens": input + image + output,
        },
    });
    Ok(answer(sessions, &document))
}

/// Handles requests of the experimental context management, which only Codex clients send.
async fn context(
    State(sessions): State<Arc<Sessions>>,
    Path(operation): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let body = request(&sessions, &headers, &body)?;
    if body["context"]["session_id"].as_str().is_none() {
        return Err(Refusal::invalid(None, "context.session_id", "Missing required parameter: 'context.session_id'."));
    }
    Ok(answer(&sessions, &json!({ "simulated": true, "operation": operation, "notes": [] })))
}

async fn summarize(
    State(sessions): State<Arc<Sessions>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    request(&sessions, &headers, &body)?;
    Ok(answer(&sessions, &json!({ "simulated": true, "output": [] })))
}

async fn transcribe(
    State(sessions): State<Arc<Sessions>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    authenticate(&sessions, &headers)?;
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let has_file = memchr::memmem::find(&body, b"name=\"file\"").is_some();
    if !kind.starts_with("multipart/form-data") || !has_file {
        return Err(Refusal::bad_request("Field required: file"));
    }
    let text = format!("This transcription is simulated: the request had {} bytes.", body.len());
    Ok(answer(&sessions, &json!({ "text": text })))
}

async fn profile(State(sessions): State<Arc<Sessions>>, headers: HeaderMap) -> Result<Response, Refusal> {
    authenticate(&sessions, &headers)?;
    Ok(answer(&sessions, &json!({ "profile": {}, "stats": {}, "account_id": ACCOUNT_ID })))
}

async fn resets(State(sessions): State<Arc<Sessions>>, headers: HeaderMap) -> Result<Response, Refusal> {
    authenticate(&sessions, &headers)?;
    Ok(answer(&sessions, &json!({ "available_count": 0, "credits": [] })))
}

/// Checks the token, and parses the body.
fn request(sessions: &Sessions, headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    authenticate(sessions, headers)?;
    serde_json::from_slice(body).map_err(|_| Refusal::bad_request("Request body is not valid JSON"))
}

/// A success response with the quota headers.
fn answer(sessions: &Sessions, body: &Value) -> Response {
    let mut response = json_response(StatusCode::OK, body);
    response.headers_mut().extend(quota::headers(sessions.now()));
    response
}
