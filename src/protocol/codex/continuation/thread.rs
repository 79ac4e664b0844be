//! What the backend remembers on one connection, kept here as fingerprints.
//!
//! A [`Thread`] is the conversation up to a response, its items included; a [`Memory`] becomes the
//! next one while the answer to a request goes by. Only a completed response leaves a thread. The
//! comparison is linear, and no text is kept.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::item_fingerprint::{Likeness, Weight};
use super::{Digest, Outgoing};
use crate::protocol::json::string::Str;

/// A conversation that the backend has, up to a response.
#[derive(Debug)]
pub struct Thread {
    response_id: String,
    shape: Digest,
    items: Vec<Kept>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    likeness: Likeness,
    /// Whether a conversation that goes on has to hold it.
    weight: Weight,
}

/// How a request goes on from a thread.
#[derive(Debug)]
pub struct Continuation {
    response_id: String,
    known: usize,
    items: Vec<Kept>,
}

/// The conversation of a request and, bit by bit, of its answer.
#[derive(Debug)]
pub struct Memory {
    shape: Digest,
    items: Vec<Kept>,
    response_id: Option<String>,
}

#[derive(Deserialize)]
struct Done<'a> {
    #[serde(borrow)]
    item: &'a RawValue,
}

#[derive(Deserialize)]
struct Completed<'a> {
    #[serde(borrow)]
    response: Identity<'a>,
}

#[derive(Deserialize)]
struct Identity<'a> {
    #[serde(borrow)]
    id: Str<'a>,
}

impl Thread {
    /// How the request goes on from here; `None` when it is another one, or has nothing new.
    ///
    /// What the backend made and a client can't give back (reasoning) may be missing in it.
    #[must_use]
    pub fn continued_by(&self, request: &Outgoing<'_>) -> Option<Continuation> {
        if request.shape != self.shape {
            return None;
        }
        let mut known = 0;
        let mut items = Vec::with_capacity(self.items.len() + request.likenesses.len());
        for kept in &self.items {
            let is_next = request.likenesses.get(known).is_some_and(|next| next.is_like(&kept.likeness));
            if is_next {
                known += 1;
                items.push(Kept::needed(kept.likeness));
            } else if kept.weight == Weight::Silent {
                items.push(*kept);
            } else {
                return None;
            }
        }
        (known < request.likenesses.len()).then(|| Continuation { response_id: self.response_id.clone(), known, items })
    }
}

impl Continuation {
    pub(super) fn response_id(&self) -> &str {
        &self.response_id
    }

    /// How many items of the request the backend has.
    #[must_use]
    pub fn known(&self) -> usize {
        self.known
    }
}

impl Memory {
    /// Of a request that is about to leave.
    #[must_use]
    pub fn new(request: &Outgoing<'_>, goes_on: Option<Continuation>) -> Self {
        let (known, mut items) = goes_on.map_or((0, Vec::new()), |from| (from.known, from.items));
        items.extend(request.likenesses[known..].iter().copied().map(Kept::needed));
        Self { shape: request.shape, items, response_id: None }
    }

    /// Takes note of an event of the answer, told by its type.
    pub fn note(&mut self, kind: &str, data: &str) {
        match kind {
            "response.output_item.done" => {
                if let Ok(done) = serde_json::from_str::<Done<'_>>(data) {
                    let likeness = Likeness::of(done.item.get());
                    self.items.push(Kept { likeness, weight: likeness.weight() });
                }
            }
            "response.completed" | "response.done" => {
                let completed = serde_json::from_str::<Completed<'_>>(data).ok();
                self.response_id = completed.map(|completed| completed.response.id.into_cow().into_owned());
            }
            _ => {}
        }
    }

    /// The thread to go on from, if the response was completed.
    #[must_use]
    pub fn thread(self) -> Option<Thread> {
        let response_id = self.response_id.filter(|id| !id.is_empty())?;
        Some(Thread { response_id, shape: self.shape, items: self.items })
    }
}

impl Kept {
    fn needed(likeness: Likeness) -> Self {
        Self { likeness, weight: Weight::Needed }
    }
}
