//! OpenAI Responses: the backend's own language, passed on both ways.
//!
//! The work is to force, filter, repair and restore; all else is carried byte for byte, since items,
//! tools and events of tomorrow have to pass. The way there: [`request`] reads the top level, which is
//! an allow-list, `input` and `tools` mend what the backend would refuse, [`translate`] puts it
//! together. The way back: `incoming` reads an event no deeper than needed, `repair` mends it in
//! place, `restore` gives the response object its client's own values, `rebuild` makes items of their deltas, [`reply`]
//! decides, and `ending` finishes the answer. The Codex CLI
//! (`client`) is handed everything untouched. [`compact`] has a conversation shortened. [`error`] words a failure.
//! [`socket`] is the same without HTTP.

mod codex_client;
pub mod compact;
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
pub mod tokens;
mod tools;
pub mod translate;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

pub use compact::Compaction;
pub use error::to_error_response;
pub use options::{Options, Purpose, Store};
pub use raw_event::Incoming;
pub use reply::{Event, ResponsesReply};
pub use request::ResponsesRequest;
pub use response_echo::{Manner, Shape};
pub use translate::Translation;

use super::stored_refs::{References, ResolvedReferences};
use super::{Context, Dialect, Plan};
use crate::error::ProxyError;

/// The Responses dialect.
#[derive(Clone, Copy, Debug)]
pub struct Responses;

impl Dialect for Responses {
    type Request<'a> = ResponsesRequest<'a>;
    type Options = Options;
    type Reply = ResponsesReply;

    const NAME: &'static str = "responses";

    fn decode(body: &[u8]) -> Result<ResponsesRequest<'_>, ProxyError> {
        request::decode(body)
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &Options,
    ) -> Result<Plan<'a, ResponsesReply>, ProxyError> {
        let Translation { upstream, mode, shape, draft } = translate::translate(request, context, options)?;
        Ok(Plan { upstream, mode, reply: ResponsesReply::new(shape, draft) })
    }

    fn references(request: &Self::Request<'_>) -> References {
        request.references()
    }

    fn resolve_references(request: &mut Self::Request<'_>, recalled: ResolvedReferences) {
        request.recalled = recalled;
    }

    fn forwarded_headers(headers: &HeaderMap) -> Option<HeaderMap> {
        codex_client::is_codex(headers).then(|| codex_client::forwarded(headers))
    }

    fn to_error_response(error: &ProxyError, request_id: &str) -> (StatusCode, HeaderMap, Bytes) {
        to_error_response(error, request_id)
    }
}
