//! `POST /v1/responses/compact`: replaces a long conversation with a short equivalent.
//!
//! The backend compacts in an ordinary response if the last input item requests it; the output is one item that only
//! the backend can read. The client receives the document of the official API: the user's messages as sent, and that
//! item. Nothing is stored.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::raw_event::{RawEvent, object};
use super::request::{self, ResponsesRequest};
use super::translate::{self, Translation};
use super::{EventEncoder, Options, Responses, ResponsesReply, Store};
use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::codex::request::{COMPACTION_TRIGGER, Item};
use crate::protocol::json::from_string;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::stored_refs::{References, ResolvedReferences};
use crate::protocol::{Context, Dialect, FileIds, Fold, Mode, Plan, Reply, Sink, Summary};

/// The compaction endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Compaction;

/// The state of one compaction.
#[derive(Debug)]
pub struct CompactionReply {
    response: ResponsesReply,
    /// The user's messages in the conversation, which the document repeats.
    user_messages: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct Compacted<'c> {
    id: &'c RawValue,
    object: &'static str,
    created_at: &'c RawValue,
    output: Vec<&'c RawValue>,
    usage: &'c RawValue,
}

impl Dialect for Compaction {
    type Request<'a> = ResponsesRequest<'a>;
    type Options = Options;
    type Reply = CompactionReply;

    const NAME: &'static str = "compact";
    const FILE_IDS: FileIds = FileIds::Known;

    fn decode(body: &[u8]) -> Result<ResponsesRequest<'_>, ProxyError> {
        request::decode(body)?.for_compaction()
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &Options,
    ) -> Result<Plan<'a, CompactionReply>, ProxyError> {
        // The store context contains the messages to return; it's created only if responses are stored.
        let options = Options { store: Store::Memory, ..options.clone() };
        let Translation { mut upstream, echo, store_context, .. } = translate::translate(request, context, &options)?;
        if !upstream.is_compaction() {
            let json = from_string(format!(r#"{{"type":"{COMPACTION_TRIGGER}"}}"#));
            upstream.input.push(Item::Raw { kind: COMPACTION_TRIGGER.into(), json: std::borrow::Cow::Owned(json) });
        }
        let input = store_context.map(|stored| stored.input).unwrap_or_default().into_iter();
        let user_messages = input.filter(|item| is_user_message(item)).collect();
        let reply = CompactionReply { response: ResponsesReply::new(echo, None), user_messages };
        Ok(Plan { upstream, mode: Mode::Document, reply })
    }

    fn references(request: &Self::Request<'_>) -> References {
        Responses::references(request)
    }

    fn resolve_references(request: &mut Self::Request<'_>, resolved: ResolvedReferences) {
        Responses::resolve_references(request, resolved);
    }

    fn forwarded_headers(headers: &HeaderMap) -> Option<HeaderMap> {
        Responses::forwarded_headers(headers)
    }

    fn to_error_response(
        error: &ProxyError,
        request_id: &str,
        commands: CommandHint,
    ) -> (StatusCode, HeaderMap, Bytes) {
        super::to_error_response(error, request_id, commands)
    }
}

fn is_user_message(item: &RawValue) -> bool {
    let is = |members: &RawObject<'_>, name, value| members.text(name).as_deref() == Some(value);
    object(item).is_some_and(|(_, members)| is(&members, "type", "message") && is(&members, "role", "user"))
}

fn is_compaction(item: &RawValue) -> bool {
    let kind = object(item).and_then(|(_, members)| members.text("type").map(std::borrow::Cow::into_owned));
    matches!(kind.as_deref(), Some("compaction" | "compaction_summary"))
}

impl Reply for CompactionReply {
    type Upstream<'u> = RawEvent<'u>;
    type Encoder = EventEncoder;

    fn keepalive(&self) -> Bytes {
        self.response.keepalive()
    }

    fn on_commit(&mut self, _sink: &mut impl Sink<EventEncoder>) {}

    fn on_event(&mut self, event: RawEvent<'_>, _sink: &mut impl Sink<EventEncoder>) {
        self.response.on_event(event, &mut Fold);
    }

    fn on_end(&mut self, cut: Option<ProxyError>, _sink: &mut impl Sink<EventEncoder>) {
        self.response.on_end(cut, &mut Fold);
    }

    fn is_finished(&self) -> bool {
        self.response.is_finished()
    }

    fn failure(&self) -> Option<&ProxyError> {
        self.response.failure()
    }

    fn restarted(self) -> Self {
        Self { response: self.response.restarted(), ..self }
    }

    fn document(self) -> Result<Bytes, ProxyError> {
        let damaged = |reason: &str| ProxyError::Damaged { reason: reason.to_owned() };
        let document = self.response.document()?;
        let response: RawObject<'_> = serde_json::from_slice(&document).map_err(|_| ProxyError::Internal)?;
        let compaction: Vec<&RawValue> =
            response.list("output").into_iter().filter(|item| is_compaction(item)).collect();
        if compaction.is_empty() {
            return Err(damaged("the response contains no compaction"));
        }
        let member = |name: &str| response.get(name).ok_or(ProxyError::Internal);
        let compacted = Compacted {
            id: member("id")?,
            object: "response.compaction",
            created_at: member("created_at")?,
            output: self.user_messages.iter().map(|item| &**item).chain(compaction).collect(),
            usage: member("usage")?,
        };
        Ok(Bytes::from(serde_json::to_vec(&compacted).expect("raw JSON always serializes")))
    }

    fn summary(&self) -> Summary {
        self.response.summary()
    }
}
