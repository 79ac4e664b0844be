//! The answers of the dialects, over all worked cases: each case as written, and the laws that
//! hold for every answer, whole, split, cut or in disorder.

#![expect(clippy::unwrap_used, reason = "a test program")]

mod blocks;
mod cases;
mod disorder;
mod fold;
mod laws;
mod limit;
mod messages;
mod rows;

use std::collections::BTreeSet;

use blocks::{assert_block_laws, comparable, fold_blocks};
use bytes::{Bytes, BytesMut};
use cases::{Case, answered_cases, answered_cases_of};
use codex_proxy::error::ProxyError;
use codex_proxy::protocol::chat::{self, Chat, ChatReply, Shape};
use codex_proxy::protocol::codex::UpstreamEvent;
use codex_proxy::protocol::completions::{self, Completions};
use codex_proxy::protocol::messages::{self as anthropic, Messages};
use codex_proxy::protocol::model::Models;
use codex_proxy::protocol::sse::Splitter;
use codex_proxy::protocol::tokens::TokenLimit;
use codex_proxy::protocol::{Context, Dialect, Fold, Reply, Sink, Warnings, Wire};
use fold::{Frame, fold, fold_text, frames};
use http::HeaderMap;
use laws::{Usage, assert_chat_laws, assert_stream_laws};
use serde_json::{Value, json};

/// A dialect whose answers are held to the laws.
trait Told: Dialect {
    fn cases() -> Vec<Case>;
    fn options(case: &Case) -> Self::Options;
    fn fold(frames: &[Frame]) -> Value;
    fn assert_laws(usage: Usage, frames: &[Frame]);

    /// A stream without what may differ.
    fn compared(case: &Case, frames: Vec<Frame>) -> Vec<Frame> {
        let plain = |frame| match frame {
            Frame::Json(value) if case.has_guess() => Frame::Json(zeroed_usage(value)),
            other => other,
        };
        frames.into_iter().map(plain).collect()
    }

    /// A document without what may differ.
    fn compared_document(case: &Case, document: Value) -> Value {
        if case.has_guess() { zeroed_usage(document) } else { document }
    }

    /// Whether this frame says that the answer was cut.
    fn is_cut(frame: &Value) -> bool {
        frame["error"]["code"] == "upstream_stream_truncated"
    }
}

impl Told for Chat {
    fn cases() -> Vec<Case> {
        answered_cases()
    }

    fn options(case: &Case) -> chat::Options {
        let is_enforced = case.meta["options"]["token_limit"] == "enforce";
        let token_limit = if is_enforced { TokenLimit::Enforce } else { TokenLimit::Ignore };
        chat::Options { token_limit, ..chat::Options::default() }
    }

    fn fold(frames: &[Frame]) -> Value {
        fold(frames)
    }

    fn assert_laws(usage: Usage, frames: &[Frame]) {
        assert_chat_laws(usage, frames);
    }
}

impl Told for Completions {
    fn cases() -> Vec<Case> {
        answered_cases_of(Self::NAME, 5)
    }

    fn options(_case: &Case) -> completions::Options {
        completions::Options { default_instructions: "You are a helpful assistant.".to_owned() }
    }

    fn fold(frames: &[Frame]) -> Value {
        fold_text(frames)
    }

    fn assert_laws(usage: Usage, frames: &[Frame]) {
        assert_stream_laws(usage, frames);
    }
}

impl Told for Messages {
    fn cases() -> Vec<Case> {
        answered_cases_of(Self::NAME, 14)
    }

    fn options(_case: &Case) -> anthropic::Options {
        anthropic::Options { default_instructions: "You are a helpful assistant.".to_owned() }
    }

    fn fold(frames: &[Frame]) -> Value {
        fold_blocks(frames)
    }

    fn assert_laws(_usage: Usage, frames: &[Frame]) {
        assert_block_laws(frames);
    }

    fn compared(case: &Case, frames: Vec<Frame>) -> Vec<Frame> {
        let spoken = blocks::spoken(&frames);
        spoken.into_iter().map(|event| Frame::Json(comparable(event.clone(), case.has_guess()))).collect()
    }

    fn compared_document(case: &Case, mut document: Value) -> Value {
        if document["request_id"] == "req_test" {
            document["request_id"] = json!("<REQUEST_ID>");
        }
        comparable(document, case.has_guess())
    }

