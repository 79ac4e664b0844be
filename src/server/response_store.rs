//! Between the dialects, which refer to earlier answers, and the history, which keeps them. A
//! connection may have a memory of its own beside it.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Extensions;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::budget::Reservation;
use super::websocket::ConnectionCache;
use crate::blocking::off_thread;
use crate::error::ProxyError;
use crate::history::{Owner, Responses, Stored, Undeleted};
use crate::protocol::json::string::Str;
use crate::protocol::stored_refs::{PreviousResponse, References, ResolvedReferences, StoreScope, StoredResponse};

/// The history as one client sees it.
#[derive(Clone, Debug)]
pub(super) struct ResponseStore {
    history: Arc<Responses>,
    owner: Owner,
    /// The account that answers, once it is known.
    account: Option<String>,
    /// What only the connection remembers, where there is one that lasts.
    cache: Option<Arc<ConnectionCache>>,
}

#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(borrow, default)]
    id: Option<Str<'a>>,
}

impl ResponseStore {
    /// The history of whoever sent a request with these extensions.
    pub(super) fn new(history: &Arc<Responses>, extensions: &Extensions) -> Self {
        let owner = extensions.get::<Owner>().cloned().unwrap_or_default();
        Self { history: Arc::clone(history), owner, account: None, cache: None }
    }

    /// The same, for an answer of this account.
    pub(super) fn answered_by(self, account: &str) -> Self {
        Self { account: Some(account.to_owned()), ..self }
    }

    /// The same, with the memory of a connection.
    pub(super) fn with_cache(self, cache: Arc<ConnectionCache>) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// What is known of what a request refers to, and the account that gave the answer it goes on from.
    /// Reserves the memory for the copy.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub(super) async fn recall(
        &self,
        references: &References,
        memory: &mut Reservation,
    ) -> Result<(ResolvedReferences, Option<String>), ProxyError> {
        let mut recalled = ResolvedReferences::default();
        let mut account = None;
        if let Some(id) = &references.response
            && let Some(stored) = self.latest(id).await
        {
            memory.add(stored.bytes()).await?;
            recalled.response = Some(off_thread(stored.bytes(), || earlier(&stored)));
            account.clone_from(&stored.account);
        }
        let wanted: BTreeSet<&str> = references.items.iter().map(String::as_str).collect();
        for id in &wanted {
            if recalled.items.contains_key(*id) {
                continue;
            }
            // One answer holds many of the items that are asked for together.
            let holder = match self.cache.as_ref().and_then(|cache| cache.find_holder(id)) {
                Some(holder) => Some(holder),
                None => self.history.find_holder(&self.owner, id).await,
            };
            memory.add(holder.as_ref().map_or(0, |holder| holder.bytes())).await?;
            for (id, item) in holder.iter().flat_map(|holder| holder.items()) {
                if let Some(id) = id.as_ref().filter(|id| wanted.contains(id.as_str())) {
                    recalled.items.entry(id.clone()).or_insert_with(|| item.clone());
                }
            }
        }
        Ok((recalled, account))
    }

    /// Never waits, since an answer passes while this is called.
    pub(super) fn keep(&self, memory: StoredResponse) {
        let StoredResponse { id, input, output, response, cache_key, audience } = memory;
        let bytes = input.iter().chain(&output).map(|item| item.get().len()).sum();
        let (input, output) = off_thread(bytes, || (identified(input), identified(output)));
        let account = self.account.clone();
        let stored = Stored { id, input, output, response, cache_key, account };
        match (audience, &self.cache) {
            (StoreScope::Connection, Some(cache)) => cache.keep(stored),
            (StoreScope::Connection, None) => {}
            (StoreScope::Key, _) => self.history.keep(&self.owner, stored),
        }
    }

    /// The answer of that id, wherever it is remembered.
    async fn latest(&self, id: &str) -> Option<Arc<Stored>> {
        match self.cache.as_ref().and_then(|cache| cache.find(id)) {
            Some(stored) => Some(stored),
            None => self.find(id).await,
        }
    }

    pub(super) async fn find(&self, id: &str) -> Option<Arc<Stored>> {
        self.history.find(&self.owner, id).await
    }

    /// Whether there was something to forget.
    pub(super) async fn forget(&self, id: &str) -> Result<bool, Undeleted> {
        self.history.remove(&self.owner, id).await
    }
}

fn earlier(stored: &Stored) -> PreviousResponse {
    let items = stored.input.iter().chain(&stored.output).map(|(_, item)| item.clone());
    PreviousResponse { items: items.collect(), cache_key: stored.cache_key.clone() }
}

fn identified(items: Vec<Box<RawValue>>) -> Vec<(Option<String>, Box<RawValue>)> {
    let id = |item: &RawValue| {
        let Identified { id } = serde_json::from_str(item.get()).ok()?;
        id.map(|id| id.into_cow().into_owned())
    };
    items.into_iter().map(|item| (id(&item), item)).collect()
}
