//! Request bodies of the Conversations API.
//!
//! Items are those of `input`: messages get the type and the parts that they lack, everything else keeps its bytes.

use serde_json::value::RawValue;

use super::item::{self, InputElement};
use crate::error::{ProxyError, Refusal};
use crate::protocol::Ignored;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;

/// Maximum number of items in one request.
const MAX_ITEMS: usize = 20;
/// Limits of `metadata`.
const MAX_PAIRS: usize = 16;
const MAX_KEY_CHARACTERS: usize = 64;
const MAX_VALUE_CHARACTERS: usize = 512;

/// The members of a request that creates or changes a conversation.
#[derive(Debug, Default)]
pub struct ConversationRequest {
    /// Items to add.
    pub items: Option<Vec<Box<RawValue>>>,
    /// The JSON of `metadata`, an object.
    pub metadata: Option<Box<RawValue>>,
    /// Members to name in the warnings.
    pub ignored: Ignored,
}

/// Reads a request body; an empty one is like `{}`.
///
/// # Errors
/// If it isn't a JSON object, or `items` or `metadata` is invalid.
pub fn decode(body: &[u8]) -> Result<ConversationRequest, ProxyError> {
    let mut request = ConversationRequest::default();
    if body.is_empty() {
        return Ok(request);
    }
    let members = RawObject::from_body(body)?;
    for (name, field) in members.fields() {
        match name {
            "items" => request.items = Some(items(&field)?),
            "metadata" => request.metadata = Some(metadata(&field)?),
            _ => request.ignored.note(name),
        }
    }
    Ok(request)
}

fn items(field: &Field<'_, '_>) -> Result<Vec<Box<RawValue>>, ProxyError> {
    let items = field.list()?;
    if items.len() > MAX_ITEMS {
        return Err(Refusal::invalid("items", format!("'items' must have at most {MAX_ITEMS} elements")));
    }
    let read = |(index, raw)| match item::read(&field.element(index, raw), index)? {
        InputElement::Item(item) => Ok(item.json().into_owned()),
        InputElement::Reference(_) => {
            let message = format!("'items[{index}]' must be an item, not a reference to one");
            Err(Refusal::unsupported_value(format!("items[{index}]"), message))
        }
    };
    items.iter().enumerate().map(read).collect()
}

fn metadata(field: &Field<'_, '_>) -> Result<Box<RawValue>, ProxyError> {
    let members = field.object()?;
    let is_long = |text: &str, limit| text.chars().count() > limit;
    if members.members().len() > MAX_PAIRS || members.members().iter().any(|(key, _)| is_long(key, MAX_KEY_CHARACTERS))
    {
        let message = format!(
            "'metadata' must have at most {MAX_PAIRS} members with names of at most {MAX_KEY_CHARACTERS} characters"
        );
        return Err(Refusal::invalid("metadata", message));
    }
    for (key, _) in members.members() {
        let Some(value) = field.member(&members, key) else { continue };
        if is_long(&value.text()?, MAX_VALUE_CHARACTERS) {
            let message = format!("the values of 'metadata' must have at most {MAX_VALUE_CHARACTERS} characters");
            return Err(Refusal::invalid(format!("metadata.{key}"), message));
        }
    }
    Ok(field.raw().to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::decode;
    use crate::error::ProxyError;

    fn refused(body: &Value) -> (Option<String>, Option<&'static str>) {
        match decode(body.to_string().as_bytes()) {
            Err(ProxyError::Refused(refusal)) => (refusal.param, refusal.code),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn items_are_completed_and_other_members_are_named() {
        let body = json!({"items": [{"role": "user", "content": "hi"}], "metadata": {"k": "v"}, "topic": 1});
        let request = decode(body.to_string().as_bytes()).unwrap();
        let item: Value = serde_json::from_str(request.items.unwrap()[0].get()).unwrap();
        assert_eq!((&item["type"], &item["content"][0]["type"]), (&json!("message"), &json!("input_text")));
        assert_eq!(request.metadata.unwrap().get(), r#"{"k":"v"}"#);
        assert_eq!(request.ignored.names().collect::<Vec<_>>(), ["topic"]);
        assert!(decode(b"").unwrap().items.is_none());
    }

    #[test]
    fn invalid_members_are_refused_by_name() {
        let message = json!({"role": "user", "content": "x"});
        for (body, param, code) in [
            (json!({"items": vec![message; 21]}), "items", "invalid_value"),
            (json!({"items": {}}), "items", "invalid_type"),
            (json!({"items": [{"type": "item_reference", "id": "msg_1"}]}), "items[0]", "unsupported_value"),
            (json!({"metadata": {"k": 1}}), "metadata.k", "invalid_type"),
            (json!({"metadata": {"k": "x".repeat(513)}}), "metadata.k", "invalid_value"),
            (json!({"metadata": {"k".repeat(65): ""}}), "metadata", "invalid_value"),
        ] {
            assert_eq!(refused(&body), (Some(param.to_owned()), Some(code)), "{body}");
        }
    }
}
