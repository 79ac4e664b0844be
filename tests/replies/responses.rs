//! Replies of the Responses API.

use bytes::Bytes;
use codex_proxy::command_hint::CommandHint;
use codex_proxy::error::ProxyError;
use codex_proxy::protocol::models::Models;
use codex_proxy::protocol::responses::{Options, Responses, ResponsesReply, to_error_response};
use codex_proxy::protocol::{Context, Dialect, Warnings};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::cases::{Case, answered_cases_of};
use crate::runner::{
    answer_of, assert_cut_anywhere, assert_silent_after_the_end, assert_split_anywhere, document_of, split, stream_of,
};
use crate::stored_refs::resolve_references;

/// The state machine for a request.
pub(crate) fn reply_to(request: &Value, headers: &HeaderMap) -> ResponsesReply {
    reply_with(request, headers, &json!({}), &Options::default())
}

/// The same with stored responses and settings.
pub(crate) fn reply_with(request: &Value, headers: &HeaderMap, store: &Value, options: &Options) -> ResponsesReply {
    let body = request.to_string();
    let models = Models::default();
    let mut context = Context {
        headers,
        key: None,
        path_model: None,
        commands: CommandHint::default(),
        models: &models,
        warnings: Warnings::default(),
    };
    let mut request = Responses::decode(body.as_bytes()).unwrap();
    let references = Responses::references(&request);
    Responses::resolve_references(&mut request, resolve_references(store, &references));
    Responses::translate(request, &mut context, options).unwrap().reply
}

pub(crate) fn reply(case: &Case) -> ResponsesReply {
    reply_with(&case.request, &HeaderMap::new(), case.store.as_ref().unwrap_or(&json!({})), &Options::default())
}

pub(crate) fn cases() -> Vec<Case> {
    answered_cases_of("responses", 9)
}

/// The events of a stream, each with the name in its `type`.
pub(crate) fn events(stream: &str) -> Vec<Value> {
    let blocks = stream.split_terminator("\n\n").map(|block| {
        let (name, data) = block.split_once('\n').unwrap();
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), event["type"].as_str());
        event
    });
    blocks.collect()
}

/// The response that an SDK builds from the events: the final response with the items of the done events.
pub(crate) fn fold(events: &[Value]) -> Value {
    let mut response = events.last().unwrap()["response"].clone();
    let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
    response["output"] = done.map(|event| event["item"].clone()).collect();
    response
}

/// Rules for every stream, including failed ones.
pub(crate) fn assert_laws(events: &[Value]) {
    let kind = |event: &Value| event["type"].as_str().unwrap().to_owned();
    let is_end = |event: &Value| {
        matches!(&*kind(event), "response.completed" | "response.incomplete" | "response.failed" | "error")
    };
    assert_eq!(kind(&events[0]), "response.created");
    assert!(events[1..].iter().all(|event| kind(event) != "response.created"));
    assert!(is_end(events.last().unwrap()));
    assert!(events[..events.len() - 1].iter().all(|event| !is_end(event)), "one terminal event");
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], json!(number));
        assert!(event.get("obfuscation").is_none());
    }
}

fn assert_cut(case: &Case, arrived: &[Bytes]) {
    let events = events(&stream_of(reply(case), arrived));
    assert_laws(&events);
    let last = &events.last().unwrap()["response"];
    assert_eq!((&last["status"], &last["error"]["code"]), (&json!("failed"), &json!("server_error")), "{}", case.name);
    assert!(matches!(document_of(reply(case), arrived), Err(ProxyError::Truncated { .. })), "{}", case.name);
}

#[test]
fn each_case_gives_the_expected_stream() {
    for case in cases() {
        let Some(expected) = &case.client_sse else { continue };
        let got = events(&stream_of(reply(&case), &split([case.upstream_sse.as_slice()])));
        assert_eq!(got, events(expected), "{}", case.name);
        assert_laws(&got);
    }
}

#[test]
fn each_case_gives_the_expected_document() {
    for case in cases() {
        let words = |error: &ProxyError| {
            let (status, _, body) = to_error_response(error, "req_test", CommandHint::default());
            (status, body)
        };
        let (status, got) = answer_of(reply(&case), &split([case.upstream_sse.as_slice()]), words);
        assert_eq!(status, case.document_status(), "{}", case.name);
        if !case.client_json.is_null() {
            assert_eq!(got, case.client_json, "{}", case.name);
        }
    }
}

#[test]
fn the_document_is_the_fold_of_the_stream() {
    for case in cases() {
        let upstream = split([case.upstream_sse.as_slice()]);
        if let Ok(document) = document_of(reply(&case), &upstream) {
            assert_eq!(fold(&events(&stream_of(reply(&case), &upstream))), document, "{}", case.name);
        }
    }
}

#[test]
fn a_response_split_anywhere_gives_the_same_output() {
    for case in cases() {
        assert_split_anywhere(&case, || reply(&case));
    }
}

#[test]
fn a_response_cut_anywhere_never_looks_complete() {
    for case in cases() {
        assert_cut_anywhere(&case, || reply(&case), |arrived| assert_cut(&case, arrived));
    }
}

#[test]
fn nothing_is_sent_after_the_end() {
    for case in cases() {
        assert_silent_after_the_end(&case, reply(&case));
    }
}
