//! Replies of the Ollama API: each line is complete, and only the last one has `done: true`.

pub(crate) use codex_proxy::protocol::ollama::{Chat, Generate};

use bytes::{Bytes, BytesMut};
use codex_proxy::protocol::CommonOptions;
use codex_proxy::protocol::ollama::{Form, OllamaReply, RenderOptions, ReplyOptions};
use codex_proxy::protocol::{Fold, Reply, Wire};
use serde_json::{Value, json};

use crate::cases::{Case, answered_cases_of};
use crate::fold::{Frame, fold_lines, lines};
use crate::laws::Usage;
use crate::runner::{document_of, stream_of};
use crate::{CaseDialect, token_limit};

fn cases_of(form: Form) -> Vec<Case> {
    let is_of = |case: &Case| (case.meta["form"] == "generate") == (form == Form::Generate);
    answered_cases_of("ollama", 20).into_iter().filter(is_of).collect()
}

fn options(case: &Case) -> CommonOptions {
    let default_instructions = "You are a helpful assistant.".to_owned();
    CommonOptions { default_instructions, token_limit: token_limit(case) }
}

/// A line without estimated values.
fn comparable(case: &Case, mut line: Value) -> Value {
    for member in ["prompt_eval_count", "eval_count"] {
        if let Some(count) = line.get_mut(member).filter(|count| case.has_guess() && count.is_u64()) {
            *count = json!(0);
        }
    }
    line
}

/// Every line has the model and the same time, or is the error that ends the stream.
fn assert_line_laws(frames: &[Frame]) {
    let lines: Vec<&Value> = frames.iter().filter_map(Frame::json).collect();
    let (last, before) = lines.split_last().expect("there is a last line");
    assert!(last["done"] == true || last["error"].is_string(), "{last}");
    assert!(last["error"].is_null() || last.as_object().unwrap().len() == 1, "{last}");
    let heads: Vec<_> = before.iter().map(|line| (&line["model"], &line["created_at"])).collect();
    assert!(heads.iter().all(|head| *head == heads[0] && head.1.is_string()), "{heads:?}");
    assert!(before.iter().all(|line| line["done"] == false && line["error"].is_null()));
    let calls = before.iter().filter_map(|line| line["message"]["tool_calls"].as_array()).flatten();
    for (index, call) in calls.enumerate() {
        assert_eq!(call["function"]["index"], index);
        assert!(call["function"]["arguments"].is_object());
    }
}

macro_rules! reported {
    ($dialect:ty, $form:expr) => {
        impl CaseDialect for $dialect {
            fn cases() -> Vec<Case> {
                cases_of($form)
            }

            fn options(case: &Case) -> CommonOptions {
                options(case)
            }

            fn frames(stream: &str) -> Vec<Frame> {
                lines(stream)
            }

            fn fold(frames: &[Frame]) -> Value {
                fold_lines(frames)
            }

            fn assert_laws(_usage: Usage, frames: &[Frame]) {
                assert_line_laws(frames);
            }

            fn compared(case: &Case, frames: Vec<Frame>) -> Vec<Frame> {
                let plain = |frame| match frame {
                    Frame::Json(line) => Frame::Json(comparable(case, line)),
                    Frame::Done => Frame::Done,
                };
                frames.into_iter().map(plain).collect()
            }

            fn compared_document(case: &Case, document: Value) -> Value {
                comparable(case, document)
            }

            fn is_cut(frame: &Value) -> bool {
                frame["error"].as_str().is_some_and(|error| error.starts_with("the response is incomplete"))
            }
        }
    };
}

reported!(Chat, Form::Chat);
reported!(Generate, Form::Generate);

fn reply_options() -> ReplyOptions {
    let api = RenderOptions { shows_thinking: true, ..RenderOptions::default() };
    ReplyOptions { model: "m".to_owned(), api, ..ReplyOptions::default() }
}

