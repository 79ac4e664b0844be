//! Images that the proxy generates for the model: settings, time limits, memory.

use codex_proxy::error::{Fault, ProxyError};
use codex_proxy::protocol::codex::request::{Request, Tool};
use codex_proxy::upstream::BackendResponse;
use futures_util::StreamExt as _;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::{FOUND, SEARCH, call, inputs, items, message, open_request, outputs, round, searching};
use crate::fake::{Gate, Script};
use crate::{Bench, SECOND, drain};

const IMAGES: &str = "/images/generations";
const IMAGE: &str = r#"{"data":[{"b64_json":"iVBORw0KGgo="}]}"#;

/// A request that asks for web search and images.
fn drawing() -> Request<'static> {
    let mut request = searching();
    let tool = to_raw_value(&json!({"type": "image_generation"})).unwrap();
    request.tools.push(Tool::raw(std::borrow::Cow::Owned(tool)));
    request
}

fn image_call(index: usize) -> String {
    let item = json!({
        "type": "function_call", "id": format!("fc_{index}"), "call_id": format!("call_{index}"),
        "namespace": "image_gen", "name": "imagegen", "arguments": r#"{"prompt":"a fox"}"#,
    });
    json!({"type": "response.output_item.done", "output_index": index, "item": item}).to_string()
}

async fn open(bench: &Bench) -> BackendResponse {
    open_request(bench, drawing()).await.unwrap()
}

async fn events(bench: &Bench) -> (Vec<Value>, Option<ProxyError>) {
    let (texts, error) = drain(open(bench).await).await;
    (texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect(), error)
}

/// The events up to the next item that is done, with that one last.
async fn next_done(response: &mut BackendResponse) -> Value {
    loop {
        let event: Value = serde_json::from_slice(&response.events.next().await.unwrap().unwrap()).unwrap();
        if event["type"] == "response.output_item.done" {
            return event;
        }
    }
}

#[tokio::test]
async fn an_image_that_may_have_been_billed_is_not_requested_again() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", round(1, &[image_call(0)]));
    bench.fake.on("/responses", Script::events(&[crate::OVERLOADED]));
    bench.fake.on("/responses", round(2, &[message()]));
    bench.fake.on(IMAGES, Script::json(401, ""));
    bench.fake.on(IMAGES, Script::json(500, "{}"));
    let (_, error) = events(&bench).await;
    assert!(error.is_none(), "{error:?}");
    let tokens: Vec<_> =
        bench.fake.requests(IMAGES).iter().map(|sent| sent.header("authorization").to_owned()).collect();
    assert_eq!(tokens, ["Bearer at_0", "Bearer at_1"]);
    assert_eq!(bench.calls(), 3, "the limit applies to the image only");
    assert_eq!(outputs(&inputs(&bench)[2]), ["The call failed: the backend answered with status 500."]);
}

#[tokio::test]
async fn the_settings_of_the_images_api_apply() {
    let bench = Bench::with(|settings| {
        settings.image_model = "image-9".to_owned();
        settings.image_timeout = SECOND / 10;
    })
    .await;
    bench.fake.on("/responses", round(1, &[image_call(0)]));
    bench.fake.on("/responses", round(2, &[message()]));
    bench.fake.on(IMAGES, Script::silence());
    let (events, error) = events(&bench).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(items(&events)[0], (0, "image_generation_call", "failed"));
    assert_eq!(bench.fake.requests(IMAGES)[0].json()["model"], "image-9");
}

#[tokio::test]
async fn the_time_limit_of_an_image_begins_with_its_call() {
    let bench = Bench::new().await;
    let (first, last) = ([0; 4].map(|_| Gate::default()), [Gate::default()]);
    bench.fake.on("/responses", round(1, &[0, 1, 2, 3, 4].map(image_call)));
    bench.fake.on("/responses", round(2, &[message()]));
    for gate in first.iter().chain(&last) {
        bench.fake.on(IMAGES, Script::default().gate(gate).chained(Script::json(200, IMAGE)));
    }
    let mut response = open(&bench).await;
    // Four images run at a time. Together, both waits are longer than the limit.
    let waited = async |count: usize, gates: &[Gate]| {
        bench.fake.received(IMAGES, count).await;
        tokio::time::pause();
        tokio::time::advance(200 * SECOND).await;
        tokio::time::resume();
        gates.iter().for_each(Gate::open);
    };
    let mut done = vec![tokio::join!(next_done(&mut response), waited(4, &first)).0];
    for _ in 0..3 {
        done.push(next_done(&mut response).await);
    }
    done.push(tokio::join!(next_done(&mut response), waited(5, &last)).0);
    assert!(done.iter().all(|event| event["item"]["status"] == "completed"), "{done:?}");
}

#[tokio::test]
async fn images_under_way_are_completed_if_another_call_ends_the_response() {
    let bench = Bench::new().await;
    let gate = Gate::default();
    bench.fake.on("/responses", round(1, &[call(0, "call_s", "rust"), image_call(1)]));
    let spent = r#"{"error":{"type":"usage_limit_reached","message":"The usage limit has been reached","resets_in_seconds":60}}"#;
    bench.fake.on(SEARCH, Script::json(429, spent));
    bench.fake.on(IMAGES, Script::default().gate(&gate).chained(Script::json(200, IMAGE)));
    let response = open(&bench).await;
    let generated = async {
        bench.fake.received(IMAGES, 1).await;
        bench.fake.received(SEARCH, 1).await;
        gate.open();
    };
    let ((texts, error), ()) = tokio::join!(drain(response), generated);
    let events: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    assert_eq!(items(&events), [(1, "image_generation_call", "completed")]);
    let Some(ProxyError::Upstream(failure)) = error else { panic!("{error:?}") };
    assert_eq!(failure.fault, Fault::UsageLimit);
}

#[tokio::test]
async fn images_count_against_the_memory_until_the_client_has_them() {
    let bench = Bench::new().await;
    let gate = Gate::default();
    bench.fake.on("/responses", round(1, &[call(0, "call_s", "rust"), image_call(1)]));
    bench.fake.on("/responses", round(2, &[message()]));
    bench.fake.on(SEARCH, Script::default().gate(&gate).chained(Script::json(200, FOUND)));
    let base64 = "A".repeat(100_000);
    bench.fake.on(IMAGES, Script::json(200, &json!({"data": [{"b64_json": base64}]}).to_string()));
    let mut response = open(&bench).await;
    let done = next_done(&mut response).await;
    assert_eq!(done["item"]["result"].as_str().unwrap().len(), base64.len());
    let memory = bench.upstream.memory();
    assert!((base64.len()..2 * base64.len()).contains(&memory.used_bytes()), "{}", memory.used_bytes());
    gate.open();
    assert_eq!(next_done(&mut response).await["item"]["type"], "web_search_call");
    assert!(memory.used_bytes() < base64.len(), "{}", memory.used_bytes());
    drop(response);
    assert_eq!(memory.used_bytes(), 0);
}

#[tokio::test]
async fn an_image_without_memory_fails() {
    let bench = Bench::with(|settings| settings.idle_timeout = SECOND).await;
    let mut held = bench.upstream.memory().reserve();
    bench.fake.on("/responses", round(1, &[image_call(0)]));
    bench.fake.on("/responses", round(2, &[message()]));
    bench.fake.on(IMAGES, Script::json(200, IMAGE));
    held.set_buffered(1 << 20).await.unwrap();
    let (events, error) = events(&bench).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(items(&events)[0], (0, "image_generation_call", "failed"));
}
