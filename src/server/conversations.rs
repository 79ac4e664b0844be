//! `/v1/conversations` and the paths below: creates, reads and changes the conversations of the client key.
//!
//! Conversations are in the store of responses. A change holds the lock of the conversation, so that it can't mix with
//! a response that adds to it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Services;
use super::api_flavor::{refuse, refuse_unread};
use super::body;
use super::handler::Handler;
use super::http_response::{deleted, json_response, with_warnings};
use super::item_list::{self, query};
use super::response_store::conversation_locked;
use super::routes::only;
use crate::blocking::off_thread;
use crate::budget::{BufferedBody, Reservation};
use crate::clock::{Clock as _, SystemClock, unix_seconds};
use crate::depth_limit;
use crate::error::{ProxyError, Refusal};
use crate::history::{Conversation, Item, ResponseOwner, ResponseRecord, Responses as History};
use crate::protocol::Warnings;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::{Splice, with_members};
use crate::protocol::responses::conversation::{self, ConversationRequest};
use crate::protocol::responses::{Responses, Store};

/// Serves the conversations.
#[derive(Clone, Debug)]
pub(super) struct Conversations {
    handler: Handler<Responses>,
}

/// What a request does; with the id of the conversation, and that of the item.
#[derive(Clone, Debug)]
pub(super) enum ConversationOperation {
    Create,
    Show(String),
    Update(String),
    Delete(String),
    AddItems(String),
    ListItems(String),
    ShowItem(String, String),
    DeleteItem(String, String),
}

#[derive(Serialize)]
struct ConversationObject<'c> {
    id: &'c str,
    object: &'static str,
    created_at: u64,
    metadata: Option<&'c RawValue>,
}

/// A request body that was read.
struct ReadBody {
    request: ConversationRequest,
    warnings: Warnings,
    /// Held until the request ends.
    _memory: Reservation,
}

/// The routes of the Conversations API.
pub(super) fn routes(handler: &Handler<Responses>) -> Router<Arc<Services>> {
    let conversations = Conversations::new(handler);
    let with = |operation: fn(String) -> ConversationOperation| {
        let conversations = conversations.clone();
        move |Path(id): Path<String>, request: Request| conversations.clone().respond(request, operation(id))
    };
    let with_item = |operation: fn(String, String) -> ConversationOperation| {
        let conversations = conversations.clone();
        move |Path((id, item)): Path<(String, String)>, request: Request| {
            conversations.clone().respond(request, operation(id, item))
        }
    };
    let created = conversations.clone();
    let create = post(move |request: Request| created.clone().respond(request, ConversationOperation::Create));
    let one = get(with(ConversationOperation::Show))
        .post(with(ConversationOperation::Update))
        .delete(with(ConversationOperation::Delete));
    let items = get(with(ConversationOperation::ListItems)).post(with(ConversationOperation::AddItems));
    let item = get(with_item(ConversationOperation::ShowItem)).delete(with_item(ConversationOperation::DeleteItem));
    Router::new()
        .route("/v1/conversations", only("POST", create))
        .route("/v1/conversations/{id}", only("GET, HEAD, POST, DELETE", one))
        .route("/v1/conversations/{id}/items", only("GET, HEAD, POST", items))
        .route("/v1/conversations/{id}/items/{item}", only("GET, HEAD, DELETE", item))
}

impl Conversations {
    pub(super) fn new(handler: &Handler<Responses>) -> Self {
        Self { handler: handler.clone() }
    }

    /// Handles a request.
    pub(super) async fn respond(self, request: Request, operation: ConversationOperation) -> Response {
        if self.handler.options.store == Store::Off {
            let message = "conversations are not available because responses.store is \"off\"";
            return refuse_unread(&Refusal::body(message), request).await;
        }
        let (parts, body) = request.into_parts();
        match self.run(&parts, body, operation).await {
            Ok(response) => response,
            Err(error) => refuse(&error, &Request::from_parts(parts, Body::empty())),
        }
    }

