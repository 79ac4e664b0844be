//! The same upstream events in every API: the text and the calls, as a stream and as a document.

use bytes::Bytes;
use codex_proxy::error::ProxyError;
use codex_proxy::protocol::Reply;
use codex_proxy::protocol::chat::{self, ChatReply};
use codex_proxy::protocol::completions::{self, CompletionReply};
use codex_proxy::protocol::gemini::{self, GeminiReply};
use codex_proxy::protocol::messages::{self, MessagesReply};
use codex_proxy::protocol::ollama::{self, OllamaReply};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::blocks::fold_blocks;
use crate::fold::{fold, fold_lines, fold_text, frames, lines};
use crate::gemini::fold_chunks;
use crate::responses::{events as responses_events, reply_to};
use crate::runner::{document_of, stream_of};

/// The contents of a response for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplyContent {
    /// All visible text, without the blank lines that some APIs insert between messages.
    pub(crate) text: String,
    /// The arguments of all calls, sorted. `None` if the API has no calls.
    pub(crate) calls: Option<Vec<String>>,
}

/// An API and its output; `None` for an error.
pub(crate) type Answer = (&'static str, Option<ReplyContent>);

/// The reply of each API, which must be the same as a stream and as a document.
pub(crate) fn answers(upstream: &[Bytes]) -> Vec<Answer> {
    vec![
        ("chat", chat(upstream)),
        ("messages", messages(upstream)),
        ("completions", completions(upstream)),
        ("ollama", ollama(upstream)),
        ("gemini", gemini(upstream)),
        ("responses", responses(upstream)),
    ]
}

fn content_of(text: &str, calls: Option<Vec<String>>) -> ReplyContent {
    let calls = calls.map(|mut calls| {
        calls.sort();
        calls
    });
    ReplyContent { text: text.replace("\n\n", ""), calls }
}

/// The document; the stream must represent the same.
fn both<R: Reply>(
    reply: impl Fn() -> R,
    upstream: &[Bytes],
    read: impl Fn(&Value) -> ReplyContent,
    fold: impl Fn(&str) -> Option<Value>,
) -> Option<ReplyContent> {
    let streamed = fold(&stream_of(reply(), upstream)).map(|document| read(&document));
    let whole = match document_of(reply(), upstream) {
        Ok(document) => Some(read(&document)),
        Err(ProxyError::Damaged { .. } | ProxyError::Truncated { .. } | ProxyError::Upstream(_)) => None,
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(streamed, whole, "a document is the fold of the stream");
    whole
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn chat(upstream: &[Bytes]) -> Option<ReplyContent> {
    let options = chat::ReplyOptions { model: "m".to_owned(), ..chat::ReplyOptions::default() };
    let read = |document: &Value| {
        let message = &document["choices"][0]["message"];
        let text = format!("{}{}", text_of(&message["content"]), text_of(&message["refusal"]));
        let argument = |call: &Value| {
            let inner = call.get("function").or(call.get("custom")).unwrap();
            text_of(inner.get("arguments").or(inner.get("input")).unwrap()).to_owned()
        };
        content_of(&text, Some(list(&message["tool_calls"]).iter().map(argument).collect()))
    };
    both(
        || ChatReply::new(options.clone()),
        upstream,
        read,
        |stream| {
            let frames = frames(stream);
            let is_error = frames.iter().filter_map(|frame| frame.json()).any(|frame| frame.get("error").is_some());
            (!is_error).then(|| fold(&frames))
        },
    )
}

fn messages(upstream: &[Bytes]) -> Option<ReplyContent> {
    let options = messages::ReplyOptions { model: "m".to_owned(), ..messages::ReplyOptions::default() };
    let read = |document: &Value| {
        let blocks = list(&document["content"]);
        let text: String = blocks.iter().map(|block| text_of(&block["text"])).collect();
        let calls = blocks.iter().filter(|block| block["type"] == "tool_use");
        // The input is a parsed object, so its spelling is lost.
        content_of(&text, Some(calls.map(|call| call["input"].to_string()).collect()))
    };
    both(
        || MessagesReply::new(options.clone()),
        upstream,
        read,
        |stream| {
            let frames = frames(stream);
            let is_error = frames.iter().filter_map(|frame| frame.json()).any(|frame| frame["type"] == "error");
            (!is_error).then(|| fold_blocks(&frames))
        },
    )
}

fn completions(upstream: &[Bytes]) -> Option<ReplyContent> {
    let options = completions::ReplyOptions { model: "m".to_owned(), ..completions::ReplyOptions::default() };
    both(
        || CompletionReply::new(options.clone()),
        upstream,
        |document| content_of(text_of(&document["choices"][0]["text"]), None),
        |stream| {
            let frames = frames(stream);
            let is_error = frames.iter().filter_map(|frame| frame.json()).any(|frame| frame.get("error").is_some());
            (!is_error).then(|| fold_text(&frames))
        },
    )
}

fn ollama(upstream: &[Bytes]) -> Option<ReplyContent> {
    let options = ollama::ReplyOptions { model: "m".to_owned(), ..ollama::ReplyOptions::default() };
    let read = |document: &Value| {
        let message = &document["message"];
        let calls = list(&message["tool_calls"]).iter().map(|call| call["function"]["arguments"].to_string());
        content_of(text_of(&message["content"]), Some(calls.collect()))
    };
    both(
        || OllamaReply::new(options.clone()),
        upstream,
        read,
        |stream| {
            let document = fold_lines(&lines(stream));
            document.get("error").is_none().then_some(document)
        },
    )
}

fn gemini(upstream: &[Bytes]) -> Option<ReplyContent> {
    let api = gemini::RenderOptions { form: gemini::Form::Events, ..gemini::RenderOptions::default() };
    let options = gemini::ReplyOptions { model: "m".to_owned(), api, ..gemini::ReplyOptions::default() };
    let read = |document: &Value| {
        let parts = list(&document["candidates"][0]["content"]["parts"]);
        let text: String = parts.iter().map(|part| text_of(&part["text"])).collect();
        let calls = parts.iter().filter_map(|part| part.get("functionCall"));
        content_of(&text, Some(calls.map(|call| call["args"].to_string()).collect()))
    };
    both(
        || GeminiReply::new(options.clone()),
        upstream,
        read,
        |stream| {
            let frames = frames(stream);
            let is_error = frames.iter().filter_map(|frame| frame.json()).any(|frame| frame.get("error").is_some());
            (!is_error).then(|| fold_chunks(&frames))
        },
    )
}

fn responses(upstream: &[Bytes]) -> Option<ReplyContent> {
    let read = |document: &Value| {
        let output = list(&document["output"]);
        let parts = output.iter().flat_map(|item| list(&item["content"]));
        let parts = parts.filter(|part| part["type"] == "output_text" || part["type"] == "refusal");
        let text: String = parts.map(|part| text_of(part.get("text").or(part.get("refusal")).unwrap())).collect();
        let calls = output.iter().filter_map(|item| item.get("arguments").or(item.get("input")));
        content_of(&text, Some(calls.map(|text| text_of(text).to_owned()).collect()))
    };
    let request = json!({"model": "m", "input": "x", "stream": true});
    both(
        || reply_to(&request, &HeaderMap::new()),
        upstream,
        read,
        |stream| {
            let mut events = responses_events(stream);
            let last = events.pop()?;
            let is_whole = last["type"] == "response.completed" || last["type"] == "response.incomplete";
            is_whole.then(|| last["response"].clone())
        },
    )
}
