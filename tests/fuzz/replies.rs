//! Mutated backend responses, from the bytes of the connection to the client's output.
//!
//! For any input, a state machine ends once, reports that in complete lines, and holds no more than it was fed,
//! measured by its debug output.

use bytes::{Bytes, BytesMut};
use codex_proxy::protocol::chat::{self, Chat};
use codex_proxy::protocol::completions::Completions;
use codex_proxy::protocol::gemini;
use codex_proxy::protocol::messages::Messages;
use codex_proxy::protocol::ollama;
use codex_proxy::protocol::responses::{self, Responses};
use codex_proxy::protocol::sse::Splitter;
use codex_proxy::protocol::tokens::TokenLimit;
use codex_proxy::protocol::{CommonOptions, Dialect, Fold, Reply, Sink, Wire};
use proptest::prelude::*;

use crate::mutate::{Damage, damages, spoilt};
use crate::{Case, attempts, cases, translated};

/// Maximum size of an event.
const EVENT_BYTES: usize = 1 << 16;
/// Maximum cost of an input byte in memory and output: an event of a few bytes becomes a complete chunk, and
/// debug output escapes each byte.
const TIMES: usize = 24;
const MORE_BYTES: usize = 128 * 1024;

/// The events in these bytes, which arrive in pieces; the splitter never holds more than its input.
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

/// Feeds a state machine like the server.
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

/// The state machine for the request of a case, and the length of the request.
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
    let text = std::str::from_utf8(&wire).expect("output is text");
    let end = match D::STREAM_TYPE {
        kind if kind.starts_with("text/event-stream") => "\n\n",
        kind if kind.starts_with("application/json") => "]",
        _ => "\n",
    };
    assert!(text.is_empty() || text.ends_with(end), "{text}");

    let mut reply = machine::<D>(case, options);
    drive(&mut reply, events, &mut Fold);
    let shown = format!("{reply:?}").len();
    assert!(shown <= limit, "{shown} bytes folded of {fed}");
    if let Ok(document) = reply.document() {
        // Half a surrogate pair passes unchanged; it is valid in JSON but not in a `String`.
        serde_json::from_slice::<serde::de::IgnoredAny>(&document).expect("a document is JSON");
        assert!(document.len() <= limit, "{} bytes of document for {fed}", document.len());
    }
}

/// The response to one request, or to another one of the dialect.
fn assert_answers<D: Dialect>(dialect: &str, options: &D::Options, spoilt_answer: &Spoilt)
where
    D::Reply: std::fmt::Debug,
{
    // A request that continues another one can't be translated alone.
    let is_whole = |case: &Case| case.answer.is_some() && translated::<D, _>(&case.request, options, |_| ()).is_ok();
    let cases: Vec<Case> = cases(dialect).into_iter().filter(is_whole).collect();
    let (asked, answered) = (&cases[spoilt_answer.asked.index(cases.len())], spoilt_answer.answered.index(cases.len()));
    let bytes = spoilt(cases[answered].answer.as_ref().unwrap(), &spoilt_answer.damages);
    // Repeat the events: memory must not grow without input. The end is omitted, or the response would be
    // complete.
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
        let options = CommonOptions { default_instructions: instructions(), token_limit: TokenLimit::Enforce };
        assert_answers::<Completions>("completions", &options, &spoilt);
    }

    #[test]
    fn messages_replies(spoilt in any_spoilt()) {
        let options = CommonOptions { default_instructions: instructions(), token_limit: TokenLimit::Enforce };
        assert_answers::<Messages>("messages", &options, &spoilt);
    }

    #[test]
    fn ollama_replies(spoilt in any_spoilt()) {
        let options = CommonOptions { default_instructions: instructions(), token_limit: TokenLimit::Enforce };
        assert_answers::<ollama::Chat>("ollama", &options, &spoilt);
        assert_answers::<ollama::Generate>("ollama", &options, &spoilt);
    }

    #[test]
    fn gemini_replies(spoilt in any_spoilt()) {
        let options = CommonOptions { default_instructions: instructions(), token_limit: TokenLimit::Enforce };
        assert_answers::<gemini::StreamEvents>("gemini", &options, &spoilt);
        assert_answers::<gemini::StreamArray>("gemini", &options, &spoilt);
    }

    #[test]
    fn responses_replies(spoilt in any_spoilt()) {
        assert_answers::<Responses>("responses", &responses::Options::default(), &spoilt);
    }
}
