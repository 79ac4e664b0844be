//! Items of earlier answers that a client sends back as input.
//!
//! SDKs replay an item with members that only answers have, and some clients give every item of a
//! kind the same id. The backend refuses the whole request for either, and the client can't mend its
//! history, so both are taken out here. Nothing else is changed.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::value::RawValue;

use crate::protocol::envelope::{Envelope, Value};
use crate::protocol::field::Field;
use crate::protocol::splice::Splice;

/// Members of content parts that the backend does not accept: cache hints, and what SDKs add to an answer.
const REFUSED_IN_PARTS: [&str; 3] = ["prompt_cache_breakpoint", "parsed", "logprobs"];

/// Whether a member of an item of this type is one that only answers have.
#[must_use]
pub fn is_output_only(kind: &str, name: &str, value: &Value<'_>) -> bool {
    match name {
        "status" => kind == "reasoning" || value.is_null(),
        "content" => kind == "reasoning" && value.is_null(),
        "parsed_arguments" => kind == "function_call",
        _ => false,
    }
}

/// Takes out of an item's content parts what the backend refuses. `is_kept` items are those that the
/// backend gave itself, whose empty lists it also accepts.
pub fn trim_parts(members: &Envelope<'_>, is_kept: bool, edits: &mut Splice<'_>) {
    let may_hold = |content: &&RawValue| {
        let content = content.get().as_bytes();
        content.starts_with(b"[")
            && REFUSED_IN_PARTS.iter().any(|name| memchr::memmem::find(content, name.as_bytes()).is_some())
    };
    let Some(content) = members.get("content").filter(may_hold) else { return };
    let parts: Vec<&RawValue> = serde_json::from_str(content.get()).unwrap_or_default();
    let is_refused = |name: &str, value: &Value<'_>| {
        REFUSED_IN_PARTS.contains(&name) && !(is_kept && name == "logprobs" && value.text() == "[]")
    };
    for part in parts {
        if let Ok(inside) = Envelope::parse(part.get()) {
            edits.remove_where(part.get(), &inside, is_refused);
        }
    }
}

/// The ids of the items before, to find those that are repeated.
#[derive(Debug, Default)]
pub struct SeenIds(BTreeSet<String>);

impl SeenIds {
    /// Whether an item has the id of one before it. Remembers its id.
    pub fn has_seen(&mut self, members: &Envelope<'_>) -> bool {
        let id = members.get("id").and_then(|id| Field::root("id", id).text().ok());
        id.is_some_and(|id| !self.0.insert(id.into_owned()))
    }
}

/// An item without its id.
#[must_use]
pub fn without_id<'a>(item: Cow<'a, RawValue>) -> Cow<'a, RawValue> {
    let Ok(members) = Envelope::parse(item.get()) else { return item };
    let mut edits = Splice::new(item.get());
    edits.remove(item.get(), &members, "id");
    edits.raw().map_or_else(|| item.clone(), Cow::Owned)
}
