//! The behavior of the backend for one request, call by call. It depends only on the random generator, so the
//! expected text is known.
//!
//! A text consists of pieces that contain the number of the request, the number of the call, and their own, so
//! pieces that are lost, duplicated, reordered, or from another response are detected.

use std::time::Duration;

use serde_json::json;

use crate::Dice;
use crate::fake::{FakeUpstream, Script};

/// Three attempts, each repeated once if its connection was stale.
const CALLS: usize = 6;
/// One call in this many has a fault.
const FAULTS: u64 = 20;
/// One response in this many is large: more than the socket buffers hold.
const BIG: u64 = 150;
const BIG_PIECES: usize = 100;
const BIG_PIECE_BYTES: u64 = 16 * 1024;
/// The event that commits a response: `response.output_item.added`.
const COMMITTING: usize = 1;
/// Events before the first piece.
const BEFORE_TEXT: usize = 2;

/// Characters that need escaping, long UTF-8 sequences, and text that looks like framing.
const WORDS: [&str; 10] = [
    "lorem ipsum ",
    "Grüße 👋 ",
    "\"quoted\\\" ",
    "line\r\nline\n",
    "data: {}\n\n",
    "\u{2028}\u{0}\u{7f}",
    "日本語",
    "x",
    " ",
    "[DONE]",
];

/// A fault of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The connection is closed or reset instead of a response.
    Closed,
    Reset,
    /// Nothing is sent.
    Silent,
    /// HTTP errors.
    TooMany,
    Unavailable,
    Page,
    Invalid,
    /// In the middle: the connection is closed or reset; the stream ends properly, but too early; it stalls; it
    /// ends within an event.
    Cut,
    Torn,
    Short,
    Stalled,
    Half,
    /// An event is unreadable, and the response continues.
    Spoilt,
    /// The backend reports a failure.
    Failed,
    Error,
}

/// The expected result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Whole,
    /// A failure, after exactly this many pieces.
    Told(usize),
    /// A failure, at any position: a reset connection discards unread data.
    Torn,
    /// Complete, or a failure: a piece may be lost.
    Either,
}

/// Complete texts are repeated after their pieces.
#[derive(Clone, Copy, PartialEq)]
enum Closing {
    Item,
    TextAndItem,
}

/// The behavior of the backend for one call.
pub(crate) struct Act {
    pub(crate) pieces: Vec<String>,
    pub(crate) fault: Option<Fault>,
    pub(crate) expected: Expected,
    /// Whether a retry can't hide its fault.
    pub(crate) commits: bool,
    script: Script,
}

/// The behavior of the backend for a request.
pub(crate) struct Plan {
    /// The originator of the request.
    pub(crate) name: String,
    pub(crate) acts: Vec<Act>,
}

impl Fault {
    const ALL: [Self; 15] = [
        Self::Closed,
        Self::Reset,
        Self::Silent,
        Self::TooMany,
        Self::Unavailable,
        Self::Page,
        Self::Invalid,
        Self::Cut,
        Self::Torn,
        Self::Short,
        Self::Stalled,
        Self::Half,
        Self::Spoilt,
        Self::Failed,
        Self::Error,
    ];

    /// The response that replaces a stream.
    fn refusal(self) -> Option<Script> {
        let busy = r#"{"error":{"code":"server_is_overloaded","message":"Busy."}}"#;
        let slow = r#"{"error":{"code":"rate_limit_exceeded","message":"Slow down."}}"#;
        let wrong = r#"{"error":{"code":"invalid_prompt","message":"No."}}"#;
        Some(match self {
            Self::Closed => Script::default().cut(),
            Self::Reset => Script::default().reset(),
            Self::Silent => Script::silence(),
            Self::TooMany => Script::json(429, slow),
            Self::Unavailable => Script::json(503, busy),
            Self::Page => Script::answer(502, &[("content-type", "text/html")], "<html><h1>Bad gateway</h1></html>"),
            Self::Invalid => Script::json(400, wrong),
            _ => return None,
        })
    }
}

impl Plan {
    /// The plan of the request with this number; `pace` is the mean time between events.
    pub(crate) fn new(number: u64, pace: Duration, dice: &mut Dice) -> Self {
        let mut acts: Vec<Act> = Vec::new();
        // After a successful call there is no other one.
        while acts.len() < CALLS && acts.last().is_none_or(|act| act.fault.is_some()) {
            // Faults occur together, or retries would hide nearly all of them.
            let has_fault = dice.one_in(if acts.is_empty() { FAULTS } else { 2 });
            let fault = has_fault.then(|| Fault::ALL[index(dice, Fault::ALL.len())]);
            acts.push(Act::new(&format!("{number}.{}", acts.len()), fault, pace, dice));
        }
        Self { name: format!("soak-{number}"), acts }
    }

    /// A plan without faults.
    pub(crate) fn smooth(number: u64) -> Self {
        let act = Act::new(&format!("{number}.0"), None, Duration::ZERO, &mut Dice(number));
        Self { name: format!("soak-{number}"), acts: vec![act] }
    }

    /// The same for requests with another originator.
    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Whether its response may be too large to be stored for later requests.
    pub(crate) fn is_big(&self) -> bool {
        self.acts.iter().any(|act| act.pieces.len() >= BIG_PIECES)
    }

    /// Scripts the backend.
    pub(crate) fn give_to(&self, upstream: &FakeUpstream) {
        for act in &self.acts {
            upstream.on(&format!("/of/{}", self.name), act.script.clone());
        }
    }
}