    fn is_cut(frame: &Value) -> bool {
        frame["type"] == "error" && frame["error"]["type"] == "api_error"
    }
}

/// The machine that the request of a case asks for.
fn reply<D: Told>(case: &Case) -> D::Reply {
    let (headers, models, warnings) = (HeaderMap::new(), Models::default(), Warnings::default());
    let mut context = Context { headers: &headers, key: None, path_model: None, models: &models, warnings };
    let body = case.request.to_string();
    D::translate(D::decode(body.as_bytes()).unwrap(), &mut context, &D::options(case)).unwrap().reply
}

fn includes_usage(case: &Case) -> bool {
    case.request["stream_options"]["include_usage"] == true
}

/// Feeds a machine as the server does: what opens an answer commits it.
fn drive<R: Reply>(reply: &mut R, events: &[Bytes], sink: &mut impl Sink<R>) {
    let mut is_committed = false;
    for data in events {
        let event = UpstreamEvent::decode(std::str::from_utf8(data).unwrap());
        let commits =
            !matches!(event, UpstreamEvent::Created(_) | UpstreamEvent::Other { .. } | UpstreamEvent::Malformed { .. });
        reply.on_event(event, sink);
        if commits && !std::mem::replace(&mut is_committed, true) {
            reply.on_commit(sink);
        }
        if reply.is_finished() {
            return;
        }
    }
    reply.on_end(None, sink);
}

fn streamed<R: Reply>(mut reply: R, events: &[Bytes]) -> String {
    let mut wire = BytesMut::new();
    drive(&mut reply, events, &mut Wire(&mut wire));
    String::from_utf8(wire.to_vec()).unwrap()
}

fn folded<R: Reply>(mut reply: R, events: &[Bytes]) -> Result<Value, ProxyError> {
    drive(&mut reply, events, &mut Fold);
    reply.document().map(|document| serde_json::from_slice(&document).unwrap())
}

fn stream(shape: &Shape, events: &[Bytes]) -> String {
    streamed(ChatReply::new(shape.clone()), events)
}

fn document(shape: &Shape, events: &[Bytes]) -> Result<Value, ProxyError> {
    folded(ChatReply::new(shape.clone()), events)
}

fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let mut splitter = Splitter::new(1 << 20);
    let mut events = Vec::new();
    for piece in pieces {
        splitter.push(&Bytes::copy_from_slice(piece));
        while let Some(event) = splitter.next_event().unwrap() {
            events.push(event);
        }
    }
    events
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

fn streams_as_written<D: Told>() {
    for case in D::cases() {
        let Some(expected) = &case.client_sse else { continue };
        let got = streamed(reply::<D>(&case), &split([case.upstream_sse.as_slice()]));
        assert_eq!(D::compared(&case, frames(&got)), D::compared(&case, frames(expected)), "{}", case.name);
    }
}

#[test]
fn each_case_streams_as_written() {
    streams_as_written::<Chat>();
    streams_as_written::<Completions>();
    streams_as_written::<Messages>();
}

fn gives_its_document<D: Told>() {
    for case in D::cases() {
        let expected_status = ["http_status", "http_status_nonstream"].iter().find_map(|key| case.meta[*key].as_u64());
        let (status, got) = match folded(reply::<D>(&case), &split([case.upstream_sse.as_slice()])) {
            Ok(document) => (200, document),
            Err(error) => {
                let (status, _, body) = D::face(&error, "req_test");
                (u64::from(status.as_u16()), serde_json::from_slice(&body).unwrap())
            }
        };
        let got = D::compared_document(&case, got);
        assert_eq!((status, &got), (expected_status.unwrap_or(200), &case.client_json), "{}", case.name);
    }
}

#[test]
fn each_case_gives_its_document() {
    gives_its_document::<Chat>();
    gives_its_document::<Completions>();
    gives_its_document::<Messages>();
}

fn document_is_the_fold<D: Told>() {
    for case in D::cases() {
        let (Some(written), None) = (&case.client_sse, case.client_json.get("error")) else { continue };
        assert_eq!(D::fold(&frames(written)), stripped(case.client_json.clone()), "{}", case.name);
    }
}

