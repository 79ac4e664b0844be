//! The lite form adds a namespace to tool names; no reply of any case contains it.

use bytes::Bytes;
use codex_proxy::command_hint::CommandHint;
use codex_proxy::protocol::chat::Chat;
use codex_proxy::protocol::codex::WireFormat;
use codex_proxy::protocol::codex::lite::ToolNamespace;
use codex_proxy::protocol::completions::Completions;
use codex_proxy::protocol::messages::Messages;
use codex_proxy::protocol::models::Models;
use codex_proxy::protocol::responses::{Options, Responses};
use codex_proxy::protocol::{Context, Dialect as _, Warnings};
use http::HeaderMap;
use serde_json::json;

use crate::cases::Case;
use crate::runner::{document_of, split, stream_of};
use crate::{CaseDialect, gemini, ollama, reply, responses};

/// The namespace that the lite form adds to tools.
fn namespace() -> ToolNamespace {
    let (headers, models, warnings) = (HeaderMap::new(), Models::default(), Warnings::default());
    let mut context = Context {
        headers: &headers,
        key: None,
        path_model: None,
        commands: CommandHint::default(),
        models: &models,
        warnings,
    };
    let body = json!({"model": "m", "input": "x"}).to_string();
    let request = Responses::decode(body.as_bytes()).unwrap();
    let mut request = Responses::translate(request, &mut context, &Options::default()).unwrap().upstream;
    request.format = WireFormat::Lite;
    request.lite_effects().unwrap().namespace
}

/// The events of a case in the lite form: every call of a plain tool has the added namespace.
fn wrapped(case: &Case) -> Vec<Bytes> {
    let wrap = |data: Bytes| {
        let mut text = String::from_utf8(data.to_vec()).unwrap();
        let marks = ["function_call", "custom_tool_call"].map(|kind| format!(r#""type":"{kind}""#));
        for bare in marks.iter().filter(|_| !text.contains("namespace")).collect::<Vec<_>>() {
            text = text.replace(bare, &format!(r#""namespace":"functions",{bare}"#));
        }
        Bytes::from(text)
    };
    split([case.upstream_sse.as_slice()]).into_iter().map(wrap).collect()
}

/// The events with the namespace removed, as by the upstream client. Counts the events that contained it.
fn unwrapped(case: &Case, count: &mut usize) -> Vec<Bytes> {
    let namespace = namespace();
    let reported = wrapped(case).into_iter().map(|data| {
        let plain = namespace.strip_from(std::str::from_utf8(&data).unwrap());
        *count += usize::from(plain.is_some());
        plain.map_or(data, Bytes::from)
    });
    reported.collect()
}

fn answers_the_same<D: CaseDialect>(count: &mut usize) {
    for case in D::cases() {
        let (bare, unwrapped) = (split([case.upstream_sse.as_slice()]), unwrapped(&case, count));
        assert_eq!(unwrapped, bare, "{}: each event has its bytes again", case.name);
        assert_eq!(stream_of(reply::<D>(&case), &unwrapped), stream_of(reply::<D>(&case), &bare), "{}", case.name);
        let document = |events: &[Bytes]| format!("{:?}", document_of(reply::<D>(&case), events));
        assert_eq!(document(&unwrapped), document(&bare), "{}", case.name);
    }
}

#[test]
fn wrapped_tool_names_give_the_same_output() {
    let mut count = 0;
    answers_the_same::<Chat>(&mut count);
    answers_the_same::<Completions>(&mut count);
    answers_the_same::<Messages>(&mut count);
    answers_the_same::<ollama::Chat>(&mut count);
    answers_the_same::<gemini::StreamArray>(&mut count);
    for case in responses::cases() {
        let (bare, unwrapped) = (split([case.upstream_sse.as_slice()]), unwrapped(&case, &mut count));
        let stream = |events: &[Bytes]| stream_of(responses::reply(&case), events);
        assert_eq!(stream(&unwrapped), stream(&bare), "{}", case.name);
        let document = |events: &[Bytes]| format!("{:?}", document_of(responses::reply(&case), events));
        assert_eq!(document(&unwrapped), document(&bare), "{}", case.name);
    }
    assert!(count >= 10, "only {count} events were wrapped");
}
