//! Features for Anthropic clients besides replies: token counts, models, keys, and routes.

use serde_json::{Value, json};

use crate::messages::{PATH, ask, error, hello, sent};
use crate::wire::Ask;
use crate::{Bench, signed_in, with};

#[tokio::test]
async fn tokens_are_counted_for_any_body_without_the_backend() {
    let bench = Bench::new().await;
    let count = |body: Vec<u8>| {
        let ask = Ask::raw("/v1/messages/count_tokens?beta=true", body);
        let proxy = &bench.proxy;
        async move {
            let answer = ask.send(proxy).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let counted = answer.json();
            assert_eq!(counted.as_object().map(serde_json::Map::len), Some(1), "{counted}");
            counted["input_tokens"].as_u64().unwrap()
        }
    };
    let tool = json!({"name": "f", "description": "Reads a file.", "input_schema": {"type": "object"}});
    let plain = count(hello().to_string().into_bytes()).await;
    let with_tool = count(with(hello(), "tools", json!([tool])).to_string().into_bytes()).await;
    assert!((1..40).contains(&plain) && with_tool > plain + 10, "{plain} {with_tool}");
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A".repeat(100_000)}});
    let seen = with(hello(), "messages", json!([{"role": "user", "content": [image]}]));
    assert!((1000..1100).contains(&count(seen.to_string().into_bytes()).await));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for odd in ["", "{", "[]", "null", "\u{0}", r#"{"messages":[]}"#, r#"{"messages":5,"tools":"x"}"#, &deep] {
        count(odd.as_bytes().to_vec()).await;
    }
    count(b"\xff\xfe".to_vec()).await;
    let odd = with(hello(), "tools", json!([{"type": "computer_20250124", "name": "computer"}]));
    assert!(count(odd.to_string().into_bytes()).await > 10, "invalid requests are counted too");
    assert_eq!(bench.request_count(), 0);
    let answer = Ask::get("/v1/messages/count_tokens").send(&bench.proxy).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn models_are_listed_in_the_format_of_each_api() {
    let bench = Bench::with(|launch| launch.setting("model_aliases", "claude-mine=gpt-5.5")).await;
    let list = |path: &str| Ask::get(path).header("anthropic-version", "2023-06-01");
    let whole = list("/v1/models?limit=1000").send(&bench.proxy).await.json();
    let ids: Vec<&str> = whole["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!((whole["first_id"].as_str(), whole["last_id"].as_str()), (Some(ids[0]), Some("claude-mine")));
    assert_eq!(whole["has_more"], false);
    let expected = json!({
        "type": "model", "id": "claude-mine", "display_name": "GPT-5.5", "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active", "max_input_tokens": 272_000, "max_tokens": null,
    });
    assert_eq!(whole["data"][ids.len() - 1], expected);
    let page = list(&format!("/v1/models?limit=1&after_id={}", ids[0])).send(&bench.proxy).await.json();
    assert_eq!((page["data"][0]["id"].as_str(), page["has_more"].as_bool()), (Some(ids[1]), Some(true)));
    let answer = list("/v1/models?after_id=nobody").send(&bench.proxy).await;
    assert_eq!((answer.status, error(&answer).0.as_str()), (400, "invalid_request_error"));
    assert_eq!(list("/v1/models/claude-mine").send(&bench.proxy).await.json(), expected);
    assert_eq!(list("/v1/models/gpt-5.5").send(&bench.proxy).await.json()["type"], "model");
    let answer = list("/v1/models/nobody").send(&bench.proxy).await;
    assert_eq!((answer.status, error(&answer).0.as_str()), (404, "not_found_error"));
    assert_eq!(Ask::get("/v1/models").send(&bench.proxy).await.json()["object"], "list", "others get OpenAI's format");
}

#[tokio::test]
async fn the_warm_up_request_of_a_connection_is_answered() {
    let bench = Bench::new().await;
    let answer = Ask::new("HEAD", "/").header("user-agent", "Bun/1.4.0").send(&bench.proxy).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[tokio::test]
async fn a_key_is_accepted_in_either_header() {
    let bench = Bench::answering(|launch| launch.setting("api_keys", "sk-local")).await;
    for ask in [
        ask(&hello()).header("x-api-key", "sk-local"),
        ask(&hello()).header("authorization", "Bearer sk-local"),
        ask(&hello()).header("authorization", "Bearer sk-local").header("x-api-key", "sk-local"),
    ] {
        assert_eq!(ask.send(&bench.proxy).await.status, 200);
    }
    let answer = ask(&hello()).header("x-api-key", "sk-other").send(&bench.proxy).await;
    assert_eq!((answer.status, error(&answer).0.as_str()), (401, "authentication_error"));
}

/// The roles that routers for Claude Code define.
const ROLES: &str = r#"
default_model = "main"
model_aliases = { "claude-named" = "named" }
routes = [
  { match = "claude-*", model = "searcher", when = "web_search" },
  { match = "claude-*haiku*", model = "small", effort = "low" },
  { match = "claude-*", model = "thinker", effort = "high", when = "think" },
]
"#;

#[tokio::test]
async fn routes_select_the_model_of_each_role_in_every_api() {
    let bench = Bench::answering(|launch| launch.file("config.toml", ROLES)).await;
    let thinking = json!({"type": "adaptive"});
    let search = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let named = |model: &str| with(hello(), "model", json!(model));
    let chat = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
    let answers = |model: &str| json!({"model": model, "input": "hi"});
    let effort = json!({"effort": "medium"});
    for (path, request, model, effort) in [
        (PATH, hello(), "main", Value::Null),
        (PATH, named("claude-haiku-4-5"), "small", json!("low")),
        (PATH, with(hello(), "thinking", thinking.clone()), "thinker", json!("high")),
        (PATH, with(with(hello(), "thinking", thinking), "tools", search), "searcher", Value::Null),
        (PATH, named("claude-named"), "named", Value::Null),
        (PATH, named("gpt-9[1m]"), "gpt-9", Value::Null),
        ("/v1/chat/completions", chat("claude-x"), "main", Value::Null),
        ("/v1/chat/completions", with(chat("claude-x"), "reasoning_effort", json!("low")), "thinker", json!("high")),
        ("/v1/chat/completions", with(chat("claude-x"), "web_search_options", json!({})), "searcher", Value::Null),
        ("/v1/responses", answers("claude-haiku"), "small", json!("low")),
        ("/v1/responses", with(answers("claude-x"), "reasoning", effort), "thinker", json!("high")),
        ("/v1/responses", with(answers("claude-x"), "tools", json!([{"type": "web_search"}])), "searcher", Value::Null),
        ("/v1/completions", json!({"model": "claude-haiku", "prompt": "hi"}), "small", json!("low")),
    ] {
        let before = bench.request_count();
        Ask::post(path, &request).send(&bench.proxy).await;
        assert_eq!(bench.request_count(), before + 1, "{path} {request}");
        let sent = sent(&bench);
        assert_eq!((&sent["model"], &sent["reasoning"]["effort"]), (&json!(model), &effort), "{path} {request}");
    }
}

#[tokio::test]
async fn errors_in_routes_are_reported_with_their_position() {
    let upstream = crate::fake::FakeUpstream::start().await;
    let launch = signed_in(&upstream).file("config.toml", "[[routes]]\nmatch = \"a\"\nmodle = \"b\"\n");
    let check = launch.command(&["config", "check"]).run();
    let reported = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(2));
    assert!(
        reported.contains("config.toml:1: routes: routes[0]: unknown member 'modle'; did you mean 'model'?"),
        "{reported}"
    );
    let launch = signed_in(&upstream).file("config.toml", ROLES);
    let shown = String::from_utf8(launch.command(&["config", "show"]).run().stdout).unwrap();
    let route = r#"{ match = "claude-*", model = "thinker", effort = "high", when = "think" }"#;
    assert!(shown.contains(route), "{shown}");
}

#[tokio::test]
async fn a_token_limit_is_enforced_if_configured() {
    let bench = Bench::answering(|launch| launch.setting("chat.token_limit", "enforce")).await;
    let answer = ask(&with(hello(), "max_tokens", json!(1))).send(&bench.proxy).await.json();
    assert_eq!(answer["stop_reason"], "max_tokens");
    assert_eq!(answer["usage"]["output_tokens"], 1);
    let whole = ask(&hello()).send(&bench.proxy).await.json();
    assert_eq!((&whole["stop_reason"], &whole["content"][0]["text"]), (&json!("end_turn"), &json!("Grüße 👋")));
    let bench = Bench::answering(|launch| launch.setting("chat.token_limit", "reject")).await;
    let answer = ask(&hello()).send(&bench.proxy).await;
    assert_eq!(answer.status, 400);
    assert!(error(&answer).1.contains("chat.token_limit"));
}
