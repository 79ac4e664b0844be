//! The conversation that the backend holds on one connection, as fingerprints.
//!
//! A [`KnownConversation`] is the conversation up to and including a completed response. A [`ResponseTracker`]
//! observes the events of a response and becomes the next [`KnownConversation`]. Comparing is linear in the number of
//! items, and no text is stored.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::item_fingerprint::{ItemFingerprint, Replay};
use super::{Digest, OutgoingBody};
use crate::protocol::json::string::Str;

/// A conversation that ends with a completed response and that a request can continue.
#[derive(Debug)]
pub struct KnownConversation {
    response_id: String,
    /// Hash of the request's other members, which a continuation must not change.
    settings: Digest,
    items: Vec<KnownItem>,
}

#[derive(Clone, Copy, Debug)]
struct KnownItem {
    fingerprint: ItemFingerprint,
    /// Whether the next request has to contain the item. It does if an earlier request contained it, whatever the
    /// fingerprint says.
    replay: Replay,
}

/// How a request continues a conversation.
#[derive(Debug)]
pub struct Continuation {
    response_id: String,
    known_count: usize,
    /// The items of the conversation. Those that the request contains are required from now on.
    items: Vec<KnownItem>,
}

/// Collects the conversation of a request and the output items of its response.
#[derive(Debug)]
pub struct ResponseTracker {
    settings: Digest,
    items: Vec<KnownItem>,
    response_id: Option<String>,
}

#[derive(Deserialize)]
struct ItemDone<'a> {
    #[serde(borrow)]
    item: &'a RawValue,
}

#[derive(Deserialize)]
struct Completed<'a> {
    #[serde(borrow)]
    response: ResponseId<'a>,
}

#[derive(Deserialize)]
struct ResponseId<'a> {
    #[serde(borrow)]
    id: Str<'a>,
}

impl KnownConversation {
    /// Returns how the request continues this conversation; `None` if it belongs to another one, has other settings
    /// or adds no item.
    ///
    /// Output items that a client can't send back (reasoning) may be missing from the request.
    #[must_use]
    pub fn continuation(&self, request: &OutgoingBody<'_>) -> Option<Continuation> {
        if request.settings != self.settings {
            return None;
        }
        let mut known_count = 0;
        let mut items = Vec::with_capacity(self.items.len() + request.fingerprints.len());
        for item in &self.items {
            let is_next = request.fingerprints.get(known_count).is_some_and(|next| next.matches(&item.fingerprint));
            if is_next {
                known_count += 1;
                items.push(KnownItem::required(item.fingerprint));
            } else if item.replay == Replay::Optional {
                items.push(*item);
            } else {
                return None;
            }
        }
        if known_count == request.fingerprints.len() {
            return None;
        }
        Some(Continuation { response_id: self.response_id.clone(), known_count, items })
    }
}

impl Continuation {
    pub(super) fn response_id(&self) -> &str {
        &self.response_id
    }

    /// Number of leading items of the request that the backend already has.
    #[must_use]
    pub fn known_count(&self) -> usize {
        self.known_count
    }
}

impl ResponseTracker {
    /// Starts tracking with the conversation of a request that is about to be sent. `continuation` is that of its
    /// frame.
    #[must_use]
    pub fn new(request: &OutgoingBody<'_>, continuation: Option<Continuation>) -> Self {
        let (known_count, mut items) = continuation.map_or((0, Vec::new()), |from| (from.known_count, from.items));
        items.extend(request.fingerprints[known_count..].iter().copied().map(KnownItem::required));
        Self { settings: request.settings, items, response_id: None }
    }

    /// Records an event of the response, given its type and its JSON.
    pub fn observe(&mut self, kind: &str, data: &str) {
        match kind {
            "response.output_item.done" => {
                if let Ok(done) = serde_json::from_str::<ItemDone<'_>>(data) {
                    let fingerprint = ItemFingerprint::of(done.item.get());
                    self.items.push(KnownItem { fingerprint, replay: fingerprint.replay() });
                }
            }
            "response.completed" | "response.done" => {
                let completed = serde_json::from_str::<Completed<'_>>(data).ok();
                self.response_id = completed.map(|completed| completed.response.id.into_cow().into_owned());
            }
            _ => {}
        }
    }

    /// Returns the conversation for the next request to continue; `None` unless the response completed.
    #[must_use]
    pub fn finish(self) -> Option<KnownConversation> {
        let response_id = self.response_id.filter(|id| !id.is_empty())?;
        Some(KnownConversation { response_id, settings: self.settings, items: self.items })
    }
}

impl KnownItem {
    fn required(fingerprint: ItemFingerprint) -> Self {
        Self { fingerprint, replay: Replay::Required }
    }
}
