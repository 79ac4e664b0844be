//! The scripts of the backend, by the names used in the tables.

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
/// A complete stream, compressed with gzip.
const GZIP: &str = "1f8b08000000000002034b492c49b452a8562aa92c4855b2522a4a2d2ec8cf2b4ed54bcecf2dc8492d494d51d2810b2a59552b65a64055c51b2ad5d67271010042063a0c40000000";

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

/// The steps of a stream.
pub(crate) fn steps(names: &str) -> Script {
    let mut names = names.split(' ').peekable();
    let head = match *names.peek().unwrap() {
        "head" => Script::stream(&[]),
        "gzip" | "gzip-cut" => Script::stream(&[("content-encoding", "gzip")]),
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
        "gzip" => script.chunk(gzip()).end(),
        "gzip-cut" => script.chunk(&gzip()[..20]).end(),
        other => panic!("no such step: {other}"),
    }
}

fn gzip() -> Vec<u8> {
    let digits = GZIP.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}
