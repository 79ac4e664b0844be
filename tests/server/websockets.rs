//! The Responses API over a WebSocket: the same events as over HTTP, one response at a time.

mod control;
mod errors;
mod lifecycle;

use http::HeaderMap;
use serde_json::{Value, json};

use crate::cases::{Case, answered_cases_of};
use crate::fake::{Gate, Script};
use crate::websocket::Socket;
use crate::wire::Ask;
use crate::{ADDED, BEGUN, Bench, COMPLETED, CREATED, DELTA, SECOND, begun, with};

const CODEX: [(&str, &str); 2] = [("originator", "codex_exec"), ("x-codex-window-id", "w-1")];

const DONE: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Grüße 👋"}]}}"#;

/// A complete response, with its item.
pub(crate) const RESPONSE: [&str; 5] = [CREATED, ADDED, DELTA, DONE, COMPLETED];

async fn answering() -> Bench {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", Script::events(&RESPONSE));
    bench
}

fn hello() -> Value {
    json!({"model": "gpt-5.5", "input": "hi", "store": false})
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// A response with that id and one message.
fn answer(id: &str, text: &str) -> Script {
    let message = json!({"type": "message", "id": format!("msg_{id}"), "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": text}]});
    let created = CREATED.replace("resp_1", id);
    let done = json!({"type": "response.output_item.done", "output_index": 0, "item": message}).to_string();
    let completed = COMPLETED.replace("resp_1", id);
    Script::events(&[&created, ADDED, DELTA, &done, &completed])
}

#[tokio::test]
async fn every_case_gives_the_same_events_as_over_http() {
    for case in answered_cases_of("responses", 8) {
        let bench = Bench::new().await;
        bench.upstream.on("/responses", Script::stream(&[]).chunk(&case.upstream_sse).end());
        let headers = if case.name.starts_with("08") { &CODEX[..] } else { &[] };
        let ask = Ask::post("/v1/responses", &with(case.request.clone(), "stream", json!(true)));
        let ask = headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
        let http = ask.send(&bench.proxy).await;
        let mut socket = Socket::open_as(&bench.proxy, headers).await;
        socket.create(&case.request).await;
        let events = socket.answer().await;
        if http.status == 200 {
            assert_eq!(events, payloads(http.text()), "{}", case.name);
        } else {
            assert_eq!(
                (&events[0]["status"], &events[0]["error"]),
                (&json!(http.status), &http.json()["error"]),
                "{}",
                case.name
            );
        }
        same_asked(&bench, &case);
    }
}

/// Both transports have sent the same upstream request.
fn same_asked(bench: &Bench, case: &Case) {
    let asked = bench.upstream.requests("/responses");
    let (http, socket) = asked.split_at(asked.len() / 2);
    let bodies = |asked: &[crate::fake::Recorded]| asked.iter().map(|asked| asked.body.clone()).collect::<Vec<_>>();
    assert_eq!(bodies(http), bodies(socket), "{}", case.name);
}

