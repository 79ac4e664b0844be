//! The searches of a response in later requests.

use serde_json::json;

use super::{
    SEARCH, chat_request, client_call, lite, lite_with, message, messages_request, ollama_request, responses_request,
    round, search_call, searching, send,
};
use crate::fake::Script;
use crate::wire::Ask;
use crate::{Bench, with};

/// The input of the last request, as type and call id.
fn last_input(bench: &Bench) -> Vec<String> {
    let sent = bench.upstream.requests("/responses").pop().unwrap().json();
    let items = sent["input"].as_array().unwrap().iter();
    let described = items.map(|item| match item["call_id"].as_str() {
        Some(id) => format!("{} {id}", item["type"].as_str().unwrap()),
        None => item["type"].as_str().unwrap_or("message").to_owned(),
    });
    described.filter(|item| item != "message" && item != "additional_tools").collect()
}

fn hidden_then_client_call() -> Vec<String> {
    ["function_call call_1", "function_call call_2", "function_call_output call_1", "function_call_output call_2"]
        .map(str::to_owned)
        .to_vec()
}

#[tokio::test]
async fn the_search_of_a_round_with_client_calls_is_sent_again_with_their_outputs() {
    let mixed = || round("resp_1", &[search_call(), client_call()], 10);
    let call = json!({"id": "call_2", "type": "function", "function": {"name": "look", "arguments": "{}"}});
    let chat_history = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_2", "content": "seen"},
    ]);
    let messages_history = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_2", "name": "look", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_2", "content": "seen"}]},
    ]);
    let responses_history = json!([
        {"role": "user", "content": "hi"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "function_call", "call_id": "call_2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_2", "output": "seen"},
    ]);
    let gemini_request = json!({
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "tools": [{"googleSearch": {}}, {"functionDeclarations": [{"name": "look"}]}],
    });
    let gemini_history = json!([
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [{"functionCall": {"id": "call_2", "name": "look", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"id": "call_2", "name": "look", "response": {"output": "seen"}}}]},
    ]);
    let table = [
        (
            "/v1beta/models/gpt-6.2-sol:generateContent",
            gemini_request.clone(),
            with(gemini_request, "contents", gemini_history),
        ),
        ("/v1/chat/completions", chat_request(), with(chat_request(), "messages", chat_history.clone())),
        ("/v1/messages", messages_request(), with(messages_request(), "messages", messages_history)),
        ("/v1/responses", responses_request(), with(responses_request(), "input", responses_history)),
        ("/api/chat", ollama_request(), with(ollama_request(), "messages", chat_history)),
    ];
    for (path, first, second) in table {
        let bench = lite().await;
        bench.upstream.on("/responses", mixed());
        bench.upstream.on("/responses", round("resp_2", &[message()], 20));
        let answer = send(&bench, path, &first).await;
        assert!(answer.text().contains("look") && !answer.text().contains(r#""run""#), "{}", answer.text());
        assert_eq!((bench.upstream.requests(SEARCH).len(), bench.request_count()), (1, 1), "{path}");
        send(&bench, path, &second).await;
        assert_eq!(last_input(&bench), hidden_then_client_call(), "{path}");
    }
}

#[tokio::test]
async fn a_search_after_the_last_call_of_the_client_is_sent_again_too() {
    let call = json!({"id": "call_2", "type": "function", "function": {"name": "look", "arguments": "{}"}});
    let chat_history = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_2", "content": "seen"},
    ]);
    let messages_history = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_2", "name": "look", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_2", "content": "seen"}]},
    ]);
    let responses_history = json!([
        {"role": "user", "content": "hi"},
        {"type": "function_call", "call_id": "call_2", "name": "look", "arguments": "{}"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "function_call_output", "call_id": "call_2", "output": "seen"},
    ]);
    let table = [
        ("/v1/chat/completions", chat_request(), with(chat_request(), "messages", chat_history)),
        ("/v1/messages", messages_request(), with(messages_request(), "messages", messages_history)),
        ("/v1/responses", responses_request(), with(responses_request(), "input", responses_history)),
    ];
    for (path, first, second) in table {
        let bench = lite().await;
        bench.upstream.on("/responses", round("resp_1", &[client_call(), search_call()], 10));
        bench.upstream.on("/responses", round("resp_2", &[message()], 20));
        send(&bench, path, &first).await;
        send(&bench, path, &second).await;
        let expected = [
            "function_call call_2",
            "function_call call_1",
            "function_call_output call_1",
            "function_call_output call_2",
        ];
        assert_eq!(last_input(&bench), expected, "{path}");
    }
}

/// Only clients of the Responses API send the ids of search items back.
#[tokio::test]
async fn a_search_item_without_a_stored_search_is_left_out_with_a_warning() {
    let bench = searching().await;
    bench.upstream.on("/responses", round("resp_3", &[message()], 20));
    send(&bench, "/v1/chat/completions", &chat_request()).await;
    let history =
        json!([{"type": "web_search_call", "id": "ws_1", "status": "completed"}, {"role": "user", "content": "hi"}]);
    let answer = Ask::post("/v1/responses", &with(responses_request(), "input", history)).send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, "repaired:dropped_web_search"));
    assert!(last_input(&bench).is_empty(), "{:?}", last_input(&bench));
}

#[tokio::test]
async fn a_search_is_sent_again_after_the_backend_has_refused_the_reasoning_before_it() {
    let bench = lite_with(|launch| launch.setting("chat.reasoning_replay", "true")).await;
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"});
    bench.upstream.on("/responses", round("resp_1", &[reasoning, search_call(), client_call()], 10));
    let refusal = json!({"error": {"code": "invalid_encrypted_content", "message": "can't be decrypted"}});
    bench.upstream.on("/responses", Script::json(400, &refusal.to_string()));
    bench.upstream.on("/responses", round("resp_2", &[message()], 20));
    bench.upstream.on("/responses", round("resp_3", &[message()], 20));
    let call = json!({"id": "call_2", "type": "function", "function": {"name": "look", "arguments": "{}"}});
    let history = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_2", "content": "seen"},
    ]);
    let second = with(chat_request(), "messages", history);
    send(&bench, "/v1/chat/completions", &chat_request()).await;
    let answer = Ask::chat(&second).send(&bench.proxy).await;
    assert_eq!(answer.header("x-proxy-warnings"), "repaired:dropped_reasoning");
    send(&bench, "/v1/chat/completions", &second).await;
    assert_eq!(last_input(&bench), hidden_then_client_call());
}

#[tokio::test]
async fn a_stored_response_continues_with_its_search() {
    let bench = lite().await;
    bench.upstream.on("/responses", round("resp_1", &[search_call(), client_call()], 10));
    bench.upstream.on("/responses", round("resp_2", &[message()], 20));
    send(&bench, "/v1/responses", &responses_request()).await;
    let mut request = with(responses_request(), "previous_response_id", json!("resp_1"));
    request["input"] = json!([{"type": "function_call_output", "call_id": "call_2", "output": "seen"}]);
    send(&bench, "/v1/responses", &request).await;
    assert_eq!(last_input(&bench), hidden_then_client_call());
}
