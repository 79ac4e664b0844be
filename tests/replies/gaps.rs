//! Missing or unreadable events: a client gets the complete response or an error, in every API.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::cases::answered_cases_of;
use crate::in_every_api::{Answer, answers};
use crate::runner::split;

fn bytes(events: &[Value]) -> Vec<Bytes> {
    // A string is the data of an event that isn't JSON.
    events.iter().map(|event| event.as_str().map_or_else(|| event.to_string(), str::to_owned).into()).collect()
}

fn created() -> Value {
    json!({"type": "response.created", "response": {"id": "resp_1", "created_at": 7}})
}

fn added(index: u64) -> Value {
    json!({"type": "response.output_item.added", "output_index": index, "item": {"type": "message", "content": []}})
}

fn part_added(index: u64, part: usize) -> Value {
    json!({"type": "response.content_part.added", "output_index": index, "content_index": part,
        "part": {"type": "output_text", "text": ""}})
}

fn delta(index: u64, part: usize, text: &str) -> Value {
    json!({"type": "response.output_text.delta", "output_index": index, "content_index": part, "delta": text})
}

fn text_done(index: u64, part: usize, text: &str) -> Value {
    json!({"type": "response.output_text.done", "output_index": index, "content_index": part, "text": text})
}

fn message(texts: &[&str]) -> Value {
    let parts: Vec<Value> = texts.iter().map(|text| json!({"type": "output_text", "text": text})).collect();
    json!({"type": "message", "content": parts})
}

fn done(index: u64, texts: &[&str]) -> Value {
    json!({"type": "response.output_item.done", "output_index": index, "item": message(texts)})
}

fn ended(kind: &str, output: &[Value]) -> Value {
    let usage = json!({"input_tokens": 1, "output_tokens": 9, "total_tokens": 10});
    json!({"type": format!("response.{kind}"), "response": {"id": "resp_1", "output": output, "usage": usage}})
}

fn completed() -> Value {
    ended("completed", &[])
}

#[track_caller]
fn assert_all(events: &[Value], expected: Option<&str>) {
    for (api, answer) in answers(&bytes(events)) {
        assert_eq!(answer.map(|reported| reported.text).as_deref(), expected, "{api}: {events:#?}");
    }
}

#[test]
fn no_later_part_overtakes_one_that_is_held_back() {
    let around = |gap: &[Value]| {
        let first = [created(), added(0), part_added(0, 0), delta(0, 0, "one ")];
        let rest = [part_added(0, 1), delta(0, 1, "three "), delta(0, 1, "four"), done(0, &["one two ", "three four"])];
        [&first[..], gap, &rest, &[completed()]].concat()
    };
    assert_all(&around(&[json!("{broken"), delta(0, 0, "two ")]), Some("one two three four"));
    assert_all(&around(&[delta(0, 0, "two "), json!("{broken")]), Some("one two three four"));
    assert_all(&around(&[]), Some("one two three four"));
    assert_all(&around(&[delta(0, 0, "two ")]), Some("one two three four"));
    assert_all(&around(&[text_done(0, 0, "one two ")]), Some("one two three four"));
}

#[test]
fn no_later_message_overtakes_one_that_is_held_back() {
    let first = [created(), added(0), delta(0, 0, "one "), json!("{broken"), delta(0, 0, "two ")];
    let second = [added(1), delta(1, 0, "three"), done(1, &["three"])];
    let late = [&first[..], &second, &[done(0, &["one two "]), completed()]].concat();
    assert_all(&late, Some("one two three"));
    let listed = [&first[..], &second, &[ended("completed", &[message(&["one two "]), message(&["three"])])]].concat();
    assert_all(&listed, Some("one two three"));
    assert_all(&[&first[..], &second, &[completed()]].concat(), None);
}

#[test]
fn a_message_without_text_is_a_complete_response() {
    for item in [message(&[]), message(&[""]), json!({"type": "message"}), json!({"type": "tomorrow"})] {
        let done = json!({"type": "response.output_item.done", "output_index": 0, "item": item});
        assert_all(&[created(), done, completed()], Some(""));
        assert_all(&[created(), ended("completed", &[item])], Some(""));
    }
    assert_all(&[created(), completed()], None);
    assert_all(&[created(), ended("incomplete", &[])], None);
    assert_all(&[created(), added(0), completed()], None);
}

