//! Unknown members pass through a Responses reply unchanged, and missing members are restored.

use bytes::Bytes;
use codex_proxy::error::ProxyError;
use codex_proxy::protocol::responses::{Options, Store};
use codex_proxy::protocol::{Fold, Reply as _};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::responses::{assert_laws, events, fold, reply_to, reply_with};
use crate::runner::{document_of, drive, stream_of};

const CREATED: &str = r#"{"type":"response.created","response":{"id":"resp_1","created_at":7,"status":"in_progress"}}"#;
const COMPLETED: &str =
    r#"{"type":"response.completed","response":{"id":"resp_1","created_at":7,"status":"completed","output":[]}}"#;

fn request() -> Value {
    json!({"model": "m", "input": "x", "stream": true})
}

fn texts(upstream: &[&str]) -> Vec<Bytes> {
    upstream.iter().map(|data| Bytes::copy_from_slice(data.as_bytes())).collect()
}

fn events_sent(upstream: &[&str]) -> Vec<Value> {
    events(&stream_of(reply_to(&request(), &HeaderMap::new()), &texts(upstream)))
}

fn codex() -> HeaderMap {
    HeaderMap::from_iter([(http::header::USER_AGENT, HeaderValue::from_static("codex_exec/0.171.0"))])
}

#[test]
fn an_unknown_event_keeps_its_bytes() {
    let odd = r#"{"type":"response.tomorrow","n":1.50e3, "deep":{"b":[1 ,2],"a":"\u00e9\ud83d"}}"#;
    let stream = stream_of(reply_to(&request(), &HeaderMap::new()), &texts(&[CREATED, odd, COMPLETED]));
    let kept = odd.strip_suffix('}').unwrap();
    assert!(
        stream.contains(&format!("event: response.tomorrow\ndata: {kept},\"sequence_number\":1}}\n\n")),
        "{stream}"
    );
}

#[test]
fn members_that_the_public_api_always_has_are_restored() {
    let upstream = [
        CREATED,
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[]}}"#,
        r#"{"type":"response.output_text.delta","output_index":0,"delta":"a","obfuscation":"xyz"}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[{"type":"output_text","text":"a"}]}}"#,
        r#"{"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","name":"f","arguments":""}}"#,
        r#"{"type":"response.function_call_arguments.done","output_index":1,"arguments":"{}"}"#,
        r#"{"type":"response.output_item.done","item":{"type":"function_call","name":"f","arguments":"{}"}}"#,
        r#"{"type":"response.done","response":{"usage":{"input_tokens":3,"output_tokens":1,"input_tokens_details":null}}}"#,
    ];
    let got = events_sent(&upstream);
    assert_laws(&got);
    assert_eq!(got[1]["item"]["status"], "in_progress");
    assert_eq!(got[2]["logprobs"], json!([]));
    assert_eq!(
        got[3]["item"],
        json!({"type": "message", "status": "completed", "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": []}]})
    );
    assert_eq!(got[5]["name"], "f");
    let response = &got[7]["response"];
    assert_eq!(got[7]["type"], "response.completed", "the former name of the event");
    assert_eq!(response["output"], json!([got[3]["item"], got[6]["item"]]));
    assert_eq!(
        response["usage"],
        json!({"input_tokens": 3, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}})
    );
}