fn payloads(sse: &str) -> Vec<Value> {
    let data = sse.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn requests_follow_each_other_on_one_socket_on_every_path() {
    let bench = answering().await;
    for path in ["/v1/responses", "/responses", "/openai/v1/responses", "/backend-api/codex/responses"] {
        let mut socket = Socket::ask(&bench.proxy, path, &[]).await.unwrap();
        assert!(socket.upgrade.headers()["x-request-id"].to_str().unwrap().starts_with("req_"));
        assert!(!socket.upgrade.headers().contains_key("sec-websocket-extensions"));
        for _ in 0..2 {
            socket.create(&hello()).await;
            let events = socket.answer().await;
            assert_eq!(events.len(), RESPONSE.len());
            let last = events.last().unwrap();
            assert_eq!((&last["type"], &last["response"]["store"]), (&json!("response.completed"), &json!(false)));
        }
    }
    let mut socket = Socket::ask(&bench.proxy, "/openai/deployments/gpt-5.5/responses", &[]).await.unwrap();
    socket.create(&json!({"input": "hi"})).await;
    assert_eq!(socket.answer().await.last().unwrap()["response"]["model"], "gpt-5.5");
}

#[tokio::test]
async fn access_rules_are_the_same_as_for_http() {
    let bench = Bench::with(|launch| launch.setting("api_keys", "sk-local-1")).await;
    let key = ("authorization", "Bearer sk-local-1");
    let refused = [
        (&[][..], 401, "invalid_api_key"),
        (&[("host", "rebound.invalid")], 403, "foreign_host"),
        (&[key, ("origin", "https://evil.invalid")], 403, "foreign_origin"),
        (&[key, ("x-proxy-account", "acct-nobody")], 400, "unknown_account"),
    ];
    for (headers, status, code) in refused {
        let Err(answer) = Socket::ask(&bench.proxy, "/v1/responses", headers).await else { panic!("{code}: let in") };
        let error: Value = serde_json::from_slice(answer.body().as_ref().unwrap()).unwrap();
        assert_eq!((answer.status().as_u16(), error["error"]["code"].as_str()), (status, Some(code)), "{error}");
    }
    assert!(Socket::ask(&bench.proxy, "/v1/responses", &[key]).await.is_ok(), "valid requests are accepted");
}

#[tokio::test]
async fn a_request_without_upgrade_is_rejected_at_once() {
    let bench = Bench::new().await;
    let plain = Ask::get("/v1/responses");
    let asks = [
        plain.clone(),
        plain.clone().header("upgrade", "websocket"),
        plain.clone().header("upgrade", "h2c"),
        plain.header("upgrade", "websocket").header("sec-websocket-version", "13"),
    ];
    for ask in asks {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (426, Some("method_not_supported")));
        assert_eq!((answer.header("upgrade"), answer.header("sec-websocket-version")), ("websocket", "13"));
    }
}

#[tokio::test]
async fn a_second_request_waits_for_the_first() {
    let bench = Bench::new().await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(DONE).event(COMPLETED).end());
    bench.upstream.on("/responses", answer("resp_2", "second"));
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&hello()).await;
    socket.until("response.output_text.delta").await;
    socket.create(&hello()).await;
    socket.ping().await;
    socket.until("pong").await;
    assert_eq!(bench.request_count(), 1, "the backend gets one request at a time");
    gate.open();
    assert_eq!(socket.answer().await.last().unwrap()["response"]["id"], "resp_1");
    let second = socket.answer().await;
    assert_eq!((&second[0]["type"], &second[0]["response"]["id"]), (&json!("response.created"), &json!("resp_2")));
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused() {
    let bench = Bench::new().await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(DONE).event(COMPLETED).end());
    bench.upstream.on("/responses", Script::events(&RESPONSE));
    let mut socket = Socket::open(&bench.proxy).await;
    for _ in 0..18 {
        socket.create(&hello()).await;
    }
    let refused = socket.until("error").await.pop().unwrap();
    assert_eq!((&refused["status"], &refused["error"]["code"]), (&json!(400), &json!("websocket_queue_full")));
    gate.open();
    for _ in 0..17 {
        assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
    }
}