#[test]
fn the_written_document_is_the_fold_of_the_written_stream() {
    document_is_the_fold::<Chat>();
    document_is_the_fold::<Completions>();
    document_is_the_fold::<Messages>();
}

/// Without what a stream says only when it is asked to.
fn stripped(mut document: Value) -> Value {
    let members = document.as_object_mut().unwrap();
    members.remove("usage");
    members.remove("service_tier");
    document
}

fn same_when_split<D: Told>() {
    for case in D::cases() {
        let bytes = case.upstream_sse.as_slice();
        let whole = split([bytes]);
        for at in 0..bytes.len() {
            let (left, right) = bytes.split_at(at);
            assert!(split([left, right]) == whole, "{} at {at}", case.name);
        }
        let expected = streamed(reply::<D>(&case), &whole);
        for size in [1, 2, 7] {
            assert_eq!(streamed(reply::<D>(&case), &split(bytes.chunks(size))), expected, "{}", case.name);
        }
    }
}

#[test]
fn an_answer_split_anywhere_is_the_same_answer() {
    same_when_split::<Chat>();
    same_when_split::<Completions>();
    same_when_split::<Messages>();
}

fn never_whole_when_cut<D: Told>() {
    for case in D::cases() {
        let bytes = case.upstream_sse.as_slice();
        let whole = split([bytes]);
        let needed = (0..=whole.len()).find(|count| is_over::<D>(&case, &whole[..*count])).unwrap();
        let mut seen = BTreeSet::new();
        for at in 0..bytes.len() {
            let events = split([&bytes[..at]]);
            assert!(whole.starts_with(&events), "{} at {at}", case.name);
            if events.len() < needed && seen.insert(events.len()) {
                assert_cut::<D>(&case, &events);
            }
        }
        assert_eq!(seen.len(), needed, "{}", case.name);
    }
}

#[test]
fn an_answer_cut_anywhere_never_looks_whole() {
    never_whole_when_cut::<Chat>();
    never_whole_when_cut::<Completions>();
    never_whole_when_cut::<Messages>();
}

fn is_over<D: Told>(case: &Case, events: &[Bytes]) -> bool {
    let mut reply = reply::<D>(case);
    let mut wire = BytesMut::new();
    for data in events {
        reply.on_event(UpstreamEvent::decode(std::str::from_utf8(data).unwrap()), &mut Wire(&mut wire));
    }
    reply.is_finished()
}

fn assert_cut<D: Told>(case: &Case, events: &[Bytes]) {
    let frames = frames(&streamed(reply::<D>(case), events));
    let Some(Frame::Json(last)) = frames.last() else { panic!("{}: no error", case.name) };
    assert!(D::is_cut(last), "{}: {last}", case.name);
    D::assert_laws(Usage::when(includes_usage(case)), &frames);
    assert!(matches!(folded(reply::<D>(case), events), Err(ProxyError::Truncated { .. })), "{}", case.name);
}

fn keeps_the_laws<D: Told>() {
    for case in D::cases() {
        let frames = frames(&streamed(reply::<D>(&case), &split([case.upstream_sse.as_slice()])));
        D::assert_laws(Usage::when(includes_usage(&case)), &frames);
    }
}

#[test]
fn the_laws_hold_for_every_case() {
    keeps_the_laws::<Chat>();
    keeps_the_laws::<Completions>();
    keeps_the_laws::<Messages>();
}

fn is_silent_after_the_end<D: Told>() {
    for case in D::cases() {
        let events = split([case.upstream_sse.as_slice()]);
        let mut reply = reply::<D>(&case);
        let mut wire = BytesMut::new();
        drive(&mut reply, &events, &mut Wire(&mut wire));
        let length = wire.len();
        for data in &events {
            reply.on_event(UpstreamEvent::decode(std::str::from_utf8(data).unwrap()), &mut Wire(&mut wire));
        }
        reply.on_commit(&mut Wire(&mut wire));
        reply.on_end(Some(ProxyError::ShuttingDown), &mut Wire(&mut wire));
        reply.on_end(None, &mut Wire(&mut wire));
        assert_eq!(wire.len(), length, "{}", case.name);
    }
}

#[test]
fn nothing_is_said_after_the_end() {
    is_silent_after_the_end::<Chat>();
    is_silent_after_the_end::<Completions>();
    is_silent_after_the_end::<Messages>();
}
