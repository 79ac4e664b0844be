use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::image_generation::ImageSettings;
use super::web_search::SearchSettings;
use super::{CallContext, Merged, ProxyCall, ProxyTool, RoundMerger, ToolOutcome, next_round};
use crate::protocol::json::raw_object::RawObject;

fn tools() -> Vec<ProxyTool> {
    vec![ProxyTool::WebSearch(settings(r#"{"type":"web_search"}"#))]
}

fn settings(tool: &str) -> SearchSettings {
    SearchSettings::read(&RawObject::parse(tool).unwrap())
}

fn call_item(number: u64) -> Value {
    json!({
        "type": "function_call", "id": format!("fc_{number}"), "call_id": format!("call_{number}"), "namespace": "web",
        "name": "run", "arguments": r#"{"search_query":[{"q":"rust release"}]}"#,
    })
}

/// The events of a round with these items, numbered.
fn round(id: &str, items: &[Value], usage: &Value) -> Vec<String> {
    let mut events = vec![json!({"type": "response.created", "response": {"id": id, "created_at": 7}})];
    for (index, item) in items.iter().enumerate() {
        let mut begun = item.clone();
        if item["type"] == "message" {
            begun["content"] = json!([]);
        }
        events.push(json!({"type": "response.output_item.added", "output_index": index, "item": begun}));
        if item["type"] == "function_call" {
            let kind = "response.function_call_arguments.delta";
            events.push(json!({"type": kind, "output_index": index, "item_id": item["id"], "delta": "{}"}));
        }
        if item["type"] == "message" {
            let text = &item["content"][0]["text"];
            let event =
                |kind: &str| json!({"type": kind, "output_index": index, "item_id": item["id"], "content_index": 0});
            let mut delta = event("response.output_text.delta");
            delta["delta"] = text.clone();
            let mut done = event("response.output_text.done");
            done["text"] = text.clone();
            let mut part = event("response.content_part.done");
            part["part"] = item["content"][0].clone();
            events.extend([delta, done, part]);
        }
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }
    events.push(json!({"type": "response.completed", "response": {"id": id, "output": [], "usage": usage}}));
    let numbered = events.into_iter().enumerate().map(|(number, mut event)| {
        event["sequence_number"] = json!(number);
        event.to_string()
    });
    numbered.collect()
}

fn message(text: &str) -> Value {
    json!({"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": text, "annotations": []}]})
}

fn usage(input: u64, cached: u64) -> Value {
    json!({
        "input_tokens": input, "input_tokens_details": {"cached_tokens": cached}, "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": input + 3,
    })
}

/// Returns the client's events for these events of the backend.
fn merged(merger: &mut RoundMerger, events: &[String]) -> Vec<String> {
    let one = |event: &String| match merger.accept(event) {
        Merged::Unchanged => vec![event.clone()],
        Merged::Events(events) => events,
    };
    events.iter().flat_map(one).collect()
}

fn finished(merger: &mut RoundMerger, outcome: &ToolOutcome) -> Vec<String> {
    let calls: Vec<ProxyCall> = merger.ended_with_calls().unwrap().to_vec();
    let events = calls.iter().flat_map(|call| merger.finish_call(call, outcome.clone())).collect();
    merger.record_outputs("");
    events
}

fn found(text: &str) -> ToolOutcome {
    ToolOutcome::Found(text.to_owned())
}

fn values(events: &[String]) -> Vec<Value> {
    events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

/// A reply of two rounds: a search, and the answer.
fn two_rounds(outcome: &ToolOutcome, answer: &str) -> Vec<Value> {
    let mut merger = RoundMerger::new(tools());
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "encrypted_content": "x"});
    let mut events = merged(&mut merger, &round("resp_1", &[reasoning, call_item(1)], &usage(10, 4)));
    events.extend(finished(&mut merger, outcome));
    merger.begin_round();
    events.extend(merged(&mut merger, &round("resp_2", &[message(answer)], &usage(20, 8))));
    values(&events)
}