#[tokio::test]
async fn a_conversation_continues_by_id_without_being_stored() {
    let bench = Bench::new().await;
    for script in [answer("resp_1", "one"), answer("resp_2", "two"), answer("resp_3", "three")] {
        bench.upstream.on("/responses", script);
    }
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&hello()).await;
    socket.answer().await;
    let next = json!({"model": "gpt-5.5", "input": "more", "store": false, "previous_response_id": "resp_1"});
    socket.create(&next).await;
    assert_eq!(socket.answer().await.last().unwrap()["response"]["previous_response_id"], "resp_1");
    let input = bench.upstream.requests("/responses")[1].json()["input"].clone();
    let texts: Vec<_> =
        input.as_array().unwrap().iter().map(|item| item["content"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["hi", "one", "more"]);
    let by_item = json!({"model": "gpt-5.5", "store": false, "input": [{"type": "item_reference", "id": "msg_resp_2"}, {"role": "user", "content": "and?"}]});
    socket.create(&by_item).await;
    socket.answer().await;
    assert_eq!(bench.upstream.requests("/responses")[2].json()["input"][0]["content"][0]["text"], "two");

    let mut other = Socket::open(&bench.proxy).await;
    other.create(&next).await;
    let refused = other.next().await;
    let message = "Previous response with id 'resp_1' not found.";
    let error = json!({"type": "invalid_request_error", "code": "previous_response_not_found", "message": message, "param": "previous_response_id"});
    assert_eq!((&refused["type"], &refused["status"], &refused["error"]), (&json!("error"), &json!(400), &error));
    other.create(&hello()).await;
    assert_eq!(other.answer().await.last().unwrap()["type"], "response.completed", "the socket stays usable");
    assert_eq!(Ask::get("/v1/responses/resp_1").send(&bench.proxy).await.status, 404, "other keys can't use it");
}

#[tokio::test]
async fn stored_responses_are_available_on_other_connections() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", answer("resp_1", "one"));
    bench.upstream.on("/responses", answer("resp_2", "two"));
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&json!({"model": "gpt-5.5", "input": "hi"})).await;
    socket.answer().await;
    drop(socket);
    assert_eq!(Ask::get("/v1/responses/resp_1").send(&bench.proxy).await.json()["id"], "resp_1");
    let mut other = Socket::open(&bench.proxy).await;
    other.create(&json!({"model": "gpt-5.5", "input": "more", "previous_response_id": "resp_1"})).await;
    assert_eq!(other.answer().await.last().unwrap()["response"]["id"], "resp_2");
}

#[tokio::test]
async fn a_warmup_makes_no_request_and_can_be_continued() {
    let bench = answering().await;
    for (headers, input) in [(&[][..], json!("be brief")), (&CODEX[..], json!([]))] {
        let before = bench.request_count();
        let mut socket = Socket::open_as(&bench.proxy, headers).await;
        let warmup = json!({"model": "gpt-5.5", "input": input, "store": false, "generate": false});
        socket.create(&warmup).await;
        let warm = socket.answer().await;
        assert_eq!(kinds(&warm), ["response.created", "response.completed"]);
        let response = &warm[1]["response"];
        assert_eq!((&response["usage"]["total_tokens"], &response["output"]), (&json!(0), &json!([])));
        assert_eq!(bench.request_count(), before, "it makes no request");
        let first = json!({"model": "gpt-5.5", "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}], "store": false, "previous_response_id": response["id"]});
        socket.create(&first).await;
        assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
        let sent = bench.upstream.requests("/responses").pop().unwrap().json();
        assert_eq!(sent["input"].as_array().unwrap().len(), if input == json!([]) { 1 } else { 2 });
        assert!(sent.get("generate").is_none() && sent.get("type").is_none(), "{sent}");
    }
}

#[tokio::test]
async fn a_running_response_can_be_cancelled() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    bench.upstream.on("/responses", Script::events(&RESPONSE));
    let mut socket = Socket::open(&bench.proxy).await;
    socket.send(&json!({"type": "response.cancel"})).await;
    socket.create(&hello()).await;
    socket.until("response.output_text.delta").await;
    socket.send(&json!({"type": "response.cancel"})).await;
    let last = socket.answer().await.pop().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("failed")));
    assert!(bench.upstream.hung_up(1, 5 * SECOND).await, "the upstream request is canceled at once");
    socket.create(&hello()).await;
    assert_eq!(socket.answer().await.last().unwrap()["type"], "response.completed");
}

