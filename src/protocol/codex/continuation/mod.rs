//! Builds WebSocket request frames, without the part of the conversation that the backend already has.
//!
//! For the lifetime of a connection, the backend keeps the conversation of the last response sent on it. A request that
//! continues that conversation is sent without the known items: [`OutgoingBody::frame`] leaves them out and names the
//! response instead. The other members of the body are sent byte for byte. The upstream client decides which requests
//! share a connection.

mod item_fingerprint;
mod known_conversation;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::protocol::json::raw_object::RawObject;
use item_fingerprint::ItemFingerprint;

pub use known_conversation::{Continuation, KnownConversation, ResponseTracker};

/// The first 16 bytes of a SHA-256 hash.
type Digest = [u8; 16];

/// An encoded request body, parsed for sending it as a WebSocket frame.
#[derive(Debug)]
pub struct OutgoingBody<'b> {
    members: RawObject<'b>,
    /// The elements of `input`.
    items: Vec<&'b RawValue>,
    /// One per item.
    fingerprints: Vec<ItemFingerprint>,
    /// Hash of the members other than `input` and `client_metadata`.
    settings: Digest,
    body_bytes: usize,
}

impl<'b> OutgoingBody<'b> {
    /// Parses an encoded body; `None` unless it is a JSON object whose `input` is an array.
    #[must_use]
    pub fn read(body: &'b [u8]) -> Option<Self> {
        let members = RawObject::parse(std::str::from_utf8(body).ok()?).ok()?;
        let items: Vec<&RawValue> = serde_json::from_str(members.get("input")?.get()).ok()?;
        let fingerprints = items.iter().map(|item| ItemFingerprint::of(item.get())).collect();
        let settings = settings_digest(&members);
        Some(Self { members, items, fingerprints, settings, body_bytes: body.len() })
    }

    /// Length of the encoded body in bytes.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Returns the text of the frame, without the items that `continuation` knows. The pairs in `metadata` are added to
    /// `client_metadata`.
    #[must_use]
    pub fn frame(&self, metadata: &[(&str, &str)], continuation: Option<&Continuation>) -> String {
        let frame = Frame { body: self, metadata, continuation };
        serde_json::to_string(&frame).expect("strings and raw JSON always serialize")
    }
}

struct Frame<'f> {
    body: &'f OutgoingBody<'f>,
    metadata: &'f [(&'f str, &'f str)],
    continuation: Option<&'f Continuation>,
}

impl Serialize for Frame<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut frame = serializer.serialize_map(None)?;
        frame.serialize_entry("type", "response.create")?;
        for (name, value) in self.body.members.members() {
            match (&**name, self.continuation) {
                ("input", Some(from)) => {
                    frame.serialize_entry("previous_response_id", from.response_id())?;
                    frame.serialize_entry("input", &self.body.items[from.known_count()..])?;
                }
                ("client_metadata", _) => {}
                _ => frame.serialize_entry(name, value)?,
            }
        }
        let own = self.body.members.get("client_metadata");
        match own.map(|own| RawObject::parse(own.get())) {
            _ if self.metadata.is_empty() => own.map_or(Ok(()), |own| frame.serialize_entry("client_metadata", own))?,
            Some(Ok(own)) => frame.serialize_entry("client_metadata", &Metadata { own: &own, added: self.metadata })?,
            _ => {
                let own = RawObject::default();
                frame.serialize_entry("client_metadata", &Metadata { own: &own, added: self.metadata })?;
            }
        }
        frame.end()
    }
}

/// `client_metadata` with pairs added; an added pair replaces a member of the same name.
struct Metadata<'m> {
    own: &'m RawObject<'m>,
    added: &'m [(&'m str, &'m str)],
}

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        for (name, value) in self.own.members() {
            if !self.added.iter().any(|(added, _)| added == name) {
                members.serialize_entry(name, value)?;
            }
        }
        self.added.iter().try_for_each(|(name, value)| members.serialize_entry(name, value))?;
        members.end()
    }
}

/// Hashes every member except `input` and `client_metadata`, which differ between the requests of a conversation.
fn settings_digest(members: &RawObject<'_>) -> Digest {
    let mut hash = Sha256::new();
    for (name, value) in members.members() {
        if !matches!(&**name, "input" | "client_metadata") {
            update(&mut hash, name);
            update(&mut hash, value.text());
        }
    }
    finish(hash)
}

/// Hashes a text with its length, so that adjacent texts can't run into each other.
fn update(hash: &mut Sha256, text: &str) {
    hash.update(text.len().to_be_bytes());
    hash.update(text);
}

fn finish(hash: Sha256) -> Digest {
    let mut digest = Digest::default();
    let length = digest.len();
    digest.copy_from_slice(&hash.finalize()[..length]);
    digest
}

#[cfg(test)]
mod tests;
