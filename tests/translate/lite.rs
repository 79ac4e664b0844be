//! The lite form of a request: golden cases, and the rule that the conversion loses nothing.

use std::fs;

use codex_proxy::protocol::chat::Chat;
use codex_proxy::protocol::codex::request::Omissions;
use codex_proxy::protocol::codex::{Request, WireFormat};
use codex_proxy::protocol::messages::Messages;
use codex_proxy::protocol::responses::{Options, Responses};
use codex_proxy::protocol::{CommonOptions, Dialect, Plan};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Scene, cases, headers, read};

/// The upstream request, and its warnings.
struct Sent {
    body: Vec<u8>,
    warnings: Vec<String>,
}

fn sent<D: Dialect>(request: &[u8], headers: http::HeaderMap, options: &D::Options) -> Sent {
    let scene = Scene { headers, ..Scene::default() };
    let mut context = scene.context();
    let Plan { mut upstream, .. } = D::translate(D::decode(request).unwrap(), &mut context, options).unwrap();
    let mut warnings = context.warnings.tokens().to_vec();
    warnings.extend(into_lite(&mut upstream));
    Sent { body: upstream.encode(&Omissions::new()).to_vec(), warnings }
}

/// Converts a request to the lite form, unless the client sent it.
fn into_lite(request: &mut Request<'_>) -> Vec<String> {
    if request.format == WireFormat::Classic {
        request.format = WireFormat::Lite;
    }
    request.lite_effects().map(|effects| effects.warnings).unwrap_or_default()
}

fn responses(request: &[u8]) -> Vec<u8> {
    sent::<Responses>(request, http::HeaderMap::new(), &Options::default()).body
}

/// Placeholders for the derived parts of a body.
fn without_hashes(mut body: Value) -> Value {
    if body["prompt_cache_key"].as_str().is_some_and(|key| key.len() == 36) {
        body["prompt_cache_key"] = json!("<PROMPT_CACHE_KEY>");
    }
    if let Some(id) = body["input"][0]["id"].as_str().filter(|id| id.len() == "at_".len() + 36) {
        assert!(id.starts_with("at_"), "{id}");
        body["input"][0]["id"] = json!("at_<UUID>");
    }
    body
}

#[test]
fn every_case_is_translated_as_expected() {
    let cases = cases("lite");
    assert!(cases.len() >= 8, "the cases are missing");
    for case in cases {
        let (request, meta) = (fs::read(case.join("request.json")).unwrap(), read(&case.join("meta.json")));
        let headers = headers(&meta["headers"]);
        let sent = match meta["dialect"].as_str().unwrap() {
            "chat" => sent::<Chat>(&request, headers, &super::Options::default()),
            "messages" => {
                let super::Options { default_instructions, token_limit, .. } = super::Options::default();
                sent::<Messages>(&request, headers, &CommonOptions { default_instructions, token_limit })
            }
            _ => sent::<Responses>(&request, headers, &Options::default()),
        };
        let got = without_hashes(serde_json::from_slice(&sent.body).unwrap());
        assert_eq!(got, read(&case.join("upstream.json")), "{}", case.display());
        assert_eq!(json!(sent.warnings), meta["warnings"], "{}", case.display());
    }
}

#[test]
fn the_start_of_a_conversation_stays_the_same() {
    let tools = json!([{"type": "function", "name": "f", "parameters": {"type": "object"}}]);
    let body = |input: &[&str]| {
        let items: Vec<_> = input.iter().map(|text| json!({"role": "user", "content": text})).collect();
        responses(json!({"model": "m", "input": items, "tools": tools}).to_string().as_bytes())
    };
    let (first, second) = (body(&["one"]), body(&["one", "two"]));
    let same = first.iter().zip(&second).take_while(|(one, other)| one == other).count();
    assert!(String::from_utf8_lossy(&first[..same]).contains("one"), "the cache holds a prefix");
}

/// The parts of a lite body, unparsed.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    input: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct AdditionalTools<'a> {
    #[serde(borrow)]
    tools: Vec<&'a RawValue>,
}