#[tokio::test]
async fn a_client_that_disconnects_stops_the_backend() {
    let bench = Bench::new().await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    for (count, polite) in [(1, true), (2, false)] {
        let mut socket = Socket::open(&bench.proxy).await;
        socket.create(&hello()).await;
        socket.until("response.output_text.delta").await;
        if polite {
            socket.close().await;
            assert_eq!(socket.closed().await, None, "its close frame is answered");
        } else {
            drop(socket);
        }
        assert!(bench.upstream.hung_up(count, 5 * SECOND).await);
    }
    bench.upstream.replace("/responses", Script::silence());
    let mut socket = Socket::open(&bench.proxy).await;
    socket.create(&hello()).await;
    bench.upstream.received("/responses", 3).await;
    drop(socket);
    assert!(bench.upstream.hung_up(3, 5 * SECOND).await, "before the response has started, too");
}

#[tokio::test]
async fn events_name_the_lane_of_their_request() {
    let bench = answering().await;
    let mut socket = Socket::open(&bench.proxy).await;
    for lane in ["planner", "critic"] {
        socket.create(&with(hello(), "stream_id", json!(lane))).await;
    }
    for lane in ["planner", "critic"] {
        let events = socket.answer().await;
        assert!(events.iter().all(|event| event["stream_id"] == lane), "{events:?}");
    }
    for number in 2..33 {
        socket.create(&with(hello(), "stream_id", json!(format!("lane-{number}")))).await;
        let last = socket.answer().await.pop().unwrap();
        let refused = if number < 32 { Value::Null } else { json!("websocket_stream_limit_reached") };
        assert_eq!((&last["stream_id"], &last["error"]["code"]), (&json!(format!("lane-{number}")), &refused));
    }
    assert!(bench.upstream.requests("/responses").iter().all(|asked| asked.json().get("stream_id").is_none()));
}

#[tokio::test]
async fn a_codex_client_gets_http_headers_as_events() {
    let bench = Bench::new().await;
    let said = [
        ("x-codex-primary-used-percent", "42"),
        ("x-codex-primary-window-minutes", "300"),
        ("x-codex-turn-state", "ts-1"),
    ];
    let stream = RESPONSE.iter().fold(Script::stream(&said), |script, event| script.event(event)).end();
    bench.upstream.on("/responses", stream);
    let mut socket = Socket::open_as(&bench.proxy, &CODEX).await;
    let metadata = json!({"x-codex-turn-state": "ts-0", "x-codex-turn-metadata": "{\"turn_id\":\"t\"}"});
    socket.create(&with(hello(), "client_metadata", metadata.clone())).await;
    let events = socket.answer().await;
    let begin = events.iter().position(|event| event["type"] == "response.created").unwrap();
    let (before, answer) = events.split_at(begin);
    let [limits, reported] = ["codex.rate_limits", "response.metadata"].map(|kind| {
        let mut of_kind = before.iter().filter(|event| event["type"] == kind);
        let first = of_kind.next().unwrap_or_else(|| panic!("no {kind}: {before:?}"));
        assert_eq!(of_kind.next(), None, "reported twice");
        first
    });
    assert_eq!(limits["rate_limits"]["primary"]["used_percent"], 42.0);
    assert_eq!(reported["headers"]["x-codex-turn-state"], "ts-1");
    let whole: Vec<Value> = RESPONSE.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert_eq!(kinds(answer), kinds(&whole));
    assert_eq!(answer[..4], whole[..4]);
    let asked = bench.upstream.requests("/responses").pop().unwrap();
    let sent = asked.json()["client_metadata"].clone();
    let posted = bench.upstream.handshakes().is_empty();
    for (name, value) in metadata.as_object().unwrap() {
        assert_eq!(sent[name], *value, "the body is unchanged");
        // Over a WebSocket to the backend, members that apply to one turn may be only in the body.
        assert!(!posted || asked.header(name) == value, "{name}: {:?}", asked.headers);
    }
    assert_eq!(asked.header("x-codex-window-id"), "w-1");
    assert!(!posted || has_no_websocket_headers(&asked.headers), "{:?}", asked.headers);
}

fn has_no_websocket_headers(headers: &HeaderMap) -> bool {
    ["upgrade", "sec-websocket-key", "sec-websocket-version"].iter().all(|name| !headers.contains_key(*name))
}