    async fn run(&self, parts: &Parts, body: Body, operation: ConversationOperation) -> Result<Response, ProxyError> {
        let owner = parts.extensions.get::<ResponseOwner>().cloned().unwrap_or_default();
        match operation {
            ConversationOperation::Create => {
                let body = self.read(parts, body).await?;
                Ok(with_warnings(self.create(&owner, body.request).await?, &body.warnings))
            }
            ConversationOperation::Update(id) => {
                let body = self.read(parts, body).await?;
                Ok(with_warnings(self.update(&owner, &id, &body.request).await?, &body.warnings))
            }
            ConversationOperation::AddItems(id) => {
                let body = self.read(parts, body).await?;
                Ok(with_warnings(self.add_items(&owner, &id, body.request).await?, &body.warnings))
            }
            ConversationOperation::Show(id) => Ok(shown(self.find(&owner, &id).await?.object())),
            ConversationOperation::Delete(id) => self.delete(&owner, &id).await,
            ConversationOperation::ListItems(id) => {
                let conversation = self.find(&owner, &id).await?;
                let id_of = |_, (id, _): &Item| id.clone().unwrap_or_default();
                let memory = self.handler.state.memory.reserve();
                item_list::page(conversation.items(), &query(&parts.uri), memory, id_of, shown_item).await
            }
            ConversationOperation::ShowItem(id, item) => {
                let conversation = self.find(&owner, &id).await?;
                let found = conversation.item(&item).ok_or_else(|| unknown_item(&item))?;
                let found = off_thread(found.1.get().len(), || shown_item(found, &item));
                Ok(json_response(StatusCode::OK, Bytes::from(found.get().to_owned())))
            }
            ConversationOperation::DeleteItem(id, item) => self.delete_item(&owner, &id, &item).await,
        }
    }

    /// Reads the body of a request.
    async fn read(&self, parts: &Parts, body: Body) -> Result<ReadBody, ProxyError> {
        let BufferedBody { bytes, mut memory } = body::read(&parts.headers, body, &self.handler.body_limits()).await?;
        // A file may have expired when the conversation is continued, so items have its content.
        let bytes = self.handler.with_files(parts, bytes, &mut memory).await?;
        memory.begin_work(&bytes).await?;
        let decode = || depth_limit::check(&bytes).and_then(|()| conversation::decode(&bytes));
        let request = off_thread(bytes.len(), decode)?;
        let mut warnings = Warnings::default();
        warnings.ignored_members(&request.ignored);
        Ok(ReadBody { request, warnings, _memory: memory })
    }

    async fn create(&self, owner: &ResponseOwner, request: ConversationRequest) -> Result<Response, ProxyError> {
        let id = Conversation::id_of(&Uuid::new_v4().simple().to_string());
        let created_at = unix_seconds(SystemClock.now());
        let metadata = request.metadata.as_deref().or_else(|| serde_json::from_str("{}").ok());
        let object = ConversationObject { id: &id, object: "conversation", created_at, metadata };
        let object = serde_json::to_string(&object).expect("strings and raw JSON always serialize");
        let items = request.items.unwrap_or_default();
        let items = off_thread(bytes_of(&items), || items.into_iter().map(new_item).collect());
        self.insert(owner, Conversation::record(id, object.clone(), items)).await?;
        Ok(shown(&object))
    }

    async fn update(
        &self,
        owner: &ResponseOwner,
        id: &str,
        request: &ConversationRequest,
    ) -> Result<Response, ProxyError> {
        let metadata = request.metadata.as_deref().ok_or_else(|| Refusal::missing("metadata"))?;
        let _lock = self.history().lock_conversation(owner, id).ok_or_else(conversation_locked)?;
        let (mut changed, _memory) = self.copy(owner, id).await?;
        changed.response = with_members(&changed.response, &[("metadata", metadata.get().to_owned())]);
        let response = shown(&changed.response);
        self.insert(owner, changed).await?;
        Ok(response)
    }

    async fn delete(&self, owner: &ResponseOwner, id: &str) -> Result<Response, ProxyError> {
        let _lock = self.history().lock_conversation(owner, id).ok_or_else(conversation_locked)?;
        self.find(owner, id).await?;
        self.history().remove(owner, id).await?;
        Ok(deleted(id, "conversation.deleted"))
    }

