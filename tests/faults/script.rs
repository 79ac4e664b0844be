//! The scripts of the backend, by the names used in the tables.

use crate::compression::compressed;
use crate::fake::Script;

const CREATED: &str =
    r#"{"type":"response.created","response":{"id":"resp_1","created_at":1700000000,"model":"gpt-5.5"}}"#;
const PROGRESS: &str = r#"{"type":"response.in_progress","response":{"id":"resp_1"}}"#;
const QUOTA: &str = r#"{"type":"codex.rate_limits","plan_type":"pro"}"#;
const UNKNOWN: &str = r#"{"type":"codex.something_new","of":{"the":"future"}}"#;
const ITEM: &str = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","id":"msg_1","role":"assistant","content":[]}}"#;
const TEXT: &str =
    r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"item_id":"msg_1","delta":"Hello"}"#;
const DONE_ITEM: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[]}]}}"#;
const CALL: &str = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","id":"fc_1","call_id":"call_1","name":"f","arguments":""}}"#;
const ARGUMENTS: &str =
    r#"{"type":"response.function_call_arguments.delta","output_index":0,"item_id":"fc_1","delta":"{\"a\":"}"#;
const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"resp_1","created_at":1700000000,"model":"gpt-5.5","status":"completed","usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}}"#;
const FAILED: &str = r#"{"type":"response.failed","response":{"id":"resp_1","status":"failed","error":{"code":"server_is_overloaded","message":"Busy."}}}"#;
const PAGE: &str = r#"{"type":"response.failed","response":{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"<html><title>502</title></html>"}}}"#;
/// The content of compressed streams.
const COMPRESSED: [&str; 5] = [CREATED, ITEM, TEXT, DONE_ITEM, COMPLETED];

/// An error, or another complete response that isn't an event stream.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Script {
    let headers: Vec<(&str, &str)> = headers.split("; ").filter_map(|header| header.split_once(": ")).collect();
    let kind = ("content-type", if body.starts_with(['{', '[']) { "application/json" } else { "text/plain" });
    let is_named = headers.iter().any(|(name, _)| *name == "content-type") || body.is_empty();
    let headers: Vec<_> = headers.into_iter().chain((!is_named).then_some(kind)).collect();
    Script::answer(status, &headers, body)
}

/// A stream up to or past the commit point, then this event.
pub(crate) fn ending_in(begun: &[&str], last: &str) -> Script {
    begun.iter().fold(Script::stream(&[]), |script, name| step(script, name)).event(last).end()
}

/// The steps of a stream: of events, or in an encoding.
pub(crate) fn steps(names: &str) -> Script {
    if let Some((encoding, steps)) = names.split_once(": ") {
        let head = Script::stream(&[("content-encoding", encoding)]);
        return steps.split(' ').fold(head, |script, name| encoded_step(script, encoding, name));
    }
    let mut names = names.split(' ').peekable();
    let head = match *names.peek().unwrap() {
        "head" => Script::stream(&[]),
        _ => return names.fold(Script::default(), step),
    };
    names.filter(|name| *name != "head").fold(head, step)
}

fn step(script: Script, name: &str) -> Script {
    match name {
        "end" => script.end(),
        "cut" => script.cut(),
        "reset" => script.reset(),
        "hang" => script.hang(),
        "created" => script.event(CREATED),
        "progress" => script.event(PROGRESS),
        "quota" => script.event(QUOTA),
        "unknown" => script.event(UNKNOWN),
        "item" => script.event(ITEM),
        "text" => script.event(TEXT),
        "done-item" => script.event(DONE_ITEM),
        "call" => script.event(CALL),
        "arguments" => script.event(ARGUMENTS),
        "completed" | "paid-for-nothing" => script.event(COMPLETED),
        "failed" => script.event(FAILED),
        "page" => script.event(PAGE),
        "comment" => script.chunk(": keepalive\n\n"),
        "done-marker" => script.event("[DONE]"),
        "garbage" => script.chunk(b"\x00\xff\xfe:\n\ndata: \xf0\x9f{\"type\":\n\n"),
        "half-event" => script.chunk(r#"data: {"type":"response.output_text.del"#),
        "half-completed" => script.chunk(format!("data: {}", COMPLETED.strip_suffix('}').unwrap())),
        "giant" => script.chunk(format!(r#"data: {{"type":"x","delta":"{}"#, "x".repeat(70_000))),
        other => panic!("no such step: {other}"),
    }
}

fn encoded_step(script: Script, encoding: &str, name: &str) -> Script {
    let pieces = || compressed(encoding, &COMPRESSED.map(|data| format!("data: {data}\n\n")));
    match name {
        "whole" => script.chunk(pieces().concat()),
        "up-to-text" => script.chunk(pieces()[..3].concat()),
        "all-but-the-end-of-the-frame" => script.chunk(pieces()[..5].concat()),
        "half-frame" => script.chunk(&pieces()[0][..15]),
        "garbage" => script.chunk([0xff; 40]),
        other => step(script, other),
    }
}
