//! Answers of the backend, spoilt, from the bytes of the connection to what the client gets.
//!
//! Whatever comes, a machine ends once, says so in whole lines, and holds no more than it was fed:
//! what it holds is measured by what it shows of itself.

use bytes::{Bytes, BytesMut};
use codex_proxy::protocol::chat::{self, Chat};
use codex_proxy::protocol::completions::{self, Completions};
use codex_proxy::protocol::messages::{self, Messages};
use codex_proxy::protocol::ollama;
use codex_proxy::protocol::responses::{self, Responses};
use codex_proxy::protocol::sse::Splitter;
use codex_proxy::protocol::tokens::TokenLimit;
use codex_proxy::protocol::{Dialect, Fold, Reply, Sink, Wire};
use proptest::prelude::*;

use crate::mutate::{Damage, damages, spoilt};
use crate::{Case, attempts, cases, translated};

/// No event may be longer.
const EVENT_BYTES: usize = 1 << 16;
/// What a byte that came may cost, in what is held and in what is sent: an event of a few bytes
/// becomes a whole chunk, and shown, each byte has an escape.
const TIMES: usize = 24;
const MORE_BYTES: usize = 128 * 1024;

/// The events in these bytes, which come in pieces; the splitter never holds more than it was given.
fn events(bytes: &[u8], piece: usize) -> Vec<Bytes> {
    let mut splitter = Splitter::new(EVENT_BYTES);
    let mut events = Vec::new();
    for piece in bytes.chunks(piece) {
        splitter.push(&Bytes::copy_from_slice(piece));
        loop {
            match splitter.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => return events,
            }
        }
    }
    let total: usize = events.iter().map(Bytes::len).sum();
    assert!(total <= bytes.len());
    events
}

/// Feeds a machine as the server does.
fn drive<R: Reply>(reply: &mut R, events: &[Bytes], sink: &mut impl Sink<R::Encoder>) {
    for event in events {
        reply.on_event(R::Upstream::from(std::str::from_utf8(event).unwrap_or("\u{fffd}")), sink);
        if reply.is_finished() {
            return;
        }
    }
    reply.on_commit(sink);
    reply.on_end(None, sink);
}

/// A machine for the request of a case, and how long the request is.
fn machine<D: Dialect>(case: &Case, options: &D::Options) -> D::Reply {
    translated::<D, _>(&case.request, options, |plan| plan.reply).unwrap()
}

fn assert_bounded<D: Dialect>(case: &Case, options: &D::Options, events: &[Bytes])
where
    D::Reply: std::fmt::Debug,
{
    let fed: usize = events.iter().map(Bytes::len).sum::<usize>() + case.request.len();
    let limit = TIMES * fed + MORE_BYTES;
    let (mut reply, mut wire) = (machine::<D>(case, options), BytesMut::new());
    drive(&mut reply, events, &mut Wire(&mut wire));
    assert!(reply.is_finished() && !reply.summary().outcome.is_empty());
    assert!(wire.len() <= limit, "{} bytes sent for {fed}", wire.len());
    let shown = format!("{reply:?}").len();
    assert!(shown <= limit, "{shown} bytes held for {fed}");
    let text = std::str::from_utf8(&wire).expect("what is sent is text");
    let end = if D::STREAM_TYPE.starts_with("text/event-stream") { "\n\n" } else { "\n" };
    assert!(text.is_empty() || text.ends_with(end), "{text}");

    let mut reply = machine::<D>(case, options);
    drive(&mut reply, events, &mut Fold);
    let shown = format!("{reply:?}").len();
    assert!(shown <= limit, "{shown} bytes folded of {fed}");
    if let Ok(document) = reply.document() {
        // Half a surrogate pair passes as it came, which JSON allows and a `String` does not.
        serde_json::from_slice::<serde::de::IgnoredAny>(&document).expect("a document is JSON");
        assert!(document.len() <= limit, "{} bytes of document for {fed}", document.len());
    }
}

/// The answer to one request, or to another of the dialect.
fn assert_answers<D: Dialect>(dialect: &str, options: &D::Options, spoilt_answer: &Spoilt)
where
    D::Reply: std::fmt::Debug,
{
    // A request that goes on from another can't be asked alone.
    let is_whole = |case: &Case| case.answer.is_some() && translated::<D, _>(&case.request, options, |_| ()).is_ok();
    let cases: Vec<Case> = cases(dialect).into_iter().filter(is_whole).collect();
    let (asked, answered) = (&cases[spoilt_answer.asked.index(cases.len())], spoilt_answer.answered.index(cases.len()));
    let bytes = spoilt(cases[answered].answer.as_ref().unwrap(), &spoilt_answer.damages);
    // Again and again: nothing may pile up that is not fed. The end is left out, or that would be it.
    let once = events(&bytes, spoilt_answer.piece);
    let is_end = |event: &&Bytes| {
        !["completed", "failed", "incomplete", "error", "done"].iter().any(|end| {
            std::str::from_utf8(event).is_ok_and(|text| text.contains(&format!("\"type\":\"response.{end}\"")))
        })
    };
    let endless: Vec<Bytes> = once.iter().filter(is_end).cloned().collect();
    assert_bounded::<D>(asked, options, &once);
    assert_bounded::<D>(asked, options, &vec![endless; spoilt_answer.times].concat());
}

#[derive(Clone, Debug)]
struct Spoilt {
    asked: prop::sample::Index,
    answered: prop::sample::Index,
    damages: Vec<Damage>,
    piece: usize,
    times: usize,
}

fn any_spoilt() -> impl Strategy<Value = Spoilt> {
    let piece = prop::sample::select(vec![1, 7, 100, 4096, 1 << 20]);
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), damages(), piece, 1_usize..6)
        .prop_map(|(asked, answered, damages, piece, times)| Spoilt { asked, answered, damages, piece, times })
}

fn instructions() -> String {
    chat::Options::default().default_instructions
}

proptest! {
    #![proptest_config(attempts())]

    #[test]
    fn chat_replies(spoilt in any_spoilt()) {
        assert_answers::<Chat>("chat", &chat::Options::default(), &spoilt);
    }

    #[test]
    fn completions_replies(spoilt in any_spoilt()) {
        let options = completions::Options { default_instructions: instructions(), token_limit: TokenLimit::Enforce };
        assert_answers::<Completions>("completions", &options, &spoilt);
    }

    #[test]
    fn messages_replies(spoilt in any_spoilt()) {
        let options = messages::Options { default_instructions: instructions(), token_limit: TokenLimit::Enforce };
        assert_answers::<Messages>("messages", &options, &spoilt);
    }

    #[test]
    fn ollama_replies(spoilt in any_spoilt()) {
        let options = ollama::Options { default_instructions: instructions(), token_limit: TokenLimit::Enforce };
        assert_answers::<ollama::Chat>("ollama", &options, &spoilt);
        assert_answers::<ollama::Generate>("ollama", &options, &spoilt);
    }

    #[test]
    fn responses_replies(spoilt in any_spoilt()) {
        assert_answers::<Responses>("responses", &responses::Options::default(), &spoilt);
    }
}