    async fn add_items(
        &self,
        owner: &ResponseOwner,
        id: &str,
        request: ConversationRequest,
    ) -> Result<Response, ProxyError> {
        let new = request.items.ok_or_else(|| Refusal::missing("items"))?;
        let _lock = self.history().lock_conversation(owner, id).ok_or_else(conversation_locked)?;
        let (mut changed, _memory) = self.copy(owner, id).await?;
        let added = |item: &Item| {
            let id = item.0.clone().unwrap_or_default();
            let shown = shown_item(item, &id);
            (id, shown)
        };
        let response = off_thread(bytes_of(&new), || {
            let new: Vec<Item> = new.into_iter().map(new_item).collect();
            let added: Vec<_> = new.iter().map(added).collect();
            changed.input.extend(new);
            item_list::list(&added, false)
        });
        self.insert(owner, changed).await?;
        Ok(response)
    }

    async fn delete_item(&self, owner: &ResponseOwner, id: &str, item: &str) -> Result<Response, ProxyError> {
        let _lock = self.history().lock_conversation(owner, id).ok_or_else(conversation_locked)?;
        let (mut changed, _memory) = self.copy(owner, id).await?;
        let count = changed.input.len();
        changed.input.retain(|(own, _)| own.as_deref() != Some(item));
        if changed.input.len() == count {
            return Err(unknown_item(item));
        }
        let response = shown(&changed.response);
        self.insert(owner, changed).await?;
        Ok(response)
    }

    async fn find(&self, owner: &ResponseOwner, id: &str) -> Result<Conversation, ProxyError> {
        let found = self.history().find_conversation(owner, id).await?;
        found.ok_or_else(|| Refusal::unknown("Conversation", id, None))
    }

    /// A copy of a conversation, to change, and the memory for it.
    async fn copy(&self, owner: &ResponseOwner, id: &str) -> Result<(ResponseRecord, Reservation), ProxyError> {
        let found = self.find(owner, id).await?;
        let mut memory = self.handler.state.memory.reserve();
        memory.set_buffered(found.bytes()).await?;
        Ok((off_thread(found.bytes(), || found.to_record()), memory))
    }

    /// Stores a conversation, and waits until it is written.
    async fn insert(&self, owner: &ResponseOwner, conversation: ResponseRecord) -> Result<(), ProxyError> {
        if !conversation.is_storable() {
            return Err(Refusal::too_large("items", "with these items, the conversation is too large to be stored"));
        }
        Ok(self.history().insert_written(owner, conversation).await?)
    }

    fn history(&self) -> &History {
        &self.handler.services.history
    }
}

/// The item with an id of its own, if it has none.
pub(super) fn with_new_id((id, item): Item) -> Item {
    let id = id.unwrap_or_else(|| item_list::new_id(&item, &Uuid::new_v4().simple().to_string()));
    (Some(id), item)
}

fn bytes_of(items: &[Box<RawValue>]) -> usize {
    items.iter().map(|item| item.get().len()).sum()
}

/// A new item, with its id or a new one.
fn new_item(item: Box<RawValue>) -> Item {
    let id = RawObject::parse(item.get()).ok().and_then(|members| members.text("id").map(std::borrow::Cow::into_owned));
    with_new_id((id, item))
}

/// The conversation object.
fn shown(object: &str) -> Response {
    json_response(StatusCode::OK, Bytes::from(object.to_owned()))
}

/// An item as clients get it: with its id, and a message with its status.
fn shown_item((_, item): &Item, id: &str) -> Box<RawValue> {
    let members = RawObject::parse(item.get()).unwrap_or_default();
    let is_message = members.text("type").is_some_and(|kind| kind == "message");
    let mut splice = Splice::new(item.get());
    if is_message && members.get("status").is_none() {
        splice.add(item.get(), r#""status":"completed""#);
    }
    let shown = splice.raw().unwrap_or_else(|| item.clone());
    if members.get("id").is_some() { shown } else { item_list::with_id(&shown, id) }
}

fn unknown_item(id: &str) -> ProxyError {
    Refusal::unknown("Item", id, None)
}