fn bytes(events: &[Value]) -> Vec<Bytes> {
    events.iter().map(|event| event.to_string().into()).collect()
}

fn call(events: &[Value], end: &Value) -> Vec<Bytes> {
    let item = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": ""});
    let added = json!({"type": "response.output_item.added", "output_index": 0, "item": item});
    let all: Vec<Value> = std::iter::once(added).chain(events.iter().cloned()).chain([end.clone()]).collect();
    bytes(&all)
}

fn arguments(delta: &str) -> Value {
    json!({"type": "response.function_call_arguments.delta", "output_index": 0, "delta": delta})
}

fn ended(kind: &str, completed_at: u64) -> Value {
    let response = json!({"id": "resp_1", "created_at": 100, "completed_at": completed_at,
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}});
    json!({"type": kind, "response": response})
}

#[test]
fn arguments_are_an_object_on_one_line_whatever_the_model_wrote() {
    for (written, expected) in [
        ("{\n  \"a\": [1,\r\n 2]\n}", json!({"a": [1, 2]})),
        ("", json!({})),
        ("[1]", json!({})),
        ("no JSON", json!({})),
    ] {
        let events = call(&[arguments(written)], &ended("response.completed", 100));
        let stream = stream_of(OllamaReply::new(reply_options()), &events);
        let frames = lines(&stream);
        assert_line_laws(&frames);
        let call = &frames[0].json().unwrap()["message"]["tool_calls"][0];
        assert_eq!((&call["id"], &call["function"]["arguments"]), (&json!("c"), &expected), "{written}");
    }
}

#[test]
fn a_call_that_the_backend_truncated_is_not_sent() {
    let unlisted = ended("response.incomplete", 100);
    let mut listed = unlisted.clone();
    listed["response"]["output"] =
        json!([{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":", "status": "incomplete"}]);
    for end in [unlisted, listed] {
        let events = call(&[arguments("{\"a\":")], &end);
        let document = document_of(OllamaReply::new(reply_options()), &events).unwrap();
        assert_eq!((&document["done_reason"], &document["message"]["tool_calls"]), (&json!("length"), &Value::Null));
    }
}

#[test]
fn durations_are_whole_seconds_and_never_zero() {
    for (completed_at, nanoseconds) in [(100, 1), (99, 1), (107, 7)] {
        let text = json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "x"});
        let events = bytes(&[text, ended("response.completed", completed_at)]);
        let document = document_of(OllamaReply::new(reply_options()), &events).unwrap();
        for member in ["total_duration", "eval_duration"] {
            assert_eq!(document[member], nanoseconds * 1_000_000_000_u64);
        }
        assert_eq!((&document["prompt_eval_count"], &document["eval_count"]), (&json!(3), &json!(2)));
    }
}

#[test]
fn a_known_response_is_sent_at_once_and_only_once() {
    use codex_proxy::protocol::ollama::event::DoneReason;
    for (form, reason, word) in [(Form::Chat, DoneReason::Load, "load"), (Form::Generate, DoneReason::Unload, "unload")]
    {
        let api = RenderOptions { form, shows_thinking: true, without_backend: Some(reason) };
        let machine = || OllamaReply::new(ReplyOptions { api: api.clone(), ..reply_options() });
        let (mut streamed, mut wire) = (machine(), BytesMut::new());
        assert!(!streamed.needs_backend() && !streamed.is_finished());
        streamed.on_commit(&mut Wire(&mut wire));
        streamed.on_commit(&mut Wire(&mut wire));
        let mut folded = machine();
        folded.on_commit(&mut Fold);
        let document: Value = serde_json::from_slice(&folded.document().unwrap()).unwrap();
        assert_eq!(lines(std::str::from_utf8(&wire).unwrap()), [Frame::Json(document.clone())]);
        assert_eq!((&document["done"], &document["done_reason"]), (&json!(true), &json!(word)));
        assert_eq!(document["total_duration"], Value::Null);
    }
}
