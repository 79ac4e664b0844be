//! Translation details that no golden case covers.

use bytes::Bytes;
use codex_proxy::error::ProxyError;
use codex_proxy::protocol::chat::{CallStyle, ChatReply, ReasoningField, RenderOptions, ReplyOptions};
use codex_proxy::protocol::{Fold, Reply};
use serde_json::{Value, json};

use crate::fold::{Frame, frames};
use crate::runner::drive;
use crate::{document, stream};

fn options() -> ReplyOptions {
    ReplyOptions { model: "m".to_owned(), ..ReplyOptions::default() }
}

fn with(api: RenderOptions) -> ReplyOptions {
    ReplyOptions { api, ..options() }
}

fn bytes(events: &[Value]) -> Vec<Bytes> {
    // A string is the data of an event that isn't JSON.
    events.iter().map(|event| event.as_str().map_or_else(|| event.to_string(), str::to_owned).into()).collect()
}

/// The client's events, chunk by chunk: the delta, or the end of the response.
fn simplified(options: &ReplyOptions, events: &[Value]) -> Vec<Value> {
    let frames = frames(&stream(options, &bytes(events)));
    let plain = |frame: &Frame| match frame {
        Frame::Done => json!("done"),
        Frame::Json(value) if value.get("error").is_some() => value["error"]["code"].clone(),
        Frame::Json(value) if value["choices"][0]["finish_reason"].is_string() => {
            value["choices"][0]["finish_reason"].clone()
        }
        Frame::Json(value) => value["choices"][0]["delta"].clone(),
    };
    let is_role = |chunk: &Value| chunk.get("role").is_some();
    frames.iter().map(plain).filter(|chunk| !is_role(chunk)).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "items are inline")]
fn added(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.added", "output_index": index, "item": item})
}

#[expect(clippy::needless_pass_by_value, reason = "items are inline")]
fn done(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.done", "output_index": index, "item": item})
}

fn message() -> Value {
    json!({"type": "message", "content": []})
}

fn whole_message(text: &str) -> Value {
    json!({"type": "message", "content": [{"type": "output_text", "text": text}]})
}

fn text(index: u64, delta: &str) -> Value {
    json!({"type": "response.output_text.delta", "output_index": index, "content_index": 0, "delta": delta})
}

fn text_done(index: u64, text: &str) -> Value {
    json!({"type": "response.output_text.done", "output_index": index, "content_index": 0, "text": text})
}

fn thought(index: u64, part: u64, delta: &str) -> Value {
    json!({"type": "response.reasoning_summary_text.delta", "output_index": index, "summary_index": part, "delta": delta})
}

fn call(name: &str, id: &str, arguments: &str) -> Value {
    json!({"type": "function_call", "name": name, "call_id": id, "arguments": arguments})
}

fn arguments(index: u64, delta: &str) -> Value {
    json!({"type": "response.function_call_arguments.delta", "output_index": index, "delta": delta})
}

fn completed() -> Value {
    json!({"type": "response.completed", "response": {"id": "resp_1"}})
}

fn content(text: &str) -> Value {
    json!({"content": text})
}

#[test]
fn a_blank_line_separates_messages_unless_one_is_empty() {
    let events = [
        done(0, whole_message("")),
        text(1, "a"),
        done(1, whole_message("a")),
        added(2, message()),
        done(2, message()),
        text(3, "b"),
        text(3, "c"),
        completed(),
    ];
    let expected = [content("a"), content("\n\n"), content("b"), content("c"), json!("stop"), json!("done")];
    assert_eq!(simplified(&options(), &events), expected);
}

#[test]
fn a_missing_tail_is_sent_once_and_nothing_twice() {
    let events =
        [text(0, "é\u{1F600}"), text_done(0, "é\u{1F600}b"), done(0, whole_message("é\u{1F600}bc")), completed()];
    let expected = [content("é\u{1F600}"), content("b"), content("c"), json!("stop"), json!("done")];
    assert_eq!(simplified(&options(), &events), expected);
}

#[test]
fn a_gap_is_filled_from_the_complete_text() {
    let events = [text(0, "Hel"), json!("{broken"), text(0, "world"), text_done(0, "Hello, world"), completed()];
    let expected = [content("Hel"), content("lo, world"), json!("stop"), json!("done")];
    assert_eq!(simplified(&options(), &events), expected);
}

