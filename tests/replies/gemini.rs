//! Replies of the Gemini API, as server-sent events and as a JSON array: every chunk has a candidate with a part, and
//! only the last one has a finish reason.

pub(crate) use codex_proxy::protocol::gemini::{StreamArray, StreamEvents};

use codex_proxy::protocol::CommonOptions;
use codex_proxy::protocol::gemini::{Form, GeminiReply, RenderOptions, ReplyOptions};
use serde_json::{Value, json};

use crate::cases::{Case, answered_cases_of};
use crate::fold::{Frame, frames};
use crate::in_every_api::list;
use crate::laws::Usage;
use crate::runner::{split, stream_of};
use crate::{CaseDialect, reply, token_limit};

const FEWEST: usize = 18;

/// The chunks of a stream in either form.
fn chunks(stream: &str) -> Vec<Frame> {
    if !stream.starts_with('[') {
        return frames(stream);
    }
    serde_json::from_str::<Vec<Value>>(stream).unwrap().into_iter().map(Frame::Json).collect()
}

/// The document that a stream represents: texts of one kind are joined unless a signature comes between them, and the
/// empty text of the last chunk is left out unless it is the only part.
pub(crate) fn fold_chunks(frames: &[Frame]) -> Value {
    let chunks: Vec<&Value> = frames.iter().filter_map(Frame::json).collect();
    let mut document = (*chunks.last().unwrap()).clone();
    let mut parts: Vec<Value> = Vec::new();
    let all = chunks.iter().take(chunks.len() - 1).flat_map(|chunk| list(&chunk["candidates"][0]["content"]["parts"]));
    for part in all {
        let joins =
            |last: &Value| last["text"].is_string() && part["text"].is_string() && last["thought"] == part["thought"];
        match parts.last_mut().filter(|last| joins(last) && part.get("thoughtSignature").is_none()) {
            Some(last) => {
                last["text"] = json!(last["text"].as_str().unwrap().to_owned() + part["text"].as_str().unwrap());
            }
            None => parts.push(part.clone()),
        }
    }
    if !parts.is_empty() {
        document["candidates"][0]["content"]["parts"] = json!(parts);
    }
    document
}

fn assert_chunk_laws(frames: &[Frame]) {
    let chunks: Vec<&Value> = frames.iter().filter_map(Frame::json).collect();
    let (last, before) = chunks.split_last().expect("there is a last chunk");
    if last.get("error").is_some() {
        assert_eq!(last.as_object().unwrap().len(), 1, "{last}");
        assert!((400..600).contains(&last["error"]["code"].as_u64().unwrap()), "{last}");
    } else {
        assert!(last["candidates"][0]["finishReason"].is_string() && last["usageMetadata"].is_object(), "{last}");
    }
    let complete = chunks.iter().filter(|chunk| chunk.get("error").is_none());
    for chunk in complete {
        let candidate = &chunk["candidates"][0];
        let parts = list(&candidate["content"]["parts"]);
        assert!(!parts.is_empty() && parts.iter().all(|part| !part.as_object().unwrap().is_empty()), "{chunk}");
        assert_eq!((&candidate["content"]["role"], &candidate["index"]), (&json!("model"), &json!(0)));
        assert!(parts.iter().all(|part| part.get("functionCall").is_none_or(|call| call["args"].is_object())));
        assert!(chunk["modelVersion"].is_string() && chunk["responseId"] == chunks[0]["responseId"], "{chunk}");
    }
    let finished = before.iter().filter(|chunk| chunk["candidates"][0].get("finishReason").is_some());
    assert_eq!(finished.count(), 0);
}

/// A chunk or document without estimated values.
fn comparable(case: &Case, mut value: Value) -> Value {
    for member in ["promptTokenCount", "candidatesTokenCount", "totalTokenCount"] {
        let count = value.get_mut("usageMetadata").and_then(|usage| usage.get_mut(member));
        if let Some(count) = count.filter(|count| case.has_guess() && count.is_u64()) {
            *count = json!(0);
        }
    }
    value
}

macro_rules! in_form {
    ($dialect:ty) => {
        impl CaseDialect for $dialect {
            fn cases() -> Vec<Case> {
                answered_cases_of("gemini", FEWEST)
            }

            fn options(case: &Case) -> CommonOptions {
                let default_instructions = "You are a helpful assistant.".to_owned();
                CommonOptions { default_instructions, token_limit: token_limit(case) }
            }

            fn frames(stream: &str) -> Vec<Frame> {
                chunks(stream)
            }

            fn fold(frames: &[Frame]) -> Value {
                crate::stripped(fold_chunks(frames))
            }

            fn assert_laws(_usage: Usage, frames: &[Frame]) {
                assert_chunk_laws(frames);
            }

            fn compared(case: &Case, frames: Vec<Frame>) -> Vec<Frame> {
                let plain = |frame| match frame {
                    Frame::Json(chunk) => Frame::Json(comparable(case, chunk)),
                    Frame::Done => Frame::Done,
                };
                frames.into_iter().map(plain).collect()
            }

            fn compared_document(case: &Case, document: Value) -> Value {
                comparable(case, document)
            }

            fn is_cut(frame: &Value) -> bool {
                frame["error"]["details"][0]["reason"] == "UPSTREAM_STREAM_TRUNCATED"
            }
        }
    };
}

in_form!(StreamEvents);
in_form!(StreamArray);

#[test]
fn both_forms_have_the_same_chunks() {
    for case in StreamEvents::cases() {
        let events = split([case.upstream_sse.as_slice()]);
        let [sent, listed] =
            [stream_of(reply::<StreamEvents>(&case), &events), stream_of(reply::<StreamArray>(&case), &events)];
        assert!(sent.starts_with("data: ") && listed.starts_with('['), "{}", case.name);
        assert_eq!(chunks(&sent), chunks(&listed), "{}", case.name);
    }
}

#[test]
fn a_reply_without_output_has_an_empty_text() {
    let api = RenderOptions { form: Form::Array, ..RenderOptions::default() };
    let options = ReplyOptions { model: "m".to_owned(), api, ..ReplyOptions::default() };
    let completed = br#"data: {"type":"response.completed","response":{"id":"resp_1","status":"completed"}}"#;
    let events = split([completed.as_slice(), b"\n\n"]);
    let stream = chunks(&stream_of(GeminiReply::new(options.clone()), &events));
    let document = crate::runner::document_of(GeminiReply::new(options), &events).unwrap();
    assert_eq!(document["candidates"][0]["content"]["parts"], json!([{"text": ""}]));
    assert_eq!(fold_chunks(&stream), document);
}