#[test]
fn a_response_without_calls_passes_unchanged() {
    let client_call =
        json!({"type": "function_call", "call_id": "call_1", "namespace": "disk", "name": "run", "arguments": "{}"});
    let mut events = round("resp_1", &[message("hi"), client_call], &usage(10, 4));
    events.insert(3, r#"{ "type" : "response.tomorrow", "x" : 1.0e2 }"#.to_owned());
    events.insert(4, "no json".to_owned());
    let mut merger = RoundMerger::new(tools());
    for event in &events {
        assert_eq!(merger.accept(event), Merged::Unchanged, "{event}");
    }
    assert!(merger.ended_with_calls().is_none() && merger.take_hidden().is_empty());
}

#[test]
fn the_rounds_become_one_response() {
    let events = two_rounds(&found("See https://rust.example/1."), "Rust 1.99 (https://rust.example/1).");
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.output_item.added",
            "response.output_item.done",
            "response.output_item.added",
            "response.web_search_call.in_progress",
            "response.web_search_call.searching",
            "response.web_search_call.completed",
            "response.output_item.done",
            "response.output_item.added",
            "response.output_text.delta",
            "response.output_text.annotation.added",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..15).collect::<Vec<_>>());
    let search = json!({
        "id": "ws_1", "type": "web_search_call", "status": "completed",
        "action": {
            "type": "search", "query": "rust release", "sources": [{"type": "url", "url": "https://rust.example/1"}],
        },
    });
    assert_eq!((&events[7]["output_index"], &events[7]["item"]), (&json!(1), &search));
    assert!(events[8..14].iter().all(|event| event["output_index"] == 2));
    let citation = json!({
        "type": "url_citation", "start_index": 11, "end_index": 33, "url": "https://rust.example/1",
        "title": "rust.example",
    });
    assert_eq!(events[10]["annotation"], citation);
    assert_eq!(events[12]["part"]["annotations"], json!([citation]));
    assert_eq!(events[13]["item"]["content"][0]["annotations"], json!([citation]));
    let response = json!({
        "id": "resp_1", "output": [],
        "usage": {
            "input_tokens": 30, "input_tokens_details": {"cached_tokens": 12}, "output_tokens": 6,
            "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 36,
        },
    });
    assert_eq!(events[14]["response"], response);
}

#[test]
fn a_failed_search_is_shown_as_failed() {
    let events = two_rounds(&ToolOutcome::Failed("no result".to_owned()), "Sorry.");
    let action = json!({"type": "search", "query": "rust release", "sources": []});
    let search = json!({"id": "ws_1", "type": "web_search_call", "status": "failed", "action": action});
    assert_eq!((&events[6]["item"], &events[7]["type"]), (&search, &json!("response.output_item.added")));
    assert!(events.iter().all(|event| event["type"] != "response.output_text.annotation.added"));
}

#[test]
fn only_the_last_message_cites_pages_whose_urls_occur_in_no_text() {
    let mut merger = RoundMerger::new(tools());
    merged(&mut merger, &round("resp_1", &[call_item(1)], &usage(1, 0)));
    finished(&mut merger, &found("https://a.example https://b.example"));
    merger.begin_round();
    let mut events =
        values(&merged(&mut merger, &round("resp_2", &[message("I look on."), call_item(2)], &usage(1, 0))));
    finished(&mut merger, &found("nothing"));
    merger.begin_round();
    let last = [message("From https://b.example:"), message("It is 42.")];
    events.extend(values(&merged(&mut merger, &round("resp_3", &last, &usage(1, 0)))));
    let cited = events.iter().filter(|event| event["type"] == "response.output_text.annotation.added");
    let cited: Vec<_> =
        cited.map(|event| (event["output_index"].as_u64(), event["annotation"]["url"].as_str().unwrap())).collect();
    assert_eq!(cited, [(Some(3), "https://b.example"), (Some(4), "https://a.example")]);
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let kinds: Vec<_> = events.iter().rev().take(5).map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "response.completed",
            "response.output_item.done",
            "response.content_part.done",
            "response.output_text.done",
            "response.output_text.annotation.added",
        ]
    );
}

