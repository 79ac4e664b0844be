use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _};

use super::{HttpFraming, ReplyProcessor, ResponseStream};
use crate::budget::ByteBudget;
use crate::clock::SystemClock;
use crate::error::ProxyError;
use crate::history::{Responses, UsageStore, UsageTotals};
use crate::protocol::{Encoder, Reply, Sink, Summary};
use crate::server::active_requests::ActiveRequests;
use crate::server::batches::BatchActivity;
use crate::server::concurrency::ConcurrencyLimit;
use crate::server::metrics::Metrics;
use crate::server::request_log::{RequestId, RequestRecord};
use crate::server::response_store::ResponseStore;
use crate::server::state::ServerState;
use crate::upstream::ReplyEvents;

/// A reply that repeats each event.
#[derive(Debug, Default)]
struct PanickingReply {
    is_over: bool,
    encoder: PanickingEncoder,
}

/// An encoder that panics on some events.
#[derive(Debug, Default)]
struct PanickingEncoder {
    /// Panics on the error at the end too.
    panics_at_end: bool,
}

impl Encoder for PanickingEncoder {
    type Event<'e> = &'e str;

    fn encode(&mut self, event: &&str, wire: &mut BytesMut) {
        wire.extend_from_slice(b"<");
        wire.extend_from_slice(event.as_bytes());
        assert!(*event != "panic" && !(self.panics_at_end && *event == "internal error"), "private content");
        wire.extend_from_slice(b">");
    }

    fn absorb(&mut self, _event: &&str) {}
}

struct Text<'u>(&'u str);

impl<'u> From<&'u str> for Text<'u> {
    fn from(data: &'u str) -> Self {
        Self(data)
    }
}

impl Reply for PanickingReply {
    type Upstream<'u> = Text<'u>;
    type Encoder = PanickingEncoder;

    fn keepalive(&self) -> Bytes {
        Bytes::new()
    }

    fn on_commit(&mut self, _sink: &mut impl Sink<PanickingEncoder>) {}

    fn on_event(&mut self, event: Text<'_>, sink: &mut impl Sink<PanickingEncoder>) {
        self.is_over = event.0 == "last";
        self.encoder.panics_at_end |= event.0 == "panic at end";
        sink.put(&mut self.encoder, &event.0);
    }

    fn on_end(&mut self, cut: Option<ProxyError>, sink: &mut impl Sink<PanickingEncoder>) {
        if !self.is_over {
            self.is_over = true;
            let message = cut.map(|cut| cut.to_string()).unwrap_or_default();
            sink.put(&mut self.encoder, &message.as_str());
        }
    }

    fn is_finished(&self) -> bool {
        self.is_over
    }

    fn failure(&self) -> Option<&ProxyError> {
        None
    }

    fn restarted(self) -> Self {
        Self::default()
    }

    fn document(self) -> Result<Bytes, ProxyError> {
        Ok(Bytes::new())
    }

    fn summary(&self) -> Summary {
        Summary { usage: None, outcome: "completed".to_owned() }
    }
}

fn processor() -> ReplyProcessor<PanickingReply> {
    let store = ResponseStore::new(&Arc::new(Responses::default()), &http::Extensions::new());
    ReplyProcessor { reply: PanickingReply::default(), replay: None, store, billed: None }
}

fn record() -> RequestRecord {
    let off = UsageTotals::in_memory(UsageStore::Off, 1, Arc::new(SystemClock));
    let state = ServerState {
        memory: Arc::new(ByteBudget::new(1 << 20)),
        concurrency: ConcurrencyLimit::new(1, 0, Duration::ZERO),
        metrics: Metrics::default(),
        totals: Arc::new(off),
        conversations: Arc::default(),
        active_requests: ActiveRequests::default(),
        batches: BatchActivity::default(),
        refusals: Arc::default(),
        telemetry: None,
    };
    RequestRecord::new("test", &RequestId::fresh(), &Arc::new(state))
}

/// Everything that is sent to the client.
async fn response_to(events: &[&'static str]) -> String {
    let never = std::future::pending().boxed();
    let stream =
        ResponseStream::new(ReplyEvents::of(events), processor(), HttpFraming::default(), None, never, record());
    String::from_utf8(stream.collect::<Vec<_>>().await.concat()).unwrap()
}

#[tokio::test]
async fn a_panic_ends_its_response_with_an_error_after_complete_events() {
    assert_eq!(response_to(&["a", "b", "last", "late"]).await, "<a><b><last>");
    assert_eq!(response_to(&["a", "b", "panic", "c", "last"]).await, "<a><b><internal error>");
    assert_eq!(response_to(&["panic"]).await, "<internal error>");
}

#[tokio::test]
async fn a_second_panic_still_ends_the_response() {
    assert_eq!(response_to(&["a", "panic at end", "panic", "c"]).await, "<a><panic at end>");
}
