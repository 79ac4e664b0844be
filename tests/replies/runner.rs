//! Runs the replies of every dialect: bytes are split into events, events are fed to a state machine like in
//! the server, and common rules are checked.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use codex_proxy::error::ProxyError;
use codex_proxy::protocol::sse::Splitter;
use codex_proxy::protocol::{Fold, Reply, Sink, UpstreamEvent, Wire};
use serde_json::Value;

use crate::cases::Case;

fn read<R: Reply>(data: &[u8]) -> R::Upstream<'_> {
    R::Upstream::from(std::str::from_utf8(data).unwrap())
}

/// Feeds a state machine like the server: the first output commits the response.
pub(crate) fn drive<R: Reply>(reply: &mut R, events: &[Bytes], sink: &mut impl Sink<R::Encoder>) {
    let mut is_committed = false;
    for data in events {
        let event = UpstreamEvent::decode(std::str::from_utf8(data).unwrap());
        let commits =
            !matches!(event, UpstreamEvent::Created(_) | UpstreamEvent::Other { .. } | UpstreamEvent::Malformed { .. });
        reply.on_event(read::<R>(data), sink);
        if commits && !std::mem::replace(&mut is_committed, true) {
            reply.on_commit(sink);
        }
        if reply.is_finished() {
            return;
        }
    }
    reply.on_end(None, sink);
}

/// The output for a streaming client.
pub(crate) fn stream_of<R: Reply>(mut reply: R, events: &[Bytes]) -> String {
    let mut wire = BytesMut::new();
    drive(&mut reply, events, &mut Wire(&mut wire));
    String::from_utf8(wire.to_vec()).unwrap()
}

/// The output for a non-streaming client.
pub(crate) fn document_of<R: Reply>(mut reply: R, events: &[Bytes]) -> Result<Value, ProxyError> {
    drive(&mut reply, events, &mut Fold);
    reply.document().map(|document| serde_json::from_slice(&document).unwrap())
}

/// The events in these bytes.
pub(crate) fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Bytes> {
    let mut splitter = Splitter::new(1 << 20);
    let mut events = Vec::new();
    for piece in pieces {
        splitter.push(&Bytes::copy_from_slice(piece));
        while let Some(event) = splitter.next_event().unwrap() {
            events.push(event);
        }
    }
    events
}

/// The same response, with its bytes split at any positions.
pub(crate) fn assert_split_anywhere<R: Reply>(case: &Case, reply: impl Fn() -> R) {
    let bytes = case.upstream_sse.as_slice();
    let whole = split([bytes]);
    for at in 0..bytes.len() {
        let (left, right) = bytes.split_at(at);
        assert!(split([left, right]) == whole, "{} at {at}", case.name);
    }
    let expected = stream_of(reply(), &whole);
    for size in [1, 2, 7] {
        assert_eq!(stream_of(reply(), &split(bytes.chunks(size))), expected, "{}", case.name);
    }
}

/// Calls `assert_cut` with the output, for every position at which the response can be truncated. A retry from
/// there gives the response as if it were the first attempt.
pub(crate) fn assert_cut_anywhere<R: Reply>(case: &Case, reply: impl Fn() -> R, assert_cut: impl Fn(&[Bytes])) {
    let bytes = case.upstream_sse.as_slice();
    let whole = split([bytes]);
    let is_over = |events: &[Bytes]| {
        let (mut reply, mut wire) = (reply(), BytesMut::new());
        for data in events {
            reply.on_event(read::<R>(data), &mut Wire(&mut wire));
        }
        reply.is_finished()
    };
    let needed = (0..=whole.len()).find(|count| is_over(&whole[..*count])).unwrap_or(whole.len() + 1);
    let mut seen = BTreeSet::new();
    for at in 0..bytes.len() {
        let events = split([&bytes[..at]]);
        assert!(whole.starts_with(&events), "{} at {at}", case.name);
        if events.len() < needed && seen.insert(events.len()) {
            assert_cut(&events);
            let mut cut = reply();
            drive(&mut cut, &events, &mut Fold);
            assert!(cut.failure().is_some(), "{} at {at}", case.name);
            let [again, first] = [cut.restarted(), reply()].map(|reply| document_of(reply, &whole));
            assert_eq!(again.map_err(|error| error.to_string()), first.map_err(|error| error.to_string()));
        }
    }
    assert!(seen.len() >= needed.min(whole.len()), "{}", case.name);
}

/// Nothing after the end is processed.
pub(crate) fn assert_silent_after_the_end<R: Reply>(case: &Case, mut reply: R) {
    let events = split([case.upstream_sse.as_slice()]);
    let mut wire = BytesMut::new();
    drive(&mut reply, &events, &mut Wire(&mut wire));
    let length = wire.len();
    for data in &events {
        reply.on_event(read::<R>(data), &mut Wire(&mut wire));
    }
    reply.on_commit(&mut Wire(&mut wire));
    reply.on_end(Some(ProxyError::ShuttingDown), &mut Wire(&mut wire));
    reply.on_end(None, &mut Wire(&mut wire));
    assert_eq!(wire.len(), length, "{}", case.name);
}

/// Status and body for a non-streaming client.
pub(crate) fn answer_of<R: Reply>(
    reply: R,
    events: &[Bytes],
    to_error_response: impl Fn(&ProxyError) -> (http::StatusCode, Bytes),
) -> (u64, Value) {
    match document_of(reply, events) {
        Ok(document) => (200, document),
        Err(error) => {
            let (status, body) = to_error_response(&error);
            (u64::from(status.as_u16()), serde_json::from_slice(&body).unwrap())
        }
    }
}
