//! The OpenAI Responses API. It is the backend's own API, so requests and events pass through.
//!
//! Some members are forced, filtered, completed or restored; everything else keeps its bytes, so that unknown items,
//! tools and events survive. Requests: [`request`] reads the known top-level members, `input`, `item` and `tools`
//! repair what the backend would reject, [`translate`] builds the request. Responses: `raw_event` reads an event's
//! members, `event_defaults` adds missing ones, `response_echo` restores the client's values, `rebuild` builds items
//! from deltas, [`reply`] forwards events and `ending` ends the response. A stream for a Codex client (`codex_client`)
//! stays as it is. [`compact`] is the compaction endpoint, [`conversation`] reads the bodies of the Conversations API,
//! [`background`] has what responses in the background need, [`socket`] is the WebSocket transport.

pub mod background;
mod codex_client;
pub mod compact;
pub mod conversation;
mod ending;
pub mod error;
mod event_defaults;
mod input;
mod item;
mod options;
mod raw_event;
mod rebuild;
pub mod reply;
pub mod request;
mod response_echo;
pub mod socket;
mod tools;
pub mod translate;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

pub use codex_client::{is_codex, relayed_headers};
pub use compact::Compaction;
pub use error::to_error_response;
pub use options::{BackgroundSupport, Options, Purpose, Store};
pub use raw_event::RawEvent;
pub use reply::{Event, EventEncoder, ResponsesReply};
pub use request::ResponsesRequest;
pub use response_echo::{Forwarding, ResponseEcho};
pub use translate::Translation;

use super::stored_refs::{References, ResolvedReferences};
use super::{Context, Dialect, FileIds, ItemIds, Plan};
use crate::command_hint::CommandHint;
use crate::error::ProxyError;

/// The Responses API.
#[derive(Clone, Copy, Debug)]
pub struct Responses;

impl Dialect for Responses {
    type Request<'a> = ResponsesRequest<'a>;
    type Options = Options;
    type Reply = ResponsesReply;

    const NAME: &'static str = "responses";
    const ITEM_IDS: ItemIds = ItemIds::SentBack;
    const FILE_IDS: FileIds = FileIds::Known;

    fn decode(body: &[u8]) -> Result<ResponsesRequest<'_>, ProxyError> {
        request::decode(body)
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &Options,
    ) -> Result<Plan<'a, ResponsesReply>, ProxyError> {
        let Translation { upstream, mode, echo, store_context } = translate::translate(request, context, options)?;
        Ok(Plan { upstream, mode, reply: ResponsesReply::new(echo, store_context) })
    }

    fn references(request: &Self::Request<'_>) -> References {
        request.references()
    }

    fn resolve_references(request: &mut Self::Request<'_>, resolved: ResolvedReferences) {
        request.resolved = resolved;
    }

    fn forwarded_headers(headers: &HeaderMap) -> Option<HeaderMap> {
        codex_client::is_codex(headers).then(|| codex_client::forwarded(headers))
    }

    fn to_error_response(
        error: &ProxyError,
        request_id: &str,
        commands: CommandHint,
    ) -> (StatusCode, HeaderMap, Bytes) {
        to_error_response(error, request_id, commands)
    }
}
