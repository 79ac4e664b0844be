//! Checks what a client has received.
//!
//! A response is correct if it is complete and exact, or if it fails with the API's own error after a correct
//! prefix.

use serde_json::Value;

use super::plan::{Expected, Fault, Plan};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dialect {
    Chat,
    Completions,
    Responses,
    Messages,
    /// Responses over a WebSocket, which supports only streams.
    Socket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    Document,
    Stream,
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    /// The client received an error.
    Failed,
    /// The client has disconnected.
    Left,
}

/// A response as a client received it.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) deltas: u64,
    /// The text in the item of a Responses stream.
    item: Option<String>,
    pub(crate) end: End,
    /// The kind of a failure.
    pub(crate) code: String,
}

type Judged<T> = Result<T, String>;

impl Heard {
    /// The client disconnected before it received anything.
    pub(crate) fn nothing() -> Self {
        Self { text: String::new(), deltas: 0, item: None, end: End::Left, code: String::new() }
    }

    /// A document, or an HTTP error.
    pub(crate) fn document(dialect: Dialect, status: u16, body: &[u8]) -> Judged<Self> {
        let body: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
        if status != 200 {
            let code = failure(dialect, &body["error"])?;
            return Ok(Self { end: End::Failed, code, ..Self::nothing() });
        }
        let text = match dialect {
            Dialect::Chat => &body["choices"][0]["message"]["content"],
            Dialect::Completions => &body["choices"][0]["text"],
            Dialect::Messages => &body["content"][0]["text"],
            Dialect::Responses | Dialect::Socket => &body["output"][0]["content"][0]["text"],
        };
        let text = text.as_str().ok_or_else(|| format!("no text: {body}"))?.to_owned();
        Ok(Self { text, end: End::Whole, ..Self::nothing() })
    }