impl Act {
    fn new(label: &str, fault: Option<Fault>, pace: Duration, dice: &mut Dice) -> Self {
        let pieces = pieces(label, dice);
        if let Some(script) = fault.and_then(Fault::refusal) {
            return Self { pieces, fault, expected: Expected::Told(0), commits: false, script };
        }
        let closing = if dice.one_in(2) { Closing::TextAndItem } else { Closing::Item };
        let events = events(label, &pieces, closing);
        // Large responses are sent faster to limit their duration.
        let pace = if pieces.len() < BIG_PIECES { pace } else { pace / 8 };
        let at = fault.map_or(events.len(), |_| index(dice, events.len()));
        let expected = match fault {
            None => Expected::Whole,
            Some(Fault::Torn) => Expected::Torn,
            Some(Fault::Spoilt) => Expected::Either,
            Some(_) => Expected::Told(at.saturating_sub(BEFORE_TEXT).min(pieces.len())),
        };
        // A reset connection may discard the event that commits the response.
        let commits = at > COMMITTING && fault != Some(Fault::Torn);
        let script = play(&events, at, fault, pace, dice);
        Self { pieces, fault, expected, commits, script }
    }

    /// The text of the first pieces.
    pub(crate) fn text(&self, pieces: usize) -> String {
        self.pieces[..pieces].concat()
    }
}

/// A number below this one.
pub(crate) fn index(dice: &mut Dice, below: usize) -> usize {
    usize::try_from(dice.up_to(below as u64 - 1)).unwrap()
}

fn pieces(label: &str, dice: &mut Dice) -> Vec<String> {
    let (count, largest) = if dice.one_in(BIG) { (BIG_PIECES, BIG_PIECE_BYTES) } else { (3 + index(dice, 61), 60) };
    let piece = |number| {
        let largest = if dice.one_in(40) { largest.max(3000) } else { largest };
        let mut text = format!("<{label}.{number}>");
        let length = text.len() + usize::try_from(dice.up_to(largest)).unwrap();
        while text.len() < length {
            text.push_str(WORDS[index(dice, WORDS.len())]);
        }
        text
    };
    (0..count).map(piece).collect()
}

/// The events of a complete response.
fn events(label: &str, pieces: &[String], closing: Closing) -> Vec<String> {
    let (id, item) = (format!("resp_{label}"), format!("msg_{label}"));
    let response = json!({"id": id, "created_at": 1_700_000_000, "model": "gpt-5.5"});
    let message = json!({"type": "message", "id": item, "role": "assistant", "content": []});
    let mut done = message.clone();
    done["content"] = json!([{"type": "output_text", "text": pieces.concat(), "annotations": []}]);
    let mut completed = response.clone();
    completed["status"] = json!("completed");
    completed["usage"] = json!({"input_tokens": 3, "output_tokens": pieces.len(), "total_tokens": pieces.len() + 3});
    let mut events = vec![
        json!({"type": "response.created", "response": response}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": message}),
    ];
    events.extend(pieces.iter().map(|piece| {
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": item, "delta": piece})
    }));
    if closing == Closing::TextAndItem {
        events.push(json!({"type": "response.output_text.done", "output_index": 0, "content_index": 0, "item_id": item, "text": pieces.concat()}));
    }
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": done}));
    events.push(json!({"type": "response.completed", "response": completed}));
    events.iter().map(ToString::to_string).collect()
}

/// The events up to the fault, in pieces of random size and timing, and the fault.
fn play(events: &[String], at: usize, fault: Option<Fault>, pace: Duration, dice: &mut Dice) -> Script {
    let send = |script: Script, events: &[String], dice: &mut Dice| {
        events.iter().fold(script, |script, event| sprinkle(script, &format!("data: {event}\n\n"), pace, dice))
    };
    let script = send(Script::stream(&[]), &events[..at], dice);
    let failed = json!({"type": "response.failed", "response": {"id": "resp_failed", "status": "failed", "error": {"code": "server_is_overloaded", "message": "Busy."}}});
    let error = json!({"type": "error", "error": {"code": "server_is_overloaded", "message": "Busy."}});
    match fault {
        None | Some(Fault::Short) => script.end(),
        Some(Fault::Torn) => script.reset(),
        Some(Fault::Stalled) => script.hang(),
        Some(Fault::Half) => script.chunk(half(&events[at])).cut(),
        Some(Fault::Spoilt) => {
            let script = script.chunk(format!("{}\n\n", half(&events[at])));
            send(script, &events[at + 1..], dice).end()
        }
        Some(Fault::Failed) => script.event(&failed.to_string()).end(),
        Some(Fault::Error) => script.event(&error.to_string()).end(),
        Some(_) => script.cut(),
    }
}

/// The first half of an event.
fn half(event: &str) -> String {
    let characters = event.chars().count();
    format!("data: {}", event.chars().take(characters / 2).collect::<String>())
}

/// Some bytes alone, some together with the following ones, with delays between them.
fn sprinkle(script: Script, bytes: &str, pace: Duration, dice: &mut Dice) -> Script {
    let mut pause = |script: Script| {
        // Every third piece follows at once, and the others compensate for it.
        let micros = if dice.one_in(3) { 0 } else { dice.up_to(3 * u64::try_from(pace.as_micros()).unwrap()) };
        script.pause(Duration::from_micros(micros))
    };
    let script = pause(script);
    if !dice.one_in(4) {
        return script.chunk(bytes);
    }
    let (first, second) = bytes.as_bytes().split_at(index(dice, bytes.len()));
    script.chunk(first).pause(pace / 4).chunk(second)
}
