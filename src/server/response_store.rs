//! Stores, loads and deletes the responses of one owner: a client key, or all clients if no keys are set.
//!
//! A response is stored in the history or, if a WebSocket request isn't to be stored, in the cache of its connection.
//! Loading tries both.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Extensions;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::websocket::ConnectionCache;
use crate::blocking::off_thread;
use crate::budget::Reservation;
use crate::error::ProxyError;
use crate::history::{DeleteError, ResponseOwner, ResponseRecord, Responses};
use crate::protocol::json::string::Str;
use crate::protocol::responses::background;
use crate::protocol::stored_refs::{PreviousResponse, References, ResolvedReferences, StoreScope, StoredResponse};
use crate::token_source::CredentialSource;

/// The stored responses that one request may refer to or add to.
#[derive(Clone, Debug)]
pub(super) struct ResponseStore {
    history: Arc<Responses>,
    owner: ResponseOwner,
    /// The account that answers the request, for [`Self::save`]; `None` until it is known, or if it isn't stored.
    account: Option<String>,
    /// The cache of the WebSocket connection; `None`: the request came by HTTP.
    cache: Option<Arc<ConnectionCache>>,
}

/// The id of an item.
#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(borrow, default)]
    id: Option<Str<'a>>,
}

impl ResponseStore {
    /// The store for a request with these extensions, which name its owner.
    pub(super) fn new(history: &Arc<Responses>, extensions: &Extensions) -> Self {
        let owner = extensions.get::<ResponseOwner>().cloned().unwrap_or_default();
        Self::of_owner(history, owner)
    }

    /// The store for requests of this owner.
    pub(super) fn of_owner(history: &Arc<Responses>, owner: ResponseOwner) -> Self {
        Self { history: Arc::clone(history), owner, account: None, cache: None }
    }

    /// Whose responses these are.
    pub(super) fn owner(&self) -> &ResponseOwner {
        &self.owner
    }

    /// Sets the account that answers the request, unless the client signs in itself: its account is not stored.
    pub(super) fn with_account(self, account: &str, credentials: CredentialSource) -> Self {
        Self { account: (credentials == CredentialSource::Store).then(|| account.to_owned()), ..self }
    }

    /// Adds the cache of a connection.
    pub(super) fn with_cache(self, cache: Arc<ConnectionCache>) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// Loads the responses and items that a request refers to; what isn't found is left out. Also returns the account
    /// that gave the response which the request continues, if known. Reserves memory for the copies.
    ///
    /// # Errors
    /// If there isn't enough memory.
    pub(super) async fn load(
        &self,
        references: &References,
        memory: &mut Reservation,
    ) -> Result<(ResolvedReferences, Option<String>), ProxyError> {
        let mut resolved = ResolvedReferences::default();
        let mut account = None;
        if let Some(id) = &references.response
            && let Some(stored) = self.find(id).await.filter(|stored| is_continuable(stored))
        {
            memory.add(stored.bytes()).await?;
            resolved.response = Some(off_thread(stored.bytes(), || to_previous(&stored)));
            account.clone_from(&stored.account);
        }
        let wanted: BTreeSet<&str> = references.items.iter().map(String::as_str).collect();
        for id in &wanted {
            // One response often has several of the requested items.
            if resolved.items.contains_key(*id) {
                continue;
            }
            let response = match self.cache.as_ref().and_then(|cache| cache.find_by_item(id)) {
                Some(response) => Some(response),
                None => self.history.find_by_item(&self.owner, id).await,
            };
            memory.add(response.as_ref().map_or(0, |response| response.bytes())).await?;
            for (id, item) in response.iter().flat_map(|response| response.items()) {
                if let Some(id) = id.as_ref().filter(|id| wanted.contains(id.as_str())) {
                    resolved.items.entry(id.clone()).or_insert_with(|| item.clone());
                }
            }
        }
        Ok((resolved, account))
    }

    /// Stores a response. Doesn't wait for the database, since it is called while the response is streamed.
    pub(super) fn save(&self, stored: StoredResponse) {
        let StoredResponse { id, input, output, response, cache_key, scope, .. } = stored;
        let bytes = input.iter().chain(&output).map(|item| item.get().len()).sum();
        let (input, output) = off_thread(bytes, || (with_ids(input), with_ids(output)));
        let account = self.account.clone();
        let stored = ResponseRecord { id, input, output, response, cache_key, account };
        match (scope, &self.cache) {
            (StoreScope::Connection, Some(cache)) => cache.insert(stored),
            (StoreScope::Connection, None) | (StoreScope::Conversation, _) => {}
            (StoreScope::Key, _) => self.history.insert(&self.owner, stored),
        }
    }

    /// Finds a response by id, in the cache or the history.
    async fn find(&self, id: &str) -> Option<Arc<ResponseRecord>> {
        match self.cache.as_ref().and_then(|cache| cache.find(id)) {
            Some(stored) => Some(stored),
            None => self.find_in_history(id).await,
        }
    }

    /// Finds a response by id, in the history only.
    pub(super) async fn find_in_history(&self, id: &str) -> Option<Arc<ResponseRecord>> {
        self.history.find(&self.owner, id).await
    }

    /// Deletes a response from the history. Returns whether it existed.
    pub(super) async fn delete(&self, id: &str) -> Result<bool, DeleteError> {
        self.history.remove(&self.owner, id).await
    }
}

/// Whether a request can continue a response: not one in the background that failed or was cancelled.
fn is_continuable(stored: &ResponseRecord) -> bool {
    !["failed", "cancelled"].iter().any(|status| background::has_status(&stored.response, status))
}

fn to_previous(stored: &ResponseRecord) -> PreviousResponse {
    let items = stored.input.iter().chain(&stored.output).map(|(_, item)| item.clone());
    PreviousResponse { items: items.collect(), cache_key: stored.cache_key.clone() }
}

fn with_ids(items: Vec<Box<RawValue>>) -> Vec<(Option<String>, Box<RawValue>)> {
    let id = |item: &RawValue| {
        let Identified { id } = serde_json::from_str(item.get()).ok()?;
        id.map(|id| id.into_cow().into_owned())
    };
    items.into_iter().map(|item| (id(&item), item)).collect()
}