    /// A stream of events, as far as received.
    pub(crate) fn stream(dialect: Dialect, body: &[u8]) -> Judged<Self> {
        let text = String::from_utf8_lossy(body);
        // Data after the last empty line is an incomplete event.
        let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        let blocks = whole.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':'));
        let mut events = Vec::new();
        for block in blocks {
            let data =
                block.lines().find_map(|line| line.strip_prefix("data: ")).ok_or(format!("no event: {block}"))?;
            if data != "[DONE]" {
                events.push(serde_json::from_str(data).map_err(|error| format!("{error}: {data}"))?);
            }
        }
        Self::events(dialect, &events)
    }

    /// The events of a stream, as far as received.
    pub(crate) fn events(dialect: Dialect, events: &[Value]) -> Judged<Self> {
        let mut heard = Self::nothing();
        for (number, event) in events.iter().enumerate() {
            let is_counted = event["sequence_number"] == number || event["sequence_number"].is_null();
            if dialect == Dialect::Responses && !is_counted {
                return Err(format!("event {number} has another number: {event}"));
            }
            heard.take(dialect, event)?;
        }
        Ok(heard)
    }

    fn take(&mut self, dialect: Dialect, event: &Value) -> Judged<()> {
        let is_usage = event["choices"].as_array().is_some_and(Vec::is_empty);
        let is_end = is_usage || event["type"] == "message_stop";
        if let Some(error) = error_of(event) {
            if self.end != End::Left {
                return Err(format!("a failure after the end: {event}"));
            }
            (self.end, self.code) = (End::Failed, failure(dialect, error)?);
        } else if self.end != End::Left && !is_end {
            return Err(format!("an event after the end: {event}"));
        } else if is_finish(dialect, event) {
            self.end = End::Whole;
        }
        if let Some(delta) = delta(dialect, event).filter(|delta| !delta.is_empty()) {
            self.deltas += 1;
            self.text.push_str(delta);
        }
        if event["type"] == "response.output_item.done" {
            self.item = event["item"]["content"][0]["text"].as_str().map(str::to_owned);
        }
        Ok(())
    }

    /// Whether a response is an allowed result of a plan, after this many calls.
    pub(crate) fn judge(&self, plan: &Plan, calls: usize, mode: Mode, was_away: bool) -> Judged<()> {
        let Some(last) = calls.checked_sub(1) else {
            let is_right = self.end == End::Left || (was_away && self.end == End::Failed);
            return holds(is_right && self.text.is_empty(), || format!("no call was made: {self:?}"));
        };
        let act = plan.acts.get(last).ok_or_else(|| format!("{calls} calls"))?;
        let hidden = &plan.acts[..last];
        // A document is sent when it is complete, so a retry can replace it until then.
        let is_hidden = hidden.iter().all(|act| act.fault.is_some() && (mode == Mode::Document || !act.commits));
        holds(is_hidden, || format!("{calls} calls, though an earlier one was committed to"))?;
        let whole = act.text(act.pieces.len());
        let is_part = whole.starts_with(&self.text);
        match (self.end, act.expected) {
            (End::Whole, Expected::Whole | Expected::Either) => {
                // After an unreadable delta in a Responses stream, the finished item has the complete text; no
                // delta is invented.
                let is_made_good = act.fault == Some(Fault::Spoilt) && self.item.is_some();
                let is_all =
                    (self.text == whole || is_made_good) && self.item.as_ref().is_none_or(|item| *item == whole);
                holds(is_all, || format!("it is not all of {whole:?}: {self:?}"))
            }
            // Data after a lost piece may have been sent before the loss was detected.
            (End::Failed | End::Left, Expected::Either) => Ok(()),
            (End::Failed, Expected::Torn) | (End::Left, _) => {
                holds(is_part, || format!("it is no part of {whole:?}: {:?}", self.text))
            }
            // A failed document has no text.
            (End::Failed, Expected::Told(pieces)) => {
                let reported = if mode == Mode::Document { String::new() } else { act.text(pieces) };
                holds(self.text == reported, || format!("before the failure there was {reported:?}: {:?}", self.text))
            }
            (end, expected) => Err(format!("{end:?}, and not {expected:?}: {:?}", self.code)),
        }
    }
}

/// The error in an event.
fn error_of(event: &Value) -> Option<&Value> {
    let nested = [&event["error"], &event["response"]["error"]].into_iter().find(|error| error.is_object());
    nested.or_else(|| (event["type"] == "error").then_some(event))
}

/// The code of an error object, in the format of the API.
fn failure(dialect: Dialect, error: &Value) -> Judged<String> {
    let message = error["message"].as_str().unwrap_or_default();
    holds(!message.is_empty() && !message.contains('<'), || format!("message: {error}"))?;
    let name = match dialect {
        Dialect::Messages => "type",
        Dialect::Chat | Dialect::Completions | Dialect::Responses | Dialect::Socket => "code",
    };
    error[name].as_str().map(str::to_owned).ok_or_else(|| format!("no {name}: {error}"))
}

fn delta(dialect: Dialect, event: &Value) -> Option<&str> {
    match dialect {
        Dialect::Chat => event["choices"][0]["delta"]["content"].as_str(),
        Dialect::Completions => event["choices"][0]["text"].as_str(),
        Dialect::Messages => event["delta"]["text"].as_str(),
        Dialect::Responses | Dialect::Socket => event["delta"].as_str(),
    }
}

/// Whether an event marks the response as complete.
fn is_finish(dialect: Dialect, event: &Value) -> bool {
    match dialect {
        Dialect::Chat | Dialect::Completions => event["choices"][0]["finish_reason"].is_string(),
        Dialect::Messages => event["type"] == "message_stop",
        Dialect::Responses | Dialect::Socket => event["type"] == "response.completed",
    }
}

fn holds(is_so: bool, otherwise: impl FnOnce() -> String) -> Judged<()> {
    if is_so { Ok(()) } else { Err(otherwise()) }
}