#[test]
fn a_gap_that_remains_is_an_error() {
    let gap = json!({"type": "response.output_text.delta", "output_index": 0, "delta": 7});
    let cases = [
        vec![text(0, "Hel"), gap.clone(), text(0, "world"), completed()],
        vec![added(0, call("f", "c", "")), gap.clone(), arguments(0, "{}"), completed()],
        vec![gap.clone(), text(1, "b"), done(1, whole_message("b")), completed()],
        vec![gap, completed()],
        vec![arguments(0, "{}"), completed()],
        vec![done(0, json!({"type": "function_call", "call_id": "c", "arguments": "{}"})), completed()],
    ];
    for events in cases {
        let simplified = simplified(&options(), &events);
        assert_eq!(simplified.last(), Some(&json!("upstream_stream_damaged")), "{events:?}");
        assert!(matches!(document(&options(), &bytes(&events)), Err(ProxyError::Damaged { .. })));
    }
}

#[test]
fn billed_output_that_never_arrived_is_an_error() {
    let ended = |output: u64, reasoning: u64| {
        let usage = json!({"output_tokens": output, "output_tokens_details": {"reasoning_tokens": reasoning}});
        vec![json!({"type": "response.completed", "response": {"usage": usage}})]
    };
    assert!(matches!(document(&options(), &bytes(&ended(5, 4))), Err(ProxyError::Damaged { .. })));
    assert_eq!(document(&options(), &bytes(&ended(4, 4))).unwrap()["choices"][0]["message"]["content"], "");
}

#[test]
fn output_beside_an_open_call_waits_for_its_end() {
    let events = [
        added(0, call("f", "c0", "")),
        text(1, "beside"),
        arguments(0, "{"),
        added(2, call("g", "c2", "")),
        arguments(2, "[]"),
        thought(3, 0, "hm"),
        arguments(0, "}"),
        done(0, call("f", "c0", "{}")),
        arguments(2, " "),
        completed(),
    ];
    let opened = |index: u64, id: &str, name: &str| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]});
    let piece = |index: u64, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
    let expected = [
        opened(0, "c0", "f"),
        piece(0, "{"),
        piece(0, "}"),
        content("beside"),
        opened(1, "c2", "g"),
        piece(1, "[]"),
        piece(1, " "),
        json!({"reasoning_content": "hm"}),
        json!("tool_calls"),
        json!("done"),
    ];
    assert_eq!(simplified(&options(), &events), expected);
}

