//! Routes of the Gemini API.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::{get, post};

use super::api_flavor::refuse_unread;
use super::handler::Handler;
use super::item_replay::ReasoningReplay;
use super::routes::only;
use super::{Services, models};
use crate::error::{ProxyError, Refusal};
use crate::protocol::chat::Chat;
use crate::protocol::gemini;

/// The routes. The canonical path of a method has no model, which is attached to the request.
pub(super) fn routes(base: &Handler<Chat>) -> Router<Arc<Services>> {
    // Clients of this API send reasoning back themselves.
    let generate = base.for_dialect::<gemini::Generate>(Arc::new(base.options.common()), ReasoningReplay::Off);
    let options = || Arc::clone(&generate.options);
    let array = base.for_dialect::<gemini::StreamArray>(options(), ReasoningReplay::Off);
    let events = base.for_dialect::<gemini::StreamEvents>(options(), ReasoningReplay::Off);
    let counter = generate.clone();
    let stream = move |request: Request| {
        let (array, events) = (array.clone(), events.clone());
        async move {
            match stream_form(request.uri().query().unwrap_or_default()) {
                Ok(gemini::Form::Events) => events.handle(request).await,
                Ok(gemini::Form::Array | gemini::Form::Document) => array.handle(request).await,
                Err(error) => refuse_unread(&error, request).await,
            }
        }
    };
    let generate = move |request: Request| generate.clone().handle(request);
    Router::new()
        .route("/v1beta/models:generateContent", only("POST", post(generate)))
        .route("/v1beta/models:streamGenerateContent", only("POST", post(stream)))
        .route("/v1beta/models:countTokens", only("POST", post(move |request: Request| counter.clone().count(request))))
        .route("/v1beta/models", only("GET, HEAD", get(models::list)))
        .route("/v1beta/models/{*id}", only("GET, HEAD", get(models::retrieve)))
}

/// The form of a stream that the query parameter `alt` selects.
fn stream_form(query: &str) -> Result<gemini::Form, ProxyError> {
    let alt = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| matches!(&**name, "alt" | "$alt"));
    // Google's REST clients append parameters: `json;enum-encoding=int`.
    match alt.as_ref().map_or("json", |(_, value)| value.split(';').next().unwrap_or_default()) {
        "sse" => Ok(gemini::Form::Events),
        "json" | "" => Ok(gemini::Form::Array),
        _ => Err(Refusal::unsupported_value("alt", "alt: must be 'sse' or 'json'")),
    }
}
