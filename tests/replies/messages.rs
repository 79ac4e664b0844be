//! Details of the Messages translation that no golden case covers, and events in any order.

use bytes::Bytes;
use codex_proxy::error::ProxyError;
use codex_proxy::protocol::messages::{MessagesReply, RenderOptions, ReplyOptions, SearchDisplay, ThinkingDisplay};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::blocks::{assert_block_laws, fold_blocks, spoken};
use crate::disorder::any_event;
use crate::fold::frames;
use crate::runner::{document_of, stream_of};

fn options() -> ReplyOptions {
    thinking(ThinkingDisplay::Shown)
}

fn thinking(thinking: ThinkingDisplay) -> ReplyOptions {
    let api = RenderOptions { thinking, search: SearchDisplay::Hidden };
    ReplyOptions { model: "m".to_owned(), api, ..ReplyOptions::default() }
}

fn searching(search: SearchDisplay) -> ReplyOptions {
    let api = RenderOptions { thinking: ThinkingDisplay::Shown, search };
    ReplyOptions { api, ..options() }
}

fn bytes(events: &[Value]) -> Vec<Bytes> {
    events.iter().map(|event| event.as_str().map_or_else(|| event.to_string(), str::to_owned).into()).collect()
}

/// The document of these events, which must be the fold of their stream.
fn document(options: &ReplyOptions, events: &[Value]) -> Result<Value, ProxyError> {
    let events = bytes(events);
    let stream = frames(&stream_of(MessagesReply::new(options.clone()), &events));
    assert_block_laws(&stream);
    let mut document = document_of(MessagesReply::new(options.clone()), &events)?;
    let usage = document.as_object_mut().unwrap().remove("usage").unwrap();
    assert_eq!(fold_blocks(&stream), document);
    document["usage"] = usage;
    Ok(document)
}

fn content(options: &ReplyOptions, events: &[Value]) -> Value {
    document(options, events).unwrap()["content"].clone()
}

#[expect(clippy::needless_pass_by_value, reason = "items are inline")]
fn done(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.done", "output_index": index, "item": item})
}

#[expect(clippy::needless_pass_by_value, reason = "items are inline")]
fn added(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.added", "output_index": index, "item": item})
}

fn message(text: &str) -> Value {
    json!({"type": "message", "content": [{"type": "output_text", "text": text}]})
}

fn text(index: u64, delta: &str) -> Value {
    json!({"type": "response.output_text.delta", "output_index": index, "content_index": 0, "delta": delta})
}

fn thought(index: u64, part: u64, delta: &str) -> Value {
    json!({"type": "response.reasoning_summary_text.delta", "output_index": index, "summary_index": part, "delta": delta})
}

fn reasoning(encrypted: &str) -> Value {
    json!({"type": "reasoning", "summary": [], "encrypted_content": encrypted})
}

fn call(id: &str, arguments: &str) -> Value {
    json!({"type": "function_call", "name": "f", "call_id": id, "arguments": arguments})
}

fn search(id: &str, query: &str, sources: &[&str]) -> Value {
    let sources: Vec<Value> = sources.iter().map(|url| json!({"type": "url", "url": url})).collect();
    json!({"type": "web_search_call", "id": id, "action": {"type": "search", "query": query, "sources": sources}})
}

fn quoting(text: &str, cited: &[(&str, &str)]) -> Value {
    let annotations: Vec<Value> = cited
        .iter()
        .map(|(url, title)| json!({"type": "url_citation", "start_index": 0, "end_index": 1, "url": url, "title": title}))
        .collect();
    json!({"type": "message", "content": [{"type": "output_text", "text": text, "annotations": annotations}]})
}

fn completed() -> Value {
    json!({"type": "response.completed", "response": {"id": "resp_1"}})
}

fn incomplete(reason: &str) -> Value {
    json!({"type": "response.incomplete", "response": {"incomplete_details": {"reason": reason}}})
}

