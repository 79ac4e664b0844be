//! Stores, loads and deletes the responses of one owner: a client key, or all clients if no keys are set.
//!
//! A response is stored in the history or, if a WebSocket request isn't to be stored, in the cache of its connection.
//! Loading tries both.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Extensions;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::conversations;
use super::websocket::ConnectionCache;
use crate::blocking::off_thread;
use crate::budget::Reservation;
use crate::error::{ProxyError, Refusal};
use crate::history::{
    Conversation, ConversationLock, Item, ResponseOwner, ResponseRecord, Responses, StoreError, is_conversation,
};
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
    /// The conversation that the request continues, once loaded.
    conversation: Option<Arc<LockedConversation>>,
    /// Whether the request adds to a conversation that it continues.
    access: ConversationAccess,
}

/// A conversation, which no other request can change meanwhile.
#[derive(Debug)]
struct LockedConversation {
    lock: ConversationLock,
    conversation: Conversation,
}

/// What a request does with the conversation that it continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConversationAccess {
    /// It adds to it.
    Change,
    /// It only reads it.
    Read,
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
        let (account, cache, conversation) = (None, None, None);
        Self { history: Arc::clone(history), owner, account, cache, conversation, access: ConversationAccess::Change }
    }

    /// Whose responses these are.
    pub(super) fn owner(&self) -> &ResponseOwner {
        &self.owner
    }

    /// Sets the account that answers the request, unless the client signs in itself: its account is not stored.
    pub(super) fn with_account(self, account: &str, credentials: CredentialSource) -> Self {
        Self { account: (credentials == CredentialSource::Store).then(|| account.to_owned()), ..self }
    }

    /// The same store, for a request that adds nothing to a conversation.
    pub(super) fn for_reading(self) -> Self {
        Self { access: ConversationAccess::Read, ..self }
    }

    /// Adds the cache of a connection.
    pub(super) fn with_cache(self, cache: Arc<ConnectionCache>) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// Loads the responses and items that a request refers to; what isn't found is left out. Also returns the account
    /// that gave the response which the request continues, if known. Reserves memory for the copies. Locks the
    /// conversation, until the response is saved or this store is dropped.
    ///
    /// # Errors
    /// If there isn't enough memory, or another request is changing the conversation.
    pub(super) async fn load(
        &mut self,
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
        if let Some(id) = &references.conversation
            && let Some(conversation) = self.load_conversation(id, memory.buffered_bytes()).await?
        {
            memory.add(conversation.bytes()).await?;
            let copy = || conversation.items().iter().map(|(_, item)| item.clone()).collect();
            let items = off_thread(conversation.bytes(), copy);
            resolved.conversation = Some(PreviousResponse { items, cache_key: conversation.id().to_owned() });
            account = conversation.account().map(str::to_owned);
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

    /// Finds and locks a conversation, unless the request has locked it already or only reads it.
    ///
    /// # Errors
    /// If it is locked, can't be read, or would be too large to be stored with a request of this size and its response.
    pub(super) async fn load_conversation(
        &mut self,
        id: &str,
        request_bytes: usize,
    ) -> Result<Option<Conversation>, ProxyError> {
        if let Some(locked) = self.conversation.as_ref().filter(|locked| locked.lock.id() == id) {
            return Ok(Some(locked.conversation.clone()));
        }
        if self.access == ConversationAccess::Read {
            return Ok(self.history.find_conversation(&self.owner, id).await?);
        }
        let lock = self.history.lock_conversation(&self.owner, id).ok_or_else(conversation_locked)?;
        let Some(conversation) = self.history.find_conversation(&self.owner, id).await? else { return Ok(None) };
        if !conversation.can_grow_by(request_bytes) {
            let message = "the conversation would be too large to be stored with this request and its response; delete \
                           items of it, or begin another one";
            return Err(Refusal::too_large("conversation", message));
        }
        if !self.history.has_room(conversation.bytes()) {
            return Err(StoreError("too many changes wait for the disk".to_owned()).into());
        }
        self.conversation = Some(Arc::new(LockedConversation { lock, conversation: conversation.clone() }));
        Ok(Some(conversation))
    }

    /// The size of the conversation that the request has locked, which stays in memory meanwhile.
    pub(super) fn locked_bytes(&self) -> usize {
        self.conversation.as_ref().map_or(0, |locked| locked.conversation.bytes())
    }

    /// Unlocks the conversation. Nothing is added to it anymore.
    pub(super) fn release_conversation(&mut self) {
        self.conversation = None;
    }

    /// Adds the items of a response, and those of its request, to the conversation, and unlocks it.
    fn extend_conversation(&mut self, new: &[Item], output: &[Item]) {
        let Some(locked) = self.conversation.take() else { return };
        let added = || new.iter().chain(output);
        let bytes = locked.conversation.bytes() + added().map(|(_, item)| item.get().len()).sum::<usize>();
        let mut extended = off_thread(bytes, || {
            let mut record = locked.conversation.to_record();
            record.input.extend(added().cloned().map(conversations::with_new_id));
            record
        });
        extended.account.clone_from(&self.account);
        if extended.is_storable() {
            self.history.extend_conversation(&self.owner, extended);
        } else {
            tracing::warn!("a response isn't added to its conversation, which would exceed the response store");
        }
    }

    /// Stores a response, and adds it to its conversation. Doesn't wait for the database, since it is called while the
    /// response is streamed.
    pub(super) fn save(&mut self, stored: StoredResponse) {
        let StoredResponse { id, input, new_count, output, response, cache_key, scope } = stored;
        let bytes = input.iter().chain(&output).map(|item| item.get().len()).sum();
        let (input, output) = off_thread(bytes, || (with_ids(input), with_ids(output)));
        let new = input.get(input.len().saturating_sub(new_count)..).unwrap_or_default();
        self.extend_conversation(new, &output);
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
        if is_conversation(id) { None } else { self.history.find(&self.owner, id).await }
    }

    /// Deletes a response from the history. Returns whether it existed.
    pub(super) async fn delete(&self, id: &str) -> Result<bool, StoreError> {
        if is_conversation(id) { Ok(false) } else { self.history.remove(&self.owner, id).await }
    }
}

/// The refusal of a request for a conversation that another one is changing.
pub(super) fn conversation_locked() -> ProxyError {
    let message = "Another process is currently operating on this conversation. Please retry in a few seconds.";
    Refusal::coded("conversation_locked", "conversation", message)
}

/// Whether a request can continue a response: not one in the background that failed or was cancelled. Those are stored
/// without output, so that the objects of others aren't parsed.
fn is_continuable(stored: &ResponseRecord) -> bool {
    !stored.output.is_empty()
        || !["failed", "cancelled"].iter().any(|status| background::has_status(&stored.response, status))
}

fn to_previous(stored: &ResponseRecord) -> PreviousResponse {
    let items = stored.input.iter().chain(&stored.output).map(|(_, item)| item.clone());
    PreviousResponse { items: items.collect(), cache_key: stored.cache_key.clone() }
}

/// Items with their ids.
pub(super) fn with_ids(items: Vec<Box<RawValue>>) -> Vec<(Option<String>, Box<RawValue>)> {
    let id = |item: &RawValue| {
        let Identified { id } = serde_json::from_str(item.get()).ok()?;
        id.map(|id| id.into_cow().into_owned())
    };
    items.into_iter().map(|item| (id(&item), item)).collect()
}
