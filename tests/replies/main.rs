//! The answers of the dialects, over all worked cases: each case as written, and the laws that hold
//! for every answer, whole, split, cut or in disorder. Chat is here, Responses in a module.

#![expect(clippy::unwrap_used, reason = "a test program")]

mod cases;
mod disorder;
mod fold;
mod laws;
mod passing;
#[path = "../support/recalled.rs"]
mod recalled;
mod responses;
mod rows;
mod runner;

use bytes::Bytes;
use cases::{Case, answered_cases};
use codex_proxy::error::ProxyError;
use codex_proxy::protocol::chat::{ChatReply, Shape, face};
use fold::{Frame, fold, frames};
use laws::assert_laws;
use runner::{
    answer_of, assert_cut_anywhere, assert_silent_after_the_end, assert_split_anywhere, document_of, split, stream_of,
};
use serde_json::{Value, json};

fn stream(shape: &Shape, events: &[Bytes]) -> String {
    stream_of(ChatReply::new(shape.clone()), events)
}

fn document(shape: &Shape, events: &[Bytes]) -> Result<Value, ProxyError> {
    document_of(ChatReply::new(shape.clone()), events)
}

fn zeroed_usage(mut value: Value) -> Value {
    if let Some(usage) = value.get_mut("usage").filter(|usage| usage.is_object()) {
        for member in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert!(usage[member].is_u64());
            usage[member] = json!(0);
        }
    }
    value
}

fn compared(case: &Case, frames: Vec<Frame>) -> Vec<Frame> {
    let plain = |frame| match frame {
        Frame::Json(value) if case.meta["placeholder_usage"] == true => Frame::Json(zeroed_usage(value)),
        other => other,
    };
    frames.into_iter().map(plain).collect()
}

#[test]
fn each_case_streams_as_written() {
    for case in answered_cases() {
        let Some(expected) = &case.client_sse else { continue };
        let got = stream(&case.shape(), &split([case.upstream_sse.as_slice()]));
        assert_eq!(compared(&case, frames(&got)), frames(expected), "{}", case.name);
    }
}

#[test]
fn each_case_gives_its_document() {
    for case in answered_cases() {
        let words = |error: &ProxyError| {
            let (status, _, body) = face(error, "req_test");
            (status, body)
        };
        let (status, got) = answer_of(ChatReply::new(case.shape()), &split([case.upstream_sse.as_slice()]), words);
        let got = if case.meta["placeholder_usage"] == true { zeroed_usage(got) } else { got };
        assert_eq!((status, &got), (case.document_status(), &case.client_json), "{}", case.name);
    }
}

#[test]
fn the_written_document_is_the_fold_of_the_written_stream() {
    for case in answered_cases() {
        let (Some(written), None) = (&case.client_sse, case.client_json.get("error")) else { continue };
        assert_eq!(fold(&frames(written)), stripped(case.client_json.clone()), "{}", case.name);
    }
}

/// Without what a stream says only when it is asked to.
fn stripped(mut document: Value) -> Value {
    let members = document.as_object_mut().unwrap();
    members.remove("usage");
    members.remove("service_tier");
    document
}

#[test]
fn an_answer_split_anywhere_is_the_same_answer() {
    for case in answered_cases() {
        assert_split_anywhere(&case, || ChatReply::new(case.shape()));
    }
}

#[test]
fn an_answer_cut_anywhere_never_looks_whole() {
    for case in answered_cases() {
        assert_cut_anywhere(&case, || ChatReply::new(case.shape()), |events| assert_cut(&case, events));
    }
}

fn assert_cut(case: &Case, events: &[Bytes]) {
    let frames = frames(&stream(&case.shape(), events));
    let Some(Frame::Json(last)) = frames.last() else { panic!("{}: no error", case.name) };
    assert_eq!(last["error"]["code"], "upstream_stream_truncated", "{}", case.name);
    assert_laws(&case.shape(), &frames);
    assert!(matches!(document(&case.shape(), events), Err(ProxyError::Truncated { .. })), "{}", case.name);
}

#[test]
fn the_laws_hold_for_every_case() {
    for case in answered_cases() {
        let frames = frames(&stream(&case.shape(), &split([case.upstream_sse.as_slice()])));
        assert_laws(&case.shape(), &frames);
    }
}

#[test]
fn nothing_is_said_after_the_end() {
    for case in answered_cases() {
        assert_silent_after_the_end(&case, ChatReply::new(case.shape()));
    }
}
