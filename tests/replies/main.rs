//! Replies of the dialects for all golden cases: the expected output of each case, and the rules that hold for
//! every reply, complete, split, truncated or out of order. Chat, text completions and Messages are here,
//! Responses, Ollama and Gemini in modules.

#![expect(clippy::unwrap_used, reason = "a test program")]

mod blocks;
mod cases;
mod chat_details;
mod compact;
mod disorder;
mod fold;
mod gaps;
mod gemini;
mod in_every_api;
mod laws;
mod limit;
mod messages;
mod ollama;
mod pass_through;
mod proxy_tools;
mod responses;
mod runner;
#[path = "../support/stored_refs.rs"]
mod stored_refs;
mod wrapped;

use blocks::{assert_block_laws, comparable, fold_blocks};
use bytes::Bytes;
use cases::{Case, answered_cases, answered_cases_of};
use codex_proxy::command_hint::CommandHint;
use codex_proxy::error::ProxyError;
use codex_proxy::protocol::chat::{self, Chat, ChatReply, ReplyOptions};
use codex_proxy::protocol::completions::Completions;
use codex_proxy::protocol::messages::Messages;
use codex_proxy::protocol::models::Models;
use codex_proxy::protocol::tokens::TokenLimit;
use codex_proxy::protocol::{CommonOptions, Context, Dialect, Warnings};
use fold::{Frame, fold, fold_text, frames};
use http::HeaderMap;
use laws::{Usage, assert_chat_laws, assert_stream_laws};
use runner::{
    answer_of, assert_cut_anywhere, assert_silent_after_the_end, assert_split_anywhere, document_of, split, stream_of,
};
use serde_json::{Value, json};

/// A dialect whose replies must follow the rules.
trait CaseDialect: Dialect {
    fn cases() -> Vec<Case>;
    fn options(case: &Case) -> Self::Options;
    fn fold(frames: &[Frame]) -> Value;

    fn frames(stream: &str) -> Vec<Frame> {
        frames(stream)
    }

    fn assert_laws(usage: Usage, frames: &[Frame]);

    /// The stream without variable parts.
    fn compared(case: &Case, frames: Vec<Frame>) -> Vec<Frame> {
        let plain = |frame| match frame {
            Frame::Json(value) if case.has_guess() => Frame::Json(zeroed_usage(value)),
            other => other,
        };
        frames.into_iter().map(plain).collect()
    }

    /// The document without variable parts.
    fn compared_document(case: &Case, document: Value) -> Value {
        if case.has_guess() { zeroed_usage(document) } else { document }
    }

    /// Whether this frame reports a truncated response.
    fn is_cut(frame: &Value) -> bool {
        frame["error"]["code"] == "upstream_stream_truncated"
    }
}

fn token_limit(case: &Case) -> TokenLimit {
    let is_enforced = case.meta["options"]["token_limit"] == "enforce";
    if is_enforced { TokenLimit::Enforce } else { TokenLimit::Ignore }
}

impl CaseDialect for Chat {
    fn cases() -> Vec<Case> {
        answered_cases()
    }

    fn options(case: &Case) -> chat::Options {
        chat::Options { token_limit: token_limit(case), ..chat::Options::default() }
    }

    fn fold(frames: &[Frame]) -> Value {
        fold(frames)
    }

    fn assert_laws(usage: Usage, frames: &[Frame]) {
        assert_chat_laws(usage, frames);
    }
}

impl CaseDialect for Completions {
    fn cases() -> Vec<Case> {
        answered_cases_of(Self::NAME, 5)
    }

    fn options(case: &Case) -> CommonOptions {
        let default_instructions = "You are a helpful assistant.".to_owned();
        CommonOptions { default_instructions, token_limit: token_limit(case) }
    }

    fn fold(frames: &[Frame]) -> Value {
        fold_text(frames)
    }

    fn assert_laws(usage: Usage, frames: &[Frame]) {
        assert_stream_laws(usage, frames);
    }
}

impl CaseDialect for Messages {
    fn cases() -> Vec<Case> {
        answered_cases_of(Self::NAME, 25)
    }

