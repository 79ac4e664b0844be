//! The stored responses in a case's `store.json`.

use codex_proxy::protocol::stored_refs::{PreviousResponse, References, ResolvedReferences};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// Resolves the references of a request with the store of a case.
pub(crate) fn resolve_references(store: &Value, references: &References) -> ResolvedReferences {
    let list = |response: &Value, name: &str| -> Vec<Value> { response[name].as_array().unwrap().clone() };
    let whole = |response: &Value| [list(response, "input"), list(response, "output")].concat();
    let raw =
        |items: Vec<Value>| -> Vec<Box<RawValue>> { items.iter().map(|item| to_raw_value(item).unwrap()).collect() };
    let response = references.response.as_ref().and_then(|id| store.get(id));
    let all: Vec<Value> = store.as_object().unwrap().values().flat_map(whole).collect();
    let item = |id: &String| Some((id.clone(), to_raw_value(all.iter().find(|item| item["id"] == **id)?).unwrap()));
    ResolvedReferences {
        response: response
            .map(|response| PreviousResponse { items: raw(whole(response)), cache_key: "earlier-key".to_owned() }),
        conversation: None,
        items: references.items.iter().filter_map(item).collect(),
    }
}
