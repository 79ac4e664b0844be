//! Responses of several rounds in every API: each is complete or an error, and the same as a stream and as a document.

use std::borrow::Cow;

use bytes::Bytes;
use codex_proxy::protocol::codex::proxy_tools::{Merged, RoundMerger, ToolOutcome};
use codex_proxy::protocol::codex::request::{
    ExtraMembers, Item, Part, Reasoning, Request, Role, Tool, ToolChoice, WireFormat,
};
use proptest::prelude::*;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::in_every_api::answers;

/// An item of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Search,
    Message,
    Reasoning,
}

/// A merger for a response that may search, before its first round.
fn merger() -> RoundMerger {
    let tool = Tool::raw(Cow::Owned(to_raw_value(&json!({"type": "web_search"})).unwrap()));
    let request = Request {
        format: WireFormat::Lite,
        model: "m".into(),
        instructions: "x".into(),
        input: vec![Item::Message { role: Role::User, content: vec![Part::InputText("hi".into())] }],
        tools: vec![tool],
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: true,
        reasoning: Reasoning { effort: None, summary: None },
        text: None,
        service_tier: None,
        prompt_cache_key: "k".into(),
        extra: ExtraMembers::default(),
    };
    RoundMerger::new(request.lite_effects().unwrap().proxy_tools)
}

fn item(kind: Kind, id: &str) -> Value {
    match kind {
        Kind::Search => json!({
            "type": "function_call", "id": format!("fc_{id}"), "call_id": format!("call_{id}"), "namespace": "web",
            "name": "run", "arguments": r#"{"search_query":[{"q":"rust"}]}"#,
        }),
        Kind::Message => {
            let content =
                json!([{"type": "output_text", "text": format!("Text {id} (https://a.example)."), "annotations": []}]);
            json!({"type": "message", "id": format!("msg_{id}"), "role": "assistant", "content": content})
        }
        Kind::Reasoning => {
            json!({"type": "reasoning", "id": format!("rs_{id}"), "summary": [], "encrypted_content": "x"})
        }
    }
}

/// The backend's events of a round, numbered from 0.
fn round(number: usize, kinds: &[Kind]) -> Vec<String> {
    let mut events =
        vec![json!({"type": "response.created", "response": {"id": format!("resp_{number}"), "created_at": 7}})];
    for (index, kind) in kinds.iter().enumerate() {
        let id = format!("{number}_{index}");
        let item = item(*kind, &id);
        let event =
            |kind: &str| json!({"type": kind, "output_index": index, "item_id": item["id"], "content_index": 0});
        let mut begun = item.clone();
        if *kind == Kind::Message {
            begun["content"] = json!([]);
        }
        events.push(json!({"type": "response.output_item.added", "output_index": index, "item": begun}));
        if *kind == Kind::Message {
            let mut delta = event("response.output_text.delta");
            delta["delta"] = item["content"][0]["text"].clone();
            events.push(delta);
        }
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }
    let usage = json!({"input_tokens": 10, "output_tokens": 5, "total_tokens": 15});
    events.push(json!({"type": "response.completed", "response": {"id": format!("resp_{number}"), "usage": usage}}));
    let numbered = events.into_iter().enumerate().map(|(number, mut event)| {
        event["sequence_number"] = json!(number);
        event.to_string()
    });
    numbered.collect()
}

/// The events for the client.
fn merged(rounds: &[Vec<Kind>]) -> Vec<String> {
    let mut merger = merger();
    let mut events = Vec::new();
    for (number, kinds) in rounds.iter().enumerate() {
        if number > 0 {
            merger.begin_round();
        }
        for event in round(number, kinds) {
            match merger.accept(&event) {
                Merged::Unchanged => events.push(event),
                Merged::Events(changed) => events.extend(changed),
            }
        }
        let calls = merger.ended_with_calls().map(<[_]>::to_vec).unwrap_or_default();
        for call in &calls {
            events.extend(merger.finish_call(call, ToolOutcome::Found("https://a.example".to_owned())));
        }
        merger.record_outputs("");
    }
    events
}

fn bytes(events: &[String]) -> Vec<Bytes> {
    events.iter().map(|event| Bytes::from(event.clone())).collect()
}

/// Rounds that end with a search, and a last one that doesn't.
fn any_rounds() -> impl Strategy<Value = Vec<Vec<Kind>>> {
    let kind = prop_oneof![Just(Kind::Search), Just(Kind::Message), Just(Kind::Reasoning)];
    let searching = prop::collection::vec(kind, 0..3).prop_map(|mut kinds| {
        kinds.push(Kind::Search);
        kinds
    });
    prop::collection::vec(searching, 0..4).prop_map(|mut rounds| {
        rounds.push(vec![Kind::Reasoning, Kind::Message]);
        rounds
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rounds_are_one_complete_response_in_every_api(rounds in any_rounds()) {
        let events = merged(&rounds);
        let values: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let numbers: Vec<_> = values.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
        prop_assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
        let done = values.iter().filter(|event| event["type"] == "response.output_item.done");
        let mut indexes: Vec<_> = done.map(|event| event["output_index"].as_u64().unwrap()).collect();
        indexes.sort_unstable();
        let items: usize = rounds.iter().map(Vec::len).sum();
        prop_assert_eq!(indexes, (0..items as u64).collect::<Vec<_>>());
        let last = values.last().unwrap();
        prop_assert_eq!(&last["response"]["usage"]["total_tokens"], &json!(15 * rounds.len()));
        prop_assert_eq!(&last["response"]["id"], "resp_0");
        let texts: String = rounds.iter().enumerate().flat_map(|(number, kinds)| {
            let messages = kinds.iter().enumerate().filter(|(_, kind)| **kind == Kind::Message);
            messages.map(move |(index, _)| format!("Text {number}_{index} (https://a.example)."))
        }).collect();
        for (api, answer) in answers(&bytes(&events)) {
            let answer = answer.unwrap();
            prop_assert_eq!(&answer.text, &texts, "{}", api);
            prop_assert!(answer.calls.unwrap_or_default().is_empty(), "{}", api);
        }
    }

    #[test]
    fn a_response_that_is_cut_between_rounds_is_an_error(rounds in any_rounds(), at in any::<prop::sample::Index>()) {
        let events = merged(&rounds);
        let cut = &events[..at.index(events.len())];
        for (api, answer) in answers(&bytes(cut)) {
            prop_assert!(answer.is_none(), "{}", api);
        }
    }
}
