use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _};

use super::{HttpFraming, ReplyProcessor, ResponseStream};
use crate::clock::SystemClock;
use crate::error::ProxyError;
use crate::history::{Responses, Totals, UsageStore};
use crate::protocol::{Reply, Sink, Summary};
use crate::server::active_requests::ActiveRequests;
use crate::server::budget::ByteBudget;
use crate::server::concurrency::ConcurrencyLimit;
use crate::server::metrics::{Metrics, ServerState};
use crate::server::request_log::{RequestId, RequestRecord};
use crate::server::response_store::ResponseStore;
use crate::upstream::EventStream;

/// A machine with a defect: it repeats each event, and panics in the middle of some.
#[derive(Debug, Default)]
struct Defective {
    is_over: bool,
    /// It can't say how it ended either.
    is_dumb: bool,
}

struct Text<'u>(&'u str);

impl<'u> From<&'u str> for Text<'u> {
    fn from(data: &'u str) -> Self {
        Self(data)
    }
}

impl Reply for Defective {
    type Upstream<'u> = Text<'u>;
    type Event<'e> = &'e str;

    fn keepalive(&self) -> Bytes {
        Bytes::new()
    }

    fn on_commit(&mut self, _sink: &mut impl Sink<Self>) {}

    fn on_event(&mut self, event: Text<'_>, sink: &mut impl Sink<Self>) {
        self.is_over = event.0 == "last";
        self.is_dumb |= event.0 == "dumb";
        sink.put(self, &event.0);
    }

    fn on_end(&mut self, cut: Option<ProxyError>, sink: &mut impl Sink<Self>) {
        if !self.is_over {
            self.is_over = true;
            let told = cut.map(|cut| cut.to_string()).unwrap_or_default();
            sink.put(self, &told.as_str());
        }
    }

    fn is_finished(&self) -> bool {
        self.is_over
    }

    fn encode(&self, event: &&str, wire: &mut BytesMut) {
        wire.extend_from_slice(b"<");
        wire.extend_from_slice(event.as_bytes());
        assert!(*event != "defect" && !(self.is_dumb && self.is_over), "private words");
        wire.extend_from_slice(b">");
    }

    fn absorb(&mut self, _event: &&str) {}

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
        Summary { usage: None, outcome: "told".to_owned() }
    }
}

fn passage() -> ReplyProcessor<Defective> {
    let keeper = ResponseStore::new(&Arc::new(Responses::default()), &http::Extensions::new());
    ReplyProcessor { reply: Defective::default(), recall: None, keeper, billed: None }
}

fn record() -> RequestRecord {
    let off = Totals::in_memory(UsageStore::Off, 1, Arc::new(SystemClock));
    let state = ServerState {
        memory: Arc::new(ByteBudget::new(1 << 20)),
        concurrency: ConcurrencyLimit::new(1, 0, Duration::ZERO),
        metrics: Metrics::default(),
        totals: Arc::new(off),
        conversations: Arc::default(),
        active_requests: ActiveRequests::default(),
        refusals: Arc::default(),
        telemetry: None,
    };
    RequestRecord::new("test", &RequestId::fresh(), &Arc::new(state))
}

/// Everything that a client gets.
async fn told(events: &[&'static str]) -> String {
    let never = std::future::pending().boxed();
    let drive = ResponseStream::new(EventStream::of(events), passage(), HttpFraming::default(), None, never, record());
    String::from_utf8(drive.collect::<Vec<_>>().await.concat()).unwrap()
}

#[tokio::test]
async fn a_panic_cuts_its_own_answer_and_says_so_after_what_was_whole() {
    assert_eq!(told(&["a", "b", "last", "late"]).await, "<a><b><last>");
    assert_eq!(told(&["a", "b", "defect", "c", "last"]).await, "<a><b><internal error>");
    assert_eq!(told(&["defect"]).await, "<internal error>");
}

#[tokio::test]
async fn a_panic_that_comes_again_ends_the_answer_all_the_same() {
    assert_eq!(told(&["a", "dumb", "defect", "c"]).await, "<a><dumb>");
}
