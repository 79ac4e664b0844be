//! Between the dialects, which refer to earlier answers, and the history, which keeps them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::history::{Owner, Responses, Stored};
use crate::protocol::memory::{Earlier, Memory, Recalled, References};
use crate::protocol::text::Str;

/// The history as one client sees it.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    history: Arc<Responses>,
    owner: Owner,
}

#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(borrow, default)]
    id: Option<Str<'a>>,
}

impl Keeper {
    pub(super) fn new(history: &Arc<Responses>, key: Option<&str>) -> Self {
        Self { history: Arc::clone(history), owner: Owner(key.map(str::to_owned)) }
    }

    /// What is known of what a request refers to.
    pub(super) fn recall(&self, references: &References) -> Recalled {
        let item = |id: &String| Some((id.clone(), self.history.find_item(&self.owner, id)?));
        Recalled {
            response: references.response.as_deref().and_then(|id| self.find(id)).map(|stored| earlier(&stored)),
            items: references.items.iter().filter_map(item).collect(),
        }
    }

    pub(super) fn keep(&self, memory: Memory) {
        let Memory { id, input, output, response, cache_key } = memory;
        let stored = Stored { id, input: identified(input), output: identified(output), response, cache_key };
        self.history.keep(&self.owner, stored);
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