    fn options(case: &Case) -> CommonOptions {
        let default_instructions = "You are a helpful assistant.".to_owned();
        CommonOptions { default_instructions, token_limit: token_limit(case) }
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

/// The state machine for the request of a case.
fn reply<D: CaseDialect>(case: &Case) -> D::Reply {
    let (headers, models, warnings) = (HeaderMap::new(), Models::default(), Warnings::default());
    let mut context = Context {
        headers: &headers,
        key: None,
        path_model: Some("gpt-5.4"),
        commands: CommandHint::default(),
        models: &models,
        warnings,
    };
    let body = case.request.to_string();
    D::translate(D::decode(body.as_bytes()).unwrap(), &mut context, &D::options(case)).unwrap().reply
}

fn includes_usage(case: &Case) -> bool {
    case.request["stream_options"]["include_usage"] == true
}

fn stream(options: &ReplyOptions, events: &[Bytes]) -> String {
    stream_of(ChatReply::new(options.clone()), events)
}

fn document(options: &ReplyOptions, events: &[Bytes]) -> Result<Value, ProxyError> {
    document_of(ChatReply::new(options.clone()), events)
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

fn streams_as_written<D: CaseDialect>() {
    for case in D::cases() {
        let Some(expected) = &case.client_sse else { continue };
        let got = stream_of(reply::<D>(&case), &split([case.upstream_sse.as_slice()]));
        assert_eq!(D::compared(&case, D::frames(&got)), D::compared(&case, D::frames(expected)), "{}", case.name);
    }
}

#[test]
fn each_case_gives_the_expected_stream() {
    streams_as_written::<Chat>();
    streams_as_written::<Completions>();
    streams_as_written::<Messages>();
    streams_as_written::<ollama::Chat>();
    streams_as_written::<ollama::Generate>();
    streams_as_written::<gemini::StreamEvents>();
    streams_as_written::<gemini::StreamArray>();
}

fn gives_its_document<D: CaseDialect>() {
    for case in D::cases() {
        let words = |error: &ProxyError| {
            let (status, _, body) = D::to_error_response(error, "req_test", CommandHint::default());
            (status, body)
        };
        let (status, got) = answer_of(reply::<D>(&case), &split([case.upstream_sse.as_slice()]), words);
        let got = D::compared_document(&case, got);
        assert_eq!((status, &got), (case.document_status(), &case.client_json), "{}", case.name);
    }
}

#[test]
fn each_case_gives_the_expected_document() {
    gives_its_document::<Chat>();
    gives_its_document::<Completions>();
    gives_its_document::<Messages>();
    gives_its_document::<ollama::Chat>();
    gives_its_document::<ollama::Generate>();
    gives_its_document::<gemini::StreamEvents>();
    gives_its_document::<gemini::StreamArray>();
}

fn document_is_the_fold<D: CaseDialect>() {
    for case in D::cases() {
        let (Some(written), None) = (&case.client_sse, case.client_json.get("error")) else { continue };
        assert_eq!(D::fold(&D::frames(written)), stripped(case.client_json.clone()), "{}", case.name);
    }
}

#[test]
fn the_expected_document_is_the_fold_of_the_expected_stream() {
    document_is_the_fold::<Chat>();
    document_is_the_fold::<Completions>();
    document_is_the_fold::<Messages>();
    document_is_the_fold::<ollama::Chat>();
    document_is_the_fold::<ollama::Generate>();
    document_is_the_fold::<gemini::StreamEvents>();
    document_is_the_fold::<gemini::StreamArray>();
}

/// Without the parts of a stream that are sent only on request.
fn stripped(mut document: Value) -> Value {
    let members = document.as_object_mut().unwrap();
    members.remove("usage");
    members.remove("service_tier");
    members.remove("usageMetadata");
    document
}

fn same_when_split<D: CaseDialect>() {
    for case in D::cases() {
        assert_split_anywhere(&case, || reply::<D>(&case));
    }
}

#[test]
fn a_response_split_anywhere_gives_the_same_output() {
    same_when_split::<Chat>();
    same_when_split::<Completions>();
    same_when_split::<Messages>();
    same_when_split::<ollama::Chat>();
    same_when_split::<ollama::Generate>();
    same_when_split::<gemini::StreamEvents>();
    same_when_split::<gemini::StreamArray>();
}

fn never_whole_when_cut<D: CaseDialect>() {
    for case in D::cases() {
        assert_cut_anywhere(&case, || reply::<D>(&case), |events| assert_cut::<D>(&case, events));
    }
}

#[test]
fn a_response_cut_anywhere_never_looks_complete() {
    never_whole_when_cut::<Chat>();
    never_whole_when_cut::<Completions>();
    never_whole_when_cut::<Messages>();
    never_whole_when_cut::<ollama::Chat>();
    never_whole_when_cut::<ollama::Generate>();
    never_whole_when_cut::<gemini::StreamEvents>();
    never_whole_when_cut::<gemini::StreamArray>();
}

fn assert_cut<D: CaseDialect>(case: &Case, events: &[Bytes]) {
    let frames = D::frames(&stream_of(reply::<D>(case), events));
    let Some(Frame::Json(last)) = frames.last() else { panic!("{}: no error", case.name) };
    assert!(D::is_cut(last), "{}: {last}", case.name);
    D::assert_laws(Usage::when(includes_usage(case)), &frames);
    assert!(matches!(document_of(reply::<D>(case), events), Err(ProxyError::Truncated { .. })), "{}", case.name);
}

fn keeps_the_laws<D: CaseDialect>() {
    for case in D::cases() {
        let frames = D::frames(&stream_of(reply::<D>(&case), &split([case.upstream_sse.as_slice()])));
        D::assert_laws(Usage::when(includes_usage(&case)), &frames);
    }
}

#[test]
fn the_laws_hold_for_every_case() {
    keeps_the_laws::<Chat>();
    keeps_the_laws::<Completions>();
    keeps_the_laws::<Messages>();
    keeps_the_laws::<ollama::Chat>();
    keeps_the_laws::<ollama::Generate>();
    keeps_the_laws::<gemini::StreamEvents>();
    keeps_the_laws::<gemini::StreamArray>();
}

fn is_silent_after_the_end<D: CaseDialect>() {
    for case in D::cases() {
        assert_silent_after_the_end(&case, reply::<D>(&case));
    }
}

#[test]
fn nothing_is_sent_after_the_end() {
    is_silent_after_the_end::<Chat>();
    is_silent_after_the_end::<Completions>();
    is_silent_after_the_end::<Messages>();
    is_silent_after_the_end::<ollama::Chat>();
    is_silent_after_the_end::<ollama::Generate>();
    is_silent_after_the_end::<gemini::StreamEvents>();
    is_silent_after_the_end::<gemini::StreamArray>();
}
