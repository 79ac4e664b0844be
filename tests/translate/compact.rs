//! Compaction requests: golden cases and errors.

use codex_proxy::protocol::Dialect as _;
use codex_proxy::protocol::responses::{Compaction, Options};
use serde_json::{Value, json};

use super::stored_refs::resolve_references;
use super::{Outcome, Scene, assert_refusal, leaves_as_written, read, refused};

fn compacted(body: &[u8], store: &Value) -> Result<Outcome, codex_proxy::error::ProxyError> {
    let mut request = Compaction::decode(body)?;
    let references = Compaction::references(&request);
    Compaction::resolve_references(&mut request, resolve_references(store, &references));
    Scene::default().try_translate_request::<Compaction>(request, &Options::default())
}

#[test]
fn every_case_is_translated_as_expected() {
    let count = leaves_as_written("compact", |case, body| {
        let store = case.join("store.json");
        let mut outcome = compacted(body, &if store.exists() { read(&store) } else { json!({}) }).unwrap();
        let key = &mut outcome.upstream["prompt_cache_key"];
        if *key == "earlier-key" {
            // A conversation keeps its key; in the case this one would have been derived.
            *key = json!("00000000-0000-8000-8000-000000000000");
        }
        outcome
    });
    assert!(count >= 5, "the cases are missing");
}

#[test]
fn an_empty_input_cannot_be_compacted() {
    for (request, param, code) in [
        (json!({"model": "m"}), "input", "missing_required_parameter"),
        (json!({"model": "m", "input": []}), "input", "invalid_value"),
        (json!({"input": "x"}), "model", "missing_required_parameter"),
        (
            json!({"model": "m", "previous_response_id": "resp_x"}),
            "previous_response_id",
            "previous_response_not_found",
        ),
    ] {
        let refusal = refused(compacted(request.to_string().as_bytes(), &json!({})));
        assert_refusal(&refusal, &request, param, code);
    }
}