#[test]
fn deltas_are_complete_without_the_done_event_of_their_item() {
    for kind in ["completed", "incomplete"] {
        assert_all(&[created(), delta(0, 0, "Hello world"), ended(kind, &[])], Some("Hello world"));
        let parts = [created(), added(0), delta(0, 0, "a"), delta(0, 1, "b"), delta(1, 0, "c"), ended(kind, &[])];
        assert_all(&parts, Some("abc"));
        assert_all(&[created(), delta(0, 0, "Hel"), json!("{broken"), ended(kind, &[])], None);
    }
}

#[test]
fn items_only_in_the_terminal_event_are_a_complete_response() {
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":1}"});
    let whole = ended("completed", &[message(&["Hello"]), call]);
    for events in [
        vec![created(), whole.clone()],
        vec![created(), json!("{broken"), whole.clone()],
        vec![created(), added(0), delta(0, 0, "Hel"), whole.clone()],
        vec![created(), added(0), delta(0, 0, "Hel"), json!("{broken"), whole.clone()],
        vec![created(), done(0, &["Hello"]), whole.clone()],
    ] {
        for (api, answer) in answers(&bytes(&events)) {
            let reported = answer.unwrap_or_else(|| panic!("{api}: {events:#?}"));
            assert_eq!(reported.text, "Hello", "{api}");
            assert!(reported.calls.is_none_or(|calls| calls == [r#"{"a":1}"#]), "{api}");
        }
    }
    let unordered = [created(), done(1, &["b"]), ended("completed", &[message(&["a"]), message(&["b"])])];
    for (api, answer) in answers(&bytes(&unordered)) {
        assert!(answer.is_none_or(|reported| reported.text == "ab"), "{api}");
    }
}

#[test]
fn an_unreadable_event_is_harmless_if_the_complete_text_arrives() {
    let escaped = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[{"type":"output_text","text":"na\u00efve \ud83d\ude00"}]}}"#;
    for gap in [json!("{broken"), json!(r#"{"type":"response.output_text.delta","out"#), json!(r#"{"type":"keepali"#)] {
        let events = [
            created(),
            added(0),
            delta(0, 0, "na\u{ef}ve "),
            gap,
            delta(0, 0, "\u{1F600}"),
            json!(escaped),
            completed(),
        ];
        assert_all(&events, Some("na\u{ef}ve \u{1F600}"));
    }
    let harmless = json!(r#"{"type":"codex.rate_limits","plan"#);
    assert_all(&[created(), delta(0, 0, "a"), harmless.clone(), delta(0, 0, "b"), completed()], Some("ab"));
    assert_all(&[created(), done(0, &["a"]), harmless, completed()], Some("a"));
}

#[test]
fn deltas_that_contradict_the_complete_text_are_an_error() {
    let events =
        [created(), added(0), delta(0, 0, "one "), delta(0, 0, "three"), done(0, &["one two three"]), completed()];
    for (api, answer) in answers(&bytes(&events)) {
        // The Responses API forwards events with complete texts.
        let expected = (api == "responses").then(|| "one two three".to_owned());
        assert_eq!(answer.map(|reported| reported.text), expected, "{api}");
    }
}

/// Whether the responses are errors or complete as far as the API can represent them.
fn assert_full_or_error(expected: &[Answer], got: Vec<Answer>, what: impl Fn() -> String) {
    for ((api, expected), (_, got)) in expected.iter().zip(got) {
        assert!(got.is_none() || got == *expected, "{api}: {got:?} is not {expected:?}: {}", what());
    }
}

fn kind(event: &Value) -> &str {
    event["type"].as_str().unwrap_or_default()
}

/// The strings in a value.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().flat_map(strings).collect(),
        Value::Object(members) => members.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

/// The events of the same item.
fn siblings(events: &[Value], at: usize) -> impl Iterator<Item = &Value> {
    let index = &events[at]["output_index"];
    events
        .iter()
        .enumerate()
        .filter(move |(other, event)| *other != at && event["output_index"] == *index)
        .map(|(_, event)| event)
}

/// Whether an item ends with more text than the event that ended its text. Without the item, the text looks
/// complete.
fn ends_with_more(events: &[Value], at: usize) -> bool {
    let whole = strings(&events[at]["item"]);
    let ends = siblings(events, at).filter(|event| kind(event).rsplit('.').next() == Some("done"));
    let texts = ends.filter_map(|event| event.get("text").or(event.get("refusal"))?.as_str());
    kind(&events[at]) == "response.output_item.done"
        && texts.into_iter().any(|text| !whole.contains(&text) && whole.iter().any(|whole| whole.starts_with(text)))
}

/// Whether a missing event can't be detected: it is the only one of its item, or no later event repeats its
/// text.
fn is_missed_by_nothing(events: &[Value], at: usize) -> bool {
    let is_item_done = |event: &Value| kind(event) == "response.output_item.done";
    match &events[at] {
        event if is_item_done(event) => siblings(events, at).next().is_none(),
        event if kind(event).rsplit('.').next() == Some("delta") => !siblings(events, at).any(is_item_done),
        _ => false,
    }
}

#[test]
fn a_response_without_any_one_event_is_complete_or_an_error() {
    let mut tried = 0;
    for (api, fewest) in
        [("chat", 21), ("messages", 25), ("completions", 5), ("ollama", 20), ("gemini", 18), ("responses", 9)]
    {
        for case in answered_cases_of(api, fewest) {
            let events = split([case.upstream_sse.as_slice()]);
            let values: Vec<Value> =
                events.iter().map(|data| serde_json::from_slice(data).unwrap_or_default()).collect();
            let whole = answers(&events);
            if whole.iter().any(|(_, answer)| answer.is_none()) {
                continue;
            }
            for at in 0..events.len() {
                if ends_with_more(&values, at) {
                    continue;
                }
                let what = |how: &str| format!("{api}/{}, event {at} {how}: {}", case.name, values[at]);
                let mut without = events.clone();
                let event = without.remove(at);
                if !is_missed_by_nothing(&values, at) {
                    assert_full_or_error(&whole, answers(&without), || what("missing"));
                }
                for unreadable in [Bytes::from_static(b"{broken"), event.slice(..event.len() / 2)] {
                    if std::str::from_utf8(&unreadable).is_err() {
                        continue;
                    }
                    let mut spoilt = events.clone();
                    spoilt[at] = unreadable;
                    assert_full_or_error(&whole, answers(&spoilt), || what("unreadable"));
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 1000, "only {tried} responses were tried");
}

/// The damage to an event in transit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    Vanishes,
    Unreadable,
}

/// Messages in parts, each in deltas.
fn any_texts() -> impl Strategy<Value = Vec<Vec<Vec<&'static str>>>> {
    let piece = prop::sample::select(vec!["a", "b", "aa", "\u{ef}", "\u{1F600}", "\"\\", " "]);
    let part = prop::collection::vec(piece, 1..4);
    prop::collection::vec(prop::collection::vec(part, 1..4), 1..3)
}

/// The events of such a response: the deltas, and some of the events that start or end a part.
fn streamed(texts: &[Vec<Vec<&str>>], marks: &[bool]) -> Vec<Value> {
    let mut marks = marks.iter().copied().cycle();
    let mut events = vec![created()];
    for (index, parts) in (0_u64..).zip(texts) {
        let wholes: Vec<String> = parts.iter().map(|pieces| pieces.concat()).collect();
        events.push(added(index));
        for (part, pieces) in parts.iter().enumerate() {
            events.extend(marks.next().unwrap_or_default().then(|| part_added(index, part)));
            events.extend(pieces.iter().map(|piece| delta(index, part, piece)));
            events.extend(marks.next().unwrap_or_default().then(|| text_done(index, part, &wholes[part])));
        }
        events.push(done(index, &wholes.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    events.push(completed());
    events
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_response_is_the_complete_text_or_an_error(
        texts in any_texts(),
        marks in prop::collection::vec(any::<bool>(), 8),
        fates in prop::collection::vec(
            prop_oneof![6 => Just(Fate::Arrives), 1 => Just(Fate::Vanishes), 1 => Just(Fate::Unreadable)],
            40,
        ),
    ) {
        let events = streamed(&texts, &marks);
        let whole = answers(&bytes(&events));
        let text: String = texts.iter().flatten().flatten().copied().collect();
        prop_assert!(whole.iter().all(|(_, answer)| answer.as_ref().is_some_and(|reported| reported.text == text)));
        let arrived: Vec<Value> = events
            .into_iter()
            .zip(fates.iter().chain(std::iter::repeat(&Fate::Arrives)))
            .filter_map(|(event, fate)| match fate {
                // The event that ends an item is the only one that repeats its pieces.
                _ if event["type"] == "response.output_item.done" => Some(event),
                Fate::Arrives => Some(event),
                Fate::Vanishes => None,
                Fate::Unreadable => Some(json!("{broken")),
            })
            .collect();
        let got = answers(&bytes(&arrived));
        for ((api, expected), (_, got)) in whole.iter().zip(got) {
            prop_assert!(got.is_none() || got == *expected, "{}: {:?} of {:#?}", api, got, arrived);
        }
    }
}
