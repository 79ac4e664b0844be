//! A request as a frame of a WebSocket, and what of it the backend has already.
//!
//! The backend remembers, for as long as a connection lives, the conversation of its last response.
//! A request that goes on from there is sent without what is known: [`Outgoing::frame`] leaves it
//! out and names the response instead. Everything else of the body leaves byte for byte. Pure;
//! whether two requests belong to one connection is for the upstream client to say.

mod item_fingerprint;
mod thread;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::protocol::json::raw_object::RawObject;
use item_fingerprint::Likeness;

pub use thread::{Continuation, Memory, Thread};

/// A fingerprint.
type Digest = [u8; 16];

/// A body on its way into a frame.
#[derive(Debug)]
pub struct Outgoing<'b> {
    members: RawObject<'b>,
    items: Vec<&'b RawValue>,
    likenesses: Vec<Likeness>,
    shape: Digest,
    bytes: usize,
}

/// What a frame asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An answer.
    Answer,
    /// That the backend reads the request and waits for the next one, which goes on from it.
    Prewarm,
}

impl<'b> Outgoing<'b> {
    /// Reads an encoded body; `None` when it is not an object with a list as `input`.
    #[must_use]
    pub fn read(body: &'b [u8]) -> Option<Self> {
        let members = RawObject::parse(std::str::from_utf8(body).ok()?).ok()?;
        let items: Vec<&RawValue> = serde_json::from_str(members.get("input")?.get()).ok()?;
        let likenesses = items.iter().map(|item| Likeness::of(item.get())).collect();
        let shape = shape(&members);
        Some(Self { members, items, likenesses, shape, bytes: body.len() })
    }

    /// Length of the body.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The text of the frame. `metadata` is added to `client_metadata`.
    #[must_use]
    pub fn frame(&self, purpose: Purpose, metadata: &[(&str, &str)], goes_on: Option<&Continuation>) -> String {
        let frame = Frame { outgoing: self, purpose, metadata, goes_on };
        serde_json::to_string(&frame).expect("strings and raw JSON always serialise")
    }
}

struct Frame<'f> {
    outgoing: &'f Outgoing<'f>,
    purpose: Purpose,
    metadata: &'f [(&'f str, &'f str)],
    goes_on: Option<&'f Continuation>,
}

impl Serialize for Frame<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut frame = serializer.serialize_map(None)?;
        frame.serialize_entry("type", "response.create")?;
        for (name, value) in self.outgoing.members.members() {
            match (&**name, self.goes_on) {
                ("input", Some(from)) => {
                    frame.serialize_entry("previous_response_id", from.response_id())?;
                    frame.serialize_entry("input", &self.outgoing.items[from.known()..])?;
                }
                ("client_metadata", _) => {}
                _ => frame.serialize_entry(name, value)?,
            }
        }
        if self.purpose == Purpose::Prewarm {
            frame.serialize_entry("generate", &false)?;
        }
        let own = self.outgoing.members.get("client_metadata");
        match own.map(|own| RawObject::parse(own.get())) {
            _ if self.metadata.is_empty() => own.map_or(Ok(()), |own| frame.serialize_entry("client_metadata", own))?,
            Some(Ok(own)) => frame.serialize_entry("client_metadata", &Metadata(&own, self.metadata))?,
            _ => frame.serialize_entry("client_metadata", &Metadata(&RawObject::default(), self.metadata))?,
        }
        frame.end()
    }
}

struct Metadata<'m>(&'m RawObject<'m>, &'m [(&'m str, &'m str)]);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(own, added) = self;
        let mut members = serializer.serialize_map(None)?;
        for (name, value) in own.members() {
            if !added.iter().any(|(added, _)| added == name) {
                members.serialize_entry(name, value)?;
            }
        }
        added.iter().try_for_each(|(name, value)| members.serialize_entry(name, value))?;
        members.end()
    }
}

/// All members but the conversation, and the metadata, which tells one request from the next.
fn shape(members: &RawObject<'_>) -> Digest {
    let mut hash = Sha256::new();
    for (name, value) in members.members() {
        if !matches!(&**name, "input" | "client_metadata") {
            add(&mut hash, name);
            add(&mut hash, value.text());
        }
    }
    short(hash)
}

/// Adds a text so that it can't run into the next one.
fn add(hash: &mut Sha256, text: &str) {
    hash.update(text.len().to_be_bytes());
    hash.update(text);
}

fn short(hash: Sha256) -> Digest {
    let mut digest = Digest::default();
    let length = digest.len();
    digest.copy_from_slice(&hash.finalize()[..length]);
    digest
}

#[cfg(test)]
mod tests;
