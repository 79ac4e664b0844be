//! Between the dialects, which refer to earlier answers, and the history, which keeps them. A
//! connection may have a memory of its own beside it.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::websocket::Nearby;
use crate::history::{Owner, Responses, Stored};
use crate::protocol::memory::{Audience, Earlier, Memory, Recalled, References};
use crate::protocol::text::Str;

/// The history as one client sees it.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    history: Arc<Responses>,
    owner: Owner,
    /// What only the connection remembers, where there is one that lasts.
    nearby: Option<Arc<Nearby>>,
}

#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(borrow, default)]
    id: Option<Str<'a>>,
}

impl Keeper {
    pub(super) fn new(history: &Arc<Responses>, key: Option<&str>) -> Self {
        Self { history: Arc::clone(history), owner: Owner(key.map(str::to_owned)), nearby: None }
    }

    /// The same, with the memory of a connection.
    pub(super) fn with_nearby(self, nearby: Arc<Nearby>) -> Self {
        Self { nearby: Some(nearby), ..self }
    }

    /// What is known of what a request refers to.
    pub(super) fn recall(&self, references: &References) -> Recalled {
        let near = |id: &str| self.nearby.as_ref()?.find_item(id);
        let item = |id: &String| Some((id.clone(), near(id).or_else(|| self.history.find_item(&self.owner, id))?));
        Recalled {
            response: references.response.as_deref().and_then(|id| self.latest(id)).map(|stored| earlier(&stored)),
            items: references.items.iter().filter_map(item).collect(),
        }
    }

    pub(super) fn keep(&self, memory: Memory) {
        let Memory { id, input, output, response, cache_key, audience } = memory;
        let stored = Stored { id, input: identified(input), output: identified(output), response, cache_key };
        match (audience, &self.nearby) {
            (Audience::Connection, Some(nearby)) => nearby.keep(stored),
            (Audience::Connection, None) => {}
            (Audience::Key, _) => self.history.keep(&self.owner, stored),
        }
    }

    /// The answer of that id, wherever it is remembered.
    fn latest(&self, id: &str) -> Option<Arc<Stored>> {
        self.nearby.as_ref().and_then(|nearby| nearby.find(id)).or_else(|| self.find(id))
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Stored>> {
        self.history.find(&self.owner, id)
    }

    /// Whether there was something to forget.
    pub(super) fn forget(&self, id: &str) -> bool {
        self.history.remove(&self.owner, id)
    }
}

fn earlier(stored: &Stored) -> Earlier {
    let items = stored.input.iter().chain(&stored.output).map(|(_, item)| item.clone());
    Earlier { items: items.collect(), cache_key: stored.cache_key.clone() }
}

fn identified(items: Vec<Box<RawValue>>) -> Vec<(Option<String>, Box<RawValue>)> {
    let id = |item: &RawValue| {
        let Identified { id } = serde_json::from_str(item.get()).ok()?;
        id.map(|id| id.into_cow().into_owned())
    };
    items.into_iter().map(|item| (id(&item), item)).collect()
}