#[test]
fn annotations_of_the_backend_are_kept() {
    let mut merger = RoundMerger::new(tools());
    merged(&mut merger, &round("resp_1", &[call_item(1)], &usage(1, 0)));
    finished(&mut merger, &found("https://a.example"));
    merger.begin_round();
    let annotation = json!({"type": "url_citation", "url": "https://b.example", "start_index": 0, "end_index": 1});
    let event = json!({
        "type": "response.output_text.annotation.added", "output_index": 0, "content_index": 0, "annotation": annotation,
    });
    merger.accept(&event.to_string());
    let events = values(&merged(&mut merger, &round("resp_2", &[message("Done.")], &usage(1, 0))));
    assert!(events.iter().all(|event| event["annotation"].is_null()));
}

#[test]
fn the_events_of_later_rounds_keep_everything_else() {
    let mut merger = RoundMerger::new(tools());
    merged(&mut merger, &round("resp_1", &[call_item(1)], &usage(1, 0)));
    finished(&mut merger, &found(""));
    merger.begin_round();
    let event = r#"{ "type":"response.tomorrow", "output_index" : 0, "x":[1.0e2, "\u00e9"] }"#;
    let expected = r#"{ "type":"response.tomorrow", "output_index" : 1, "x":[1.0e2, "\u00e9"] }"#;
    assert_eq!(merger.accept(event), Merged::Events(vec![expected.to_owned()]));
    assert_eq!(merger.accept(r#"{"type":"codex.rate_limits"}"#), Merged::Unchanged);
    assert_eq!(merger.accept(r#"{"type":"response.in_progress","response":{}}"#), Merged::Events(Vec::new()));
}

#[test]
fn calls_that_only_the_terminal_event_lists_are_run() {
    let mut merger = RoundMerger::new(tools());
    let end = json!({"type": "response.completed", "response": {"id": "resp_1", "output": [message("I search."), call_item(1)]}});
    merger.accept(r#"{"type":"response.created","response":{"id":"resp_1"}}"#);
    let events = values(&merged(&mut merger, &[end.to_string()]));
    assert_eq!(merger.ended_with_calls().unwrap().len(), 1);
    assert_eq!(events.last().unwrap()["type"], "response.web_search_call.searching");
}

#[test]
fn an_early_end_runs_no_calls() {
    let mut merger = RoundMerger::new(tools());
    let mut events = round("resp_1", &[call_item(1)], &usage(1, 0));
    events.pop();
    events.push(r#"{"type":"response.incomplete","response":{"id":"resp_1","usage":{"input_tokens":1}}}"#.to_owned());
    let events = values(&merged(&mut merger, &events));
    let [.., search, end] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&search["item"]["id"], &search["item"]["status"]), (&json!("ws_1"), &json!("incomplete")));
    assert_eq!(end["type"], "response.incomplete");
    assert!(merger.ended_with_calls().is_none());
}

#[test]
fn a_round_with_calls_of_the_client_ends_the_response_after_its_searches() {
    let mut merger = RoundMerger::new(tools());
    let client_call = json!({"type": "function_call", "call_id": "call_2", "name": "look", "arguments": "{}"});
    merged(&mut merger, &round("resp_1", &[call_item(1), client_call], &usage(1, 0)));
    assert!(merger.has_client_calls());
    finished(&mut merger, &found("text"));
    let end: Value = serde_json::from_str(&merger.release_end().unwrap()).unwrap();
    assert_eq!((&end["type"], &end["response"]["id"]), (&json!("response.completed"), &json!("resp_1")));
    let hidden = merger.take_hidden().remove(0);
    assert_eq!((hidden.output_index, hidden.item_id.as_str()), (0, "ws_1"));
    let output = json!({"type": "function_call_output", "call_id": "call_1", "output": "text"});
    assert_eq!(serde_json::from_str::<Value>(hidden.output.get()).unwrap(), output);
}

/// Compares with the members of a captured request that the proxy sends.
#[test]
fn a_search_request_matches_that_of_the_official_client() {
    let captured = json!({
        "id": "01a221e2-7a63-7041-94e0-045c3e53fea5", "model": "gpt-6.1-sol",
        "commands": {"search_query": [{"q": "rust release"}]},
        "settings": {"allowed_callers": ["direct"], "external_web_access": false}, "max_output_tokens": 10000,
    });
    let commands: &RawValue = serde_json::from_str(r#"{"search_query":[{"q":"rust release"}]}"#).unwrap();
    let settings = settings(r#"{"type":"web_search","external_web_access":false}"#);
    let body = settings.body("01a221e2-7a63-7041-94e0-045c3e53fea5", "gpt-6.1-sol", commands);
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), captured);
    let tool = json!({
        "type": "web_search", "filters": {"allowed_domains": ["a.example"]}, "search_context_size": "high",
        "user_location": {"type": "approximate", "city": "Oslo"},
    });
    let body: Value = serde_json::from_slice(&self::settings(&tool.to_string()).body("s", "m", commands)).unwrap();
    for member in ["filters", "search_context_size", "user_location"] {
        assert_eq!(body["settings"][member], tool[member]);
    }
    assert_eq!(body["settings"]["external_web_access"], true);
}

#[test]
fn the_next_body_continues_the_last_one() {
    let item = serde_json::value::to_raw_value(&call_item(1)).unwrap();
    let body = r#"{"model":"m","input":[{"type":"additional_tools","id":"at_1","tools":[{"type":"namespace","name":"web"},{"type":"namespace","name":"functions"}]}, {"a":1.0e2}],"prompt_cache_key":"k"}"#;
    let next = next_round::continued(body.as_bytes(), std::slice::from_ref(&item), &[]).unwrap();
    let expected = body.replace("{\"a\":1.0e2}]", &format!("{{\"a\":1.0e2}},{}]", item.get()));
    assert_eq!(next, expected.as_bytes());
    let last: Value =
        serde_json::from_slice(&next_round::continued(body.as_bytes(), &[item], &tools()).unwrap()).unwrap();
    assert_eq!(last["input"][0]["tools"], json!([{"type": "namespace", "name": "functions"}]));
    assert_ne!(last["input"][0]["id"], "at_1");
    assert_eq!(last["input"].as_array().unwrap().len(), 3);
    let only = body.replace(r#",{"type":"namespace","name":"functions"}"#, "");
    let last: Value = serde_json::from_slice(&next_round::continued(only.as_bytes(), &[], &tools()).unwrap()).unwrap();
    assert_eq!(last["input"], json!([{"a": 100.0}]));
}

#[test]
fn each_command_becomes_the_nearest_action() {
    let action = |arguments: &str, sources: &[&str]| -> Value {
        let members = RawObject::parse(arguments).unwrap();
        serde_json::from_str(&super::web_search::action(&members, sources)).unwrap()
    };
    let table = [
        (r#"{"open":[{"ref_id":"https://a.example"}]}"#, json!({"type": "open_page", "url": "https://a.example"})),
        (r#"{"click":[{"ref_id":"turn0search1","id":2}]}"#, json!({"type": "open_page", "url": null})),
        (
            r#"{"find":[{"ref_id":"https://a.example","pattern":"x"}]}"#,
            json!({"type": "find_in_page", "url": "https://a.example", "pattern": "x"}),
        ),
        (
            r#"{"search_query":[{"q":"a"},{"q":"b"}],"open":[{"ref_id":"https://a.example"}]}"#,
            json!({"type": "search", "query": "a", "queries": ["a", "b"], "sources": []}),
        ),
        (r#"{"weather":[{"location":"Oslo"}]}"#, json!({"type": "search", "query": "weather Oslo", "sources": []})),
        ("{}", json!({"type": "search", "query": "", "sources": []})),
    ];
    for (arguments, expected) in table {
        assert_eq!(action(arguments, &[]), expected, "{arguments}");
    }
}

#[test]
fn arguments_that_are_not_an_object_are_an_error() {
    for arguments in ["", "[]", "{\"search_query\":"] {
        let mut item = call_item(1);
        item["arguments"] = json!(arguments);
        let item = serde_json::value::to_raw_value(&item).unwrap();
        let call = ProxyCall::read(&tools(), &item, 0).unwrap();
        assert!(call.request(CallContext { session: "s", model: "m", image_model: "i" }).is_err(), "{arguments}");
    }
}

fn image_settings(tool: &str) -> ImageSettings {
    ImageSettings::read(&RawObject::parse(tool).unwrap())
}

#[test]
fn an_image_request_matches_that_of_the_official_client() {
    let captured = json!({"prompt": "a red fox", "background": "opaque", "model": "gpt-image-2", "quality": "auto", "size": "auto"});
    let body = |tool: &str, arguments: &str| -> Value {
        let arguments = RawObject::parse(arguments).unwrap();
        serde_json::from_slice(&image_settings(tool).body("gpt-image-2", &arguments).unwrap()).unwrap()
    };
    assert_eq!(body("{}", r#"{"prompt":"a red fox","background":"opaque"}"#), captured);
    let set = body(r#"{"background":"opaque","size":"auto"}"#, r#"{"prompt":"x","background":"auto","size":"1x2"}"#);
    assert_eq!((&set["background"], &set["size"]), (&json!("opaque"), &json!("1x2")), "the client's settings first");
    for arguments in ["{}", r#"{"prompt":" "}"#, r#"{"prompt":1}"#] {
        assert!(image_settings("{}").body("i", &RawObject::parse(arguments).unwrap()).is_err(), "{arguments}");
    }
}

#[test]
fn only_the_client_gets_the_image() {
    let mut merger = RoundMerger::new(vec![ProxyTool::ImageGeneration(image_settings("{}"))]);
    let mut item = call_item(1);
    (item["namespace"], item["name"]) = (json!("image_gen"), json!("imagegen"));
    item["arguments"] = json!(r#"{"prompt":"a fox"}"#);
    let begun = values(&merged(&mut merger, &round("resp_1", &[item], &usage(1, 0))));
    let kinds: Vec<_> = begun.iter().skip(1).map(|event| event["type"].as_str().unwrap()).collect();
    let steps = ["in_progress", "generating"].map(|step| format!("response.image_generation_call.{step}"));
    assert_eq!(kinds, ["response.output_item.added", &steps[0], &steps[1]]);
    let calls = merger.ended_with_calls().unwrap().to_vec();
    let response = r#"{"created":1,"data":[{"b64_json":"iVBO\/Rw"}],"output_format":"png","size":"64x64"}"#;
    let events = values(&merger.finish_call(&calls[0], calls[0].outcome(&Bytes::from(response))));
    assert_eq!(events[0]["type"], "response.image_generation_call.completed");
    let expected = json!({
        "id": "ig_1", "type": "image_generation_call", "status": "completed", "output_format": "png", "size": "64x64",
        "revised_prompt": null, "result": "iVBO/Rw",
    });
    assert_eq!(events[1]["item"], expected);
    merger.record_outputs("");
    let output = merger.next_input().pop().unwrap();
    assert!(output.get().contains("the user sees it") && !output.get().contains("iVBO"), "{}", output.get());
    let failed = values(&merger.finish_call(&calls[0], calls[0].outcome(&Bytes::from("{}"))));
    assert_eq!((&failed[0]["item"]["status"], &failed[0]["item"]["result"]), (&json!("failed"), &Value::Null));
}
