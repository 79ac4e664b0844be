//! The prompt cache key: the same for all turns of a conversation, different for other conversations.

use http::HeaderValue;
use serde_json::{Value, json};

use super::Scene;

/// A conversation after each of its turns.
fn turns() -> Vec<Value> {
    let all = [
        json!({"role": "system", "content": "Be kind."}),
        json!({"role": "user", "content": "<system-reminder>today</system-reminder>\nFirst?"}),
        json!({"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
        json!({"role": "tool", "tool_call_id": "c1", "content": "1"}),
        json!({"role": "assistant", "content": "One."}),
        json!({"role": "user", "content": "Second?"}),
    ];
    [2, 4, 6]
        .map(|count| {
            json!({"model": "m", "messages": all[..count], "tools": [{"type": "function", "function": {"name": "f"}}]})
        })
        .to_vec()
}

#[test]
fn the_cache_key_stays_the_same_over_the_turns_of_a_conversation() {
    let scene = Scene::default();
    let keys: Vec<_> = turns().iter().map(|request| scene.cache_key(request)).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    let mut later = turns().remove(2);
    later["messages"][1]["content"] = json!("<system-reminder>tomorrow</system-reminder>First?");
    assert_eq!(scene.cache_key(&later), keys[0], "reminders change from turn to turn");
}

#[test]
fn another_conversation_has_another_cache_key() {
    let scene = Scene::default();
    let first = turns().remove(0);
    let key = scene.cache_key(&first);
    let changes: [(&str, Value); 4] = [
        ("/model", json!("other")),
        ("/messages/0/content", json!("Be rude.")),
        ("/messages/1/content", json!("Another?")),
        ("/tools/0/function/name", json!("g")),
    ];
    for (place, value) in changes {
        let mut other = first.clone();
        *other.pointer_mut(place).unwrap() = value;
        assert_ne!(scene.cache_key(&other), key, "{place}");
    }
    let mut of_user = first.clone();
    of_user["user"] = json!("ann");
    assert_ne!(scene.cache_key(&of_user), key);
    let of_key = Scene { key: Some("laptop"), ..Scene::default() };
    assert_ne!(of_key.cache_key(&first), key);
}

#[test]
fn a_cache_key_of_the_client_takes_precedence_over_its_headers() {
    let mut scene = Scene::default();
    scene.headers.insert("x-session-id", HeaderValue::from_static("from-header"));
    let mut request = turns().remove(0);
    assert_eq!(scene.cache_key(&request), "from-header");
    request["prompt_cache_key"] = json!("from-body");
    assert_eq!(scene.cache_key(&request), "from-body");
    request["prompt_cache_key"] = json!("k".repeat(65));
    assert!(uuid::Uuid::parse_str(&scene.cache_key(&request)).is_ok(), "too long for the backend");
}