/// Items and tools before the conversion to the lite form.
fn decoded(body: &[u8]) -> (Vec<String>, Vec<String>) {
    let Body { input } = serde_json::from_slice(body).unwrap();
    let is_tools = input[0].get().starts_with(r#"{"type":"additional_tools""#);
    let lists: Vec<AdditionalTools<'_>> =
        input.iter().take(usize::from(is_tools)).map(|item| serde_json::from_str(item.get()).unwrap()).collect();
    let mut tools = Vec::new();
    for tool in lists.into_iter().flat_map(|list| list.tools) {
        if tool.get().starts_with(r#"{"type":"namespace","name":"functions","#) {
            let inner: AdditionalTools<'_> = serde_json::from_str(tool.get()).unwrap();
            tools.extend(inner.tools.iter().map(|tool| tool.get().to_owned()));
        } else {
            tools.push(tool.get().to_owned());
        }
    }
    let items = input.iter().skip(usize::from(is_tools) + 1).map(|item| match item.get() {
        call if call.contains(r#""type":"function_call""#) => {
            format!(
                "{}}}",
                call.strip_suffix(r#","namespace":"functions"}"#).expect("a plain tool's call has no namespace")
            )
        }
        other => other.to_owned(),
    });
    (items.collect(), tools)
}

fn item(index: usize, kind: usize, space: &str, number: &str) -> String {
    let nested = format!(r#""x":{{"b":{number},{space}"a":"\u00e9 \/","c":[ {number} ]}}"#);
    match kind {
        0 => format!(
            r#"{{{space}"type":"message","role":"user",{nested},"content":[{{"type":"input_text","text":"t"}}]}}"#
        ),
        1 => {
            format!(r#"{{"call_id":"c{index}",{nested},{space}"type":"function_call","name":"f","arguments":"{{ }}"}}"#)
        }
        2 => format!(
            r#"{{"type":"custom_tool_call","namespace":"own","call_id":"c{index}","name":"f","input":"",{nested}}}"#
        ),
        3 => format!(r#"{{"type":"reasoning",{nested},"summary":[],"encrypted_content":"E"}}"#),
        4 => format!(r#"{{"type":"tomorrow_{index}","detail":"input_image",{nested}{space}}}"#),
        _ => format!(
            r#"{{"type":"message","role":"user","content":[{{"type":"input_image",{space}"image_url":"u",{nested}}}]}}"#
        ),
    }
}

fn tool(index: usize, kind: usize, space: &str, number: &str) -> String {
    match kind {
        0 => format!(r#"{{"type":"function",{space}"name":"f{index}","parameters":{{"x":{number}}}}}"#),
        1 => format!(r#"{{"name":"c{index}","type":"custom",{space}"format":{{"n":{number}}}}}"#),
        2 => format!(r#"{{"type":"namespace","name":"n{index}",{space}"tools":[ {{"n":{number}}} ]}}"#),
        _ => format!(r#"{{"type":"tomorrow","n":{number}{space}}}"#),
    }
}

/// The list with plain tools first, as in the lite form.
fn plain_first(tools: &[String]) -> Vec<String> {
    let is_plain = |tool: &&String| tool.contains(r#""type":"function""#) || tool.contains(r#""type":"custom""#);
    let plain = tools.iter().filter(is_plain);
    plain.chain(tools.iter().filter(|tool| !is_plain(tool))).cloned().collect()
}

proptest! {
    #[test]
    fn every_item_and_tool_keeps_its_bytes(
        items in prop::collection::vec((0usize..6, "[ \n]{0,2}", "-?[1-9]\\.[0-9]{1,30}[eE][+-]?[0-9]{1,3}"), 1..12),
        tools in prop::collection::vec((0usize..4, "[ \n]{0,2}", "[1-9][0-9]{0,30}"), 0..8),
    ) {
        let mut input = Vec::new();
        for (index, (kind, space, number)) in items.into_iter().enumerate() {
            input.push(item(index, kind, &space, &number));
            if matches!(kind, 1 | 2) {
                let kind = if kind == 1 { "function_call_output" } else { "custom_tool_call_output" };
                input.push(format!(r#"{{"type":"{kind}","call_id":"c{index}","output":"o"}}"#));
            }
        }
        let tools: Vec<_> = tools.into_iter().enumerate().map(|(index, (kind, space, number))| tool(index, kind, &space, &number)).collect();
        let body = format!(r#"{{"model":"m","input":[{}],"tools":[{}]}}"#, input.join(","), tools.join(","));
        let headers = headers(&json!({"originator": "codex_exec"}));
        let sent = sent::<Responses>(body.as_bytes(), headers, &Options::default());
        prop_assert_eq!(decoded(&sent.body), (input, plain_first(&tools)));
    }
}