#[test]
fn a_response_always_starts_with_created() {
    let delta = r#"{"type":"response.output_text.delta","output_index":0,"delta":"a"}"#;
    for upstream in [&[delta, COMPLETED][..], &[COMPLETED], &[r#"{"type":"response.completed"}"#], &[delta], &[]] {
        assert_laws(&events_sent(upstream));
    }
}

#[test]
fn billed_output_that_never_arrived_is_an_error() {
    let usage = r#"{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":5}}}"#;
    let reply = reply_to(&request(), &HeaderMap::new());
    assert!(matches!(document_of(reply, &texts(&[CREATED, usage])), Err(ProxyError::Damaged { .. })));
    assert_eq!(events_sent(&[CREATED, usage]).last().unwrap()["type"], "response.failed");
}

#[test]
fn lost_output_that_is_not_repeated_is_an_error() {
    let added = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[]}}"#;
    let delta = r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"a"}"#;
    let text = r#"{"type":"response.output_text.done","output_index":0,"content_index":0,"text":"a\u00ef"}"#;
    let same = text.replace("\\u00ef", "");
    let done = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[]}}"#;
    let whole = done.replace("[]", r#"[{"type":"output_text","text":"ab"}]"#);
    let call =
        r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","arguments":"{}"}}"#;
    let incomplete = COMPLETED.replace("completed", "incomplete");
    let end = |upstream: &[&str]| events_sent(upstream).pop().unwrap()["type"].as_str().unwrap().to_owned();
    assert_eq!(end(&[CREATED, added, "{broken", COMPLETED]), "response.failed", "an item");
    assert_eq!(end(&[CREATED, added, delta, "{broken", done, COMPLETED]), "response.failed", "perhaps a piece");
    assert_eq!(end(&[CREATED, added, delta, "{broken", &incomplete]), "response.failed", "perhaps the end");
    assert_eq!(
        end(&[CREATED, added, delta, "{broken", text, done, COMPLETED]),
        "response.completed",
        "the text was sent"
    );
    assert_eq!(end(&[CREATED, added, delta, "{broken", &whole, COMPLETED]), "response.completed", "the item was sent");
    assert_eq!(end(&[CREATED, added, "{broken", call, COMPLETED]), "response.completed", "the call was sent");
    assert_eq!(end(&[CREATED, added, "{", delta, &same, done, COMPLETED]), "response.completed", "nothing of it");
}

#[test]
fn an_item_without_a_done_event_is_built_from_its_deltas() {
    let upstream = [
        CREATED,
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"e"}}"#,
        r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"hm"}"#,
        r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":1,"content_index":0,"delta":"Hello "}"#,
        r#"{"type":"response.output_text.annotation.added","output_index":1,"content_index":0,"annotation":{"type":"url_citation","start_index":0,"end_index":1,"url":"u","title":"t"}}"#,
        r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":1,"content_index":0,"delta":"w\u00f6rld"}"#,
        r#"{"type":"response.output_item.added","output_index":2,"item":{"type":"function_call","id":"fc_1","call_id":"c","name":"f","arguments":"","status":"in_progress"}}"#,
        r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":"{}"}"#,
    ];
    for (kind, status) in [("response.incomplete", "incomplete"), ("response.completed", "completed")] {
        let end = format!(r#"{{"type":"{kind}","response":{{"id":"resp_1","status":"{status}","output":[]}}}}"#);
        let upstream = [&upstream[..], &[&end]].concat();
        let got = events_sent(&upstream);
        assert_laws(&got);
        let output = &got.last().unwrap()["response"]["output"];
        let citation = json!({"type": "url_citation", "start_index": 0, "end_index": 1, "url": "u", "title": "t"});
        let expected = json!([
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "e", "status": status},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": [
                {"type": "output_text", "text": "Hello w\u{f6}rld", "annotations": [citation], "logprobs": []},
            ]},
            {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}", "status": status},
        ]);
        assert_eq!(*output, expected);
        assert_eq!(fold(&got)["output"], expected, "the stream ends the items too");
        let document = document_of(reply_to(&request(), &HeaderMap::new()), &texts(&upstream)).unwrap();
        assert_eq!(document["output"], expected);
    }
}

#[test]
fn a_codex_client_gets_every_event_unchanged() {
    let upstream = [
        r#"{"type":"codex.rate_limits","plan_type":"plus"}"#,
        CREATED,
        r#"{"type":"response.metadata","headers":{"x":1},"sequence_number":9}"#,
        r#"{"type":"response.output_text.delta","delta":"a","obfuscation":"x","sequence_number":10}"#,
        COMPLETED,
    ];
    let stream = stream_of(reply_to(&request(), &codex()), &texts(&upstream));
    let data: Vec<&str> = stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data, upstream);
    let cut = stream_of(reply_to(&request(), &codex()), &texts(&upstream[..3]));
    assert!(cut.contains("event: response.failed\n"), "{cut}");
}