#[test]
fn an_event_finds_its_item_by_any_identifier() {
    let events = [
        json!({"type": "response.output_item.added", "item": {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f"}}),
        json!({"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": "1"}),
        json!({"type": "response.function_call_arguments.delta", "call_id": "c1", "delta": "2"}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": "fc_1", "delta": "3"}),
        json!({"type": "response.function_call_arguments.delta", "delta": "4"}),
        json!({"type": "response.output_item.done", "item": {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "1234"}}),
        completed(),
    ];
    let document = document(&options(), &bytes(&events)).unwrap();
    let calls = &document["choices"][0]["message"]["tool_calls"];
    assert_eq!(*calls, json!([{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "1234"}}]));
}

#[test]
fn a_call_whose_name_arrives_late_is_sent_with_its_complete_arguments() {
    let events = [arguments(0, "{"), arguments(0, "}"), done(0, call("f", "c", "{}")), completed()];
    let document = document(&options(), &bytes(&events)).unwrap();
    assert_eq!(document["choices"][0]["message"]["tool_calls"][0]["function"], json!({"name": "f", "arguments": "{}"}));
}

#[test]
fn citations_count_from_the_start_of_the_content() {
    let citation = json!({"type": "url_citation", "start_index": 1, "end_index": 2, "url": "https://a.invalid/\"x", "title": null});
    let part =
        |text: &str| json!({"type": "output_text", "text": text, "annotations": [citation, {"type": "file_citation"}]});
    let annotation = json!({"type": "response.output_text.annotation.added", "output_index": 1, "content_index": 0, "annotation": citation});
    let events = [
        text(0, "\u{1F600}a"),
        text(1, "bc"),
        annotation,
        done(1, json!({"type": "message", "content": [part("bc"), part("de")]})),
        completed(),
    ];
    let document = document(&options(), &bytes(&events)).unwrap();
    let message = &document["choices"][0]["message"];
    assert_eq!(message["content"], "\u{1F600}a\n\nbcde");
    let starts: Vec<_> =
        message["annotations"].as_array().unwrap().iter().map(|note| &note["url_citation"]["start_index"]).collect();
    assert_eq!(starts, [5, 7]);
    assert_eq!(message["annotations"][0]["url_citation"]["url"], "https://a.invalid/\"x");
}

#[test]
fn a_citation_waits_for_its_text() {
    let citation = |start: u64| json!({"type": "url_citation", "start_index": start, "end_index": start + 1, "url": "u", "title": "t"});
    let annotation = |start: u64| json!({"type": "response.output_text.annotation.added", "output_index": 1, "content_index": 0, "annotation": citation(start)});
    let shown = |start: u64| json!({"annotations": [{"type": "url_citation", "url_citation": {"start_index": start, "end_index": start + 1, "url": "u", "title": "t"}}]});
    let whole = json!({"type": "message", "content": [{"type": "output_text", "text": "abcd", "annotations": [citation(0), citation(2)]}]});
    let early = [
        done(0, whole_message("Hello")),
        annotation(0),
        text(1, "ab"),
        json!("{broken"),
        annotation(2),
        text(1, "d"),
        done(1, whole),
        completed(),
    ];
    let expected = [
        content("Hello"),
        content("\n\n"),
        content("ab"),
        shown(7),
        content("cd"),
        shown(9),
        json!("stop"),
        json!("done"),
    ];
    assert_eq!(simplified(&options(), &early), expected);

    let stopping = ReplyOptions { stop: vec!["END".to_owned()], ..options() };
    let held_back = [text(1, "E"), annotation(0), text(1, "x"), completed()];
    let expected = [content("Ex"), shown(0), json!("stop"), json!("done")];
    assert_eq!(simplified(&stopping, &held_back), expected);
}

#[test]
fn reasoning_that_was_not_streamed_is_sent_in_one_piece() {
    let reasoning = |texts: &[&str]| {
        let parts: Vec<Value> = texts.iter().map(|text| json!({"type": "summary_text", "text": text})).collect();
        json!({"type": "reasoning", "summary": parts})
    };
    let events = [
        done(0, reasoning(&["a", "b"])),
        thought(1, 0, "c"),
        done(1, reasoning(&["c", "d"])),
        text(2, "x"),
        completed(),
    ];
    let thought = |text: &str| json!({"reasoning_content": text});
    let expected = [
        thought("a\n\nb"),
        thought("\n\n"),
        thought("c"),
        thought("\n\n"),
        thought("d"),
        content("x"),
        json!("stop"),
        json!("done"),
    ];
    assert_eq!(simplified(&options(), &events), expected);
}

#[test]
fn reasoning_is_sent_in_the_configured_field() {
    let events = [thought(0, 0, "a"), thought(0, 1, "b"), text(1, "x"), completed()];
    let message = |reasoning: ReasoningField| {
        let document =
            document(&with(RenderOptions { reasoning, ..RenderOptions::default() }), &bytes(&events)).unwrap();
        let message = &document["choices"][0]["message"];
        [message["content"].clone(), message["reasoning_content"].clone(), message["reasoning"].clone()]
    };
    let all = json!("a\n\nb");
    assert_eq!(message(ReasoningField::ReasoningContent), [json!("x"), all.clone(), Value::Null]);
    assert_eq!(message(ReasoningField::Reasoning), [json!("x"), Value::Null, all.clone()]);
    assert_eq!(message(ReasoningField::Both), [json!("x"), all.clone(), all]);
    assert_eq!(message(ReasoningField::None), [json!("x"), Value::Null, Value::Null]);
    let tagged = json!("<think>a\n\nb</think>\n\nx");
    assert_eq!(message(ReasoningField::ThinkTags), [tagged, Value::Null, Value::Null]);
}

#[test]
fn a_flat_custom_tool_is_called_as_a_function() {
    let names = [("apply_1".to_owned(), "apply.patch".to_owned())].into();
    let api = RenderOptions { flat_custom_tools: ["apply.patch".to_owned()].into(), ..RenderOptions::default() };
    let options = ReplyOptions { names, api, ..options() };
    let item = json!({"type": "custom_tool_call", "name": "apply_1", "call_id": "c", "input": "*** \"x\""});
    let document = document(&options, &bytes(&[done(0, item), completed()])).unwrap();
    let expected =
        json!([{"id": "c", "type": "function", "function": {"name": "apply.patch", "arguments": "*** \"x\""}}]);
    assert_eq!(document["choices"][0]["message"]["tool_calls"], expected);
}

#[test]
fn the_legacy_function_format_has_one_call() {
    let options = with(RenderOptions { calls: CallStyle::Legacy, ..RenderOptions::default() });
    let events = [done(0, call("f", "c0", "{}")), done(1, call("g", "c1", "[]")), completed()];
    let document = document(&options, &bytes(&events)).unwrap();
    let choice = &document["choices"][0];
    assert_eq!(choice["message"]["function_call"], json!({"name": "f", "arguments": "{}"}));
    assert_eq!(choice["finish_reason"], "function_call");
}

#[test]
fn a_stop_sequence_ends_text_only() {
    let options = ReplyOptions { stop: vec!["END".to_owned()], prompt_characters: 40, ..options() };
    let events = [
        thought(0, 0, "END"),
        text(1, "a EN"),
        done(1, whole_message("a EN")),
        done(2, call("END", "c", "END")),
        text(3, "b END c"),
        text(3, "d"),
    ];
    let document = document(&options, &bytes(&events)).unwrap();
    let choice = &document["choices"][0];
    assert_eq!(choice["message"]["content"], "a EN\n\nb ");
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], "END");
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(document["usage"]["prompt_tokens"], 10);
    assert!(document["usage"]["completion_tokens"].as_u64().unwrap() > 0);
}

#[test]
fn an_incomplete_response_has_its_reason() {
    for (reason, expected) in [("content_filter", "content_filter"), ("max_output_tokens", "length"), ("new", "length")]
    {
        let end = json!({"type": "response.incomplete", "response": {"incomplete_details": {"reason": reason}}});
        let simplified = simplified(&options(), &[added(0, call("f", "c", "")), arguments(0, "{"), end]);
        assert_eq!(simplified[simplified.len() - 2..], [json!(expected), json!("done")]);
    }
}

#[test]
fn a_lone_surrogate_passes_through() {
    let event = |delta: &str| {
        Bytes::from(format!(r#"{{"type":"response.output_text.delta","output_index":0,"delta":"{delta}"}}"#))
    };
    let events = [event(r"\ud83d"), event(r"\ude00"), Bytes::from(completed().to_string())];
    assert!(stream(&options(), &events).contains(r#"{"content":"\ud83d"}"#));
    assert_eq!(document(&options(), &events).unwrap()["choices"][0]["message"]["content"], "\u{1F600}");
}

#[test]
fn without_created_the_id_is_still_that_of_the_backend() {
    let item = json!({"type": "message", "id": "msg_abc", "content": []});
    let frames = frames(&stream(&options(), &bytes(&[added(0, item), text(0, "x"), completed()])));
    assert!(frames.iter().filter_map(Frame::json).all(|chunk| chunk["id"] == "chatcmpl-abc"));
}

#[test]
fn a_failure_before_any_output_has_no_role_chunk() {
    let failed = json!({"type": "error", "error": {"code": "server_error", "message": "no"}});
    let stream = stream(&options(), &bytes(&[failed]));
    assert!(stream.starts_with("data: {\"error\":"), "{stream}");
}

#[test]
fn the_log_gets_a_summary_of_the_response() {
    let outcome = |events: &[Value]| {
        let mut reply = ChatReply::new(options());
        drive(&mut reply, &bytes(events), &mut Fold);
        let summary = reply.summary();
        (summary.outcome, summary.usage.map(|usage| usage.output_tokens))
    };
    let usage = json!({"type": "response.completed", "response": {"usage": {"output_tokens": 3}}});
    assert_eq!(outcome(&[text(0, "x"), usage]), ("completed".to_owned(), Some(3)));
    assert_eq!(outcome(&[json!({"type": "response.incomplete"})]), ("incomplete".to_owned(), None));
    assert_eq!(outcome(&[text(0, "x")]), ("upstream_stream_truncated".to_owned(), None));
}