#[test]
fn separate_messages_are_separate_blocks_and_an_empty_one_is_none() {
    let events = [text(0, "a"), done(0, message("ab")), done(1, message("")), done(2, message("c")), completed()];
    assert_eq!(content(&options(), &events), json!([{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]));
}

#[test]
fn the_early_snapshot_gives_the_signature_if_no_later_one_arrives() {
    let events = [
        added(0, reasoning("early")),
        thought(0, 0, "a"),
        done(0, json!({"type": "reasoning", "summary": []})),
        added(1, reasoning("early")),
        done(1, reasoning("late")),
        completed(),
    ];
    let thinking = |text: &str, signature: &str| json!({"type": "thinking", "thinking": text, "signature": signature});
    assert_eq!(content(&options(), &events), json!([thinking("a", "cxr1.early"), thinking("", "cxr1.late")]));
}

#[test]
fn thinking_is_sent_only_if_requested() {
    let events = [thought(0, 0, "a"), done(0, reasoning("e")), done(1, message("x")), completed()];
    let omitted = thinking(ThinkingDisplay::Omitted);
    assert_eq!(content(&omitted, &events)[0], json!({"type": "thinking", "thinking": "", "signature": "cxr1.e"}));
    let hidden = thinking(ThinkingDisplay::Hidden);
    assert_eq!(content(&hidden, &events), json!([{"type": "text", "text": "x"}]));
}

#[test]
fn reasoning_that_cannot_be_replayed_has_no_signature() {
    let events = [thought(0, 0, "a"), done(0, json!({"type": "reasoning"})), completed()];
    let expected = json!([{"type": "thinking", "thinking": "a", "signature": ""}]);
    assert_eq!(content(&options(), &events), expected);
    assert_eq!(content(&options(), &[done(0, json!({"type": "reasoning"})), completed()]), json!([]));
}

#[test]
fn a_call_without_a_json_object_has_an_empty_input_in_the_document() {
    for (arguments, input) in
        [("", json!({})), ("[1]", json!({})), ("{\"a\"", json!({})), ("{\"a\":1}", json!({"a": 1}))]
    {
        let events = [done(0, call("c", arguments)), completed()];
        let block = json!([{"type": "tool_use", "id": "c", "name": "f", "input": input}]);
        assert_eq!(content(&options(), &events), block, "{arguments}");
    }
}

#[test]
fn the_stop_reason_matches_the_output() {
    let refusal = json!({"type": "response.refusal.delta", "output_index": 0, "content_index": 0, "delta": "no"});
    let cases = [
        (vec![done(0, message("x")), completed()], "end_turn"),
        (vec![done(0, call("c", "{}")), completed()], "tool_use"),
        (vec![done(0, call("c", "{}")), incomplete("max_output_tokens")], "max_tokens"),
        (vec![text(0, "x"), incomplete("content_filter")], "refusal"),
        (vec![text(0, "x"), incomplete("something new")], "max_tokens"),
        (vec![refusal, done(1, call("c", "{}")), completed()], "refusal"),
    ];
    for (events, reason) in cases {
        assert_eq!(document(&options(), &events).unwrap()["stop_reason"], reason, "{events:?}");
    }
}

#[test]
fn a_stop_sequence_is_reported_and_not_sent() {
    let options = ReplyOptions { stop: vec!["\n\n".to_owned(), "END".to_owned()], ..options() };
    let events = [thought(0, 0, "END"), text(1, "a EN"), text(1, "Dx"), text(1, "y")];
    let document = document(&options, &events).unwrap();
    assert_eq!((&document["stop_reason"], &document["stop_sequence"]), (&json!("stop_sequence"), &json!("END")));
    assert_eq!(document["content"][1]["text"], "a ");
    let at_once = [text(0, "END")];
    assert_eq!(content(&options, &at_once), json!([]));
    let held = [text(0, "a EN"), done(1, call("c", "{}")), completed()];
    assert_eq!(content(&options, &held)[0]["text"], "a EN");
}

#[test]
fn a_stop_sequence_held_back_behind_the_start_of_another_ends_the_response() {
    let options = ReplyOptions { stop: vec!["END".to_owned(), "N".to_owned()], ..options() };
    let refusal = json!({"type": "response.refusal.delta", "output_index": 1, "content_index": 0, "delta": "no"});
    let ends = [
        done(0, message("a EN")),
        done(1, message("b")),
        thought(1, 0, "b"),
        done(1, reasoning("e")),
        refusal,
        done(1, call("c", "{}")),
        completed(),
    ];
    for end in ends {
        let document = document(&options, &[text(0, "a EN"), end.clone(), completed()]).unwrap();
        assert_eq!(document["content"], json!([{"type": "text", "text": "a E"}]), "{end}");
        assert_eq!((&document["stop_reason"], &document["stop_sequence"]), (&json!("stop_sequence"), &json!("N")));
    }
}

#[test]
fn a_search_beside_other_tools_is_sent_at_once() {
    let options = searching(SearchDisplay::Immediate);
    let opened = json!({"type": "web_search_call", "id": "ws_2", "action": {"type": "open_page", "url": "u"}});
    let events = [
        text(0, "before"),
        done(1, search("ws-1", "say \"hi\"", &["https://a", "https://a"])),
        done(2, opened),
        done(3, quoting("after", &[("https://b", "B")])),
        completed(),
    ];
    let document = document(&options, &events).unwrap();
    let result = json!({"type": "web_search_result", "url": "https://a", "title": "https://a", "encrypted_content": "", "page_age": null});
    assert_eq!(
        document["content"],
        json!([
            {"type": "text", "text": "before"},
            {"type": "server_tool_use", "id": "srvtoolu_ws_1", "name": "web_search", "input": {"query": "say \"hi\""}},
            {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_ws_1", "content": [result]},
            {"type": "text", "text": "after", "citations": [
                {"type": "web_search_result_location", "url": "https://b", "title": "B", "encrypted_index": "", "cited_text": ""},
            ]},
        ])
    );
    assert_eq!(document["usage"]["server_tool_use"], json!({"web_search_requests": 1, "web_fetch_requests": 0}));
    assert_eq!(document["stop_reason"], "end_turn");
}

#[test]
fn a_search_without_an_action_is_sent_as_a_search() {
    let cited = || done(1, quoting("x", &[("https://a", "A")]));
    for action in [None, Some(Value::Null), Some(json!("new")), Some(json!({}))] {
        let mut search = json!({"type": "web_search_call", "id": "ws_1"});
        if let Some(action) = action {
            search["action"] = action;
        }
        for (form, found) in [(SearchDisplay::Immediate, 0), (SearchDisplay::Gathered, 1)] {
            let options = searching(form);
            let document = document(&options, &[done(0, search.clone()), cited(), completed()]).unwrap();
            let content = &document["content"];
            let used =
                json!({"type": "server_tool_use", "id": "srvtoolu_ws_1", "name": "web_search", "input": {"query": ""}});
            assert_eq!(content[0], used, "{search}");
            assert_eq!(content[1]["type"], "web_search_tool_result");
            assert_eq!(content[1]["content"].as_array().map(Vec::len), Some(found));
            assert_eq!(content[2]["citations"].as_array().map(Vec::len), Some(1));
            assert_eq!(document["usage"]["server_tool_use"]["web_search_requests"], 1);
        }
    }
}

#[test]
fn a_citation_waits_for_its_text() {
    let annotation = json!({"type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0,
        "annotation": {"type": "url_citation", "start_index": 0, "end_index": 1, "url": "u", "title": "t"}});
    let cited = json!([{"type": "web_search_result_location", "url": "u", "title": "t", "encrypted_index": "", "cited_text": ""}]);
    let options = ReplyOptions { stop: vec!["END".to_owned()], ..searching(SearchDisplay::Immediate) };
    for events in [
        vec![annotation.clone(), text(0, "Ex"), done(0, message("Ex")), completed()],
        vec![annotation.clone(), done(0, message("Ex")), completed()],
        vec![text(0, "E"), annotation.clone(), text(0, "x"), completed()],
        vec![json!("{broken"), annotation.clone(), text(0, "x"), done(0, message("Ex")), completed()],
    ] {
        let block = json!([{"type": "text", "text": "Ex", "citations": cited}]);
        assert_eq!(content(&options, &events), block, "{events:?}");
    }
}

#[test]
fn gathered_searches_share_their_results() {
    let options = searching(SearchDisplay::Gathered);
    let events = [
        text(0, "first"),
        done(1, search("ws_1", "one", &["https://a"])),
        done(2, search("ws_2", "two", &[])),
        done(3, quoting("x", &[("https://a", "A"), ("https://b", ""), ("https://b", "")])),
        completed(),
    ];
    let content = content(&options, &events);
    assert_eq!(content[0]["text"], "first");
    assert_eq!(content[2]["content"][0]["title"], "A", "the title comes from the citation");
    let second: Vec<_> = content[4]["content"].as_array().unwrap().iter().map(|found| &found["url"]).collect();
    assert_eq!(second, ["https://b"]);
    assert_eq!(content[5]["citations"].as_array().map(Vec::len), Some(3));
    let cut = frames(&stream_of(MessagesReply::new(options), &bytes(&events[..4])));
    assert_eq!(
        spoken(&cut).iter().filter(|event| event["type"] == "content_block_start").count(),
        1,
        "the rest is held back"
    );
}

#[test]
fn a_search_that_was_not_requested_is_not_sent() {
    let events =
        [done(0, search("ws", "q", &["https://a"])), done(1, quoting("x", &[("https://a", "A")])), completed()];
    assert_eq!(content(&options(), &events), json!([{"type": "text", "text": "x"}]));
}

#[test]
fn a_gap_that_remains_and_missing_output_are_errors() {
    let gap = json!({"type": "response.output_text.delta", "output_index": 0, "delta": 7});
    let paid = json!({"type": "response.completed", "response": {"usage": {"output_tokens": 5}}});
    for events in [vec![text(0, "Hel"), gap, text(0, "world"), completed()], vec![paid]] {
        assert!(matches!(document(&options(), &events), Err(ProxyError::Damaged { .. })), "{events:?}");
    }
}

#[test]
fn a_failure_before_any_output_is_only_an_error() {
    let failed = json!({"type": "error", "error": {"code": "server_is_overloaded", "message": "no"}});
    let stream = stream_of(MessagesReply::new(options()), &bytes(&[failed]));
    assert_eq!(
        stream,
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"no\"}}\n\n"
    );
}

#[test]
fn a_limit_ends_text_refusals_and_calls_alike() {
    let options = ReplyOptions { token_limit: Some(2), stop: vec!["END".to_owned()], ..options() };
    let refusal =
        |text: &str| json!({"type": "response.refusal.delta", "output_index": 0, "content_index": 0, "delta": text});
    for (events, reported, reason) in [
        (vec![text(0, "one two"), text(0, " three"), completed()], "one two", "max_tokens"),
        (vec![text(0, "one two"), completed()], "one two", "end_turn"),
        (vec![text(0, "one two END three"), completed()], "one two", "max_tokens"),
        (vec![text(0, "one END two three"), completed()], "one ", "stop_sequence"),
        (vec![refusal("one two three"), completed()], "one two", "max_tokens"),
    ] {
        let document = document(&options, &events).unwrap();
        assert_eq!(
            (&document["content"][0]["text"], &document["stop_reason"]),
            (&json!(reported), &json!(reason)),
            "{events:?}"
        );
    }
    let at_call = document(&options, &[done(0, call("c", "{\"a\": \"b c d e\"}")), completed()]).unwrap();
    assert_eq!((&at_call["content"][0]["input"], &at_call["stop_reason"]), (&json!({}), &json!("max_tokens")));
    assert!(document(&options, &[text(0, "one"), thought(1, 0, "without a limit"), completed()]).is_ok());
}

fn any_options() -> impl Strategy<Value = ReplyOptions> {
    let thinking =
        prop::sample::select(vec![ThinkingDisplay::Hidden, ThinkingDisplay::Omitted, ThinkingDisplay::Shown]);
    let search = prop::sample::select(vec![SearchDisplay::Hidden, SearchDisplay::Immediate, SearchDisplay::Gathered]);
    let limit = prop::option::of(1_u64..12);
    (thinking, search, any::<bool>(), limit).prop_map(|(thinking, search, stops, token_limit)| ReplyOptions {
        model: "m".to_owned(),
        stop: if stops { vec!["END".to_owned(), "\n\n".to_owned()] } else { vec![] },
        token_limit,
        api: RenderOptions { thinking, search },
        ..ReplyOptions::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_order_of_events_breaks_the_laws_of_blocks(
        options in any_options(),
        events in prop::collection::vec(any_event(), 0..25),
    ) {
        let events: Vec<Bytes> = events.into_iter().map(Bytes::from).collect();
        let frames = frames(&stream_of(MessagesReply::new(options.clone()), &events));
        assert_block_laws(&frames);
        if let Ok(mut document) = document_of(MessagesReply::new(options), &events) {
            document.as_object_mut().unwrap().remove("usage");
            prop_assert_eq!(fold_blocks(&frames), document);
        } else {
            prop_assert!(spoken(&frames).iter().all(|event| event["type"] != "message_stop"));
        }
    }
}