#[test]
fn a_codex_client_is_kept_alive_by_an_event() {
    assert!(reply_to(&request(), &HeaderMap::new()).keepalive().starts_with(b":"));
    let alive = b"event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n";
    assert_eq!(reply_to(&request(), &codex()).keepalive(), alive.as_slice());
}

#[test]
fn a_response_is_stored_if_complete_and_wanted() {
    let item =
        r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"msg_1","content":[]}}"#;
    let remembered = |request: &Value, upstream: &[&str], store: Store| {
        let options = Options { store, ..Options::default() };
        let mut reply = reply_with(request, &HeaderMap::new(), &json!({}), &options);
        drive(&mut reply, &texts(upstream), &mut Fold);
        reply.take_stored_response()
    };
    let whole = [CREATED, item, COMPLETED];
    let memory = remembered(&request(), &whole, Store::Memory).unwrap();
    assert_eq!((memory.id.as_str(), memory.input.len(), memory.output.len()), ("resp_1", 1, 1));
    assert_eq!(serde_json::from_str::<Value>(&memory.response).unwrap()["output"][0]["id"], "msg_1");
    let mut unwanted = request();
    unwanted["store"] = json!(false);
    assert!(remembered(&unwanted, &whole, Store::Memory).is_none());
    assert!(remembered(&request(), &whole, Store::Off).is_none());
    assert!(remembered(&request(), &whole[..2], Store::Memory).is_none(), "a truncated response is not stored");
}

#[test]
fn the_done_marker_follows_only_complete_streams() {
    let options = Options { done_marker: true, ..Options::default() };
    let reply = || reply_with(&request(), &HeaderMap::new(), &json!({}), &options);
    let whole = stream_of(reply(), &texts(&[CREATED, COMPLETED]));
    assert!(whole.ends_with("}\n\ndata: [DONE]\n\n"));
    assert_eq!(whole.matches("[DONE]").count(), 1);
    assert!(!stream_of(reply(), &texts(&[CREATED])).contains("[DONE]"));
}

/// An event of any type, in a foreign JSON spelling.
fn any_event() -> impl Strategy<Value = String> {
    let kinds = vec![
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.output_item.done",
        "response.content_part.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.function_call_arguments.done",
        "response.tomorrow",
        "response.metadata",
        "codex.rate_limits",
        "keepalive",
        "error",
        "response.failed",
        "response.incomplete",
        "response.completed",
    ];
    let value = prop::sample::select(vec![
        "null",
        "1.50",
        r#""a\u00e9""#,
        "[]",
        "{}",
        r#"{"type":"message","content":[{"type":"output_text"},{"type":"new","x":1e2}]}"#,
        r#"{ "type" : "web_search_call" }"#,
        r#"{"id":"resp_1","usage":{"output_tokens":0},"output":[{"type":"message"}]}"#,
    ]);
    let names = vec!["item", "part", "response", "sequence_number", "obfuscation", "output_index", "new"];
    let members = prop::collection::vec((prop::sample::select(names), value), 0..4);
    (prop::sample::select(kinds), members, " {0,1}", 0_usize..400).prop_map(|(kind, members, space, cut)| {
        let members: Vec<_> =
            members.iter().map(|(name, value)| format!(",{space}\"{name}\":{space}{value}")).collect();
        let event = format!("{{\"type\":{space}\"{kind}\"{}{space}}}", members.concat());
        if cut < 20 { event.chars().take(cut).collect() } else { event }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_order_of_events_breaks_the_laws(upstream in prop::collection::vec(any_event(), 0..12)) {
        let upstream: Vec<&str> = upstream.iter().map(String::as_str).collect();
        let got = events_sent(&upstream);
        if got.len() > 1 || got[0]["type"] != "error" {
            let seen = got.iter().filter(|event| event["type"] == "response.created").count();
            prop_assert!(seen >= 1 && got[0]["type"] == "response.created");
        }
        let last = got.last().unwrap()["type"].as_str().unwrap();
        let document = document_of(reply_to(&request(), &HeaderMap::new()), &texts(&upstream));
        prop_assert_eq!(document.is_ok(), matches!(last, "response.completed" | "response.incomplete"));
        if let Ok(document) = document {
            prop_assert_eq!(&document, &got.last().unwrap()["response"]);
        }
    }
}
