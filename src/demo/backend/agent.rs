//! Acting as an agent by script: calls that the person wrote into the prompt, one in each turn.
//!
//! A script is made of lines `demo:call NAME PAYLOAD` in one user message. The name may have its
//! namespace and a dot before it. The payload is a JSON object or, for a tool that takes plain text,
//! all that follows up to the next such line. It is passed on as it was written, so that a script
//! inside a payload is performed by whoever is told it. Each call is made when the one before has
//! returned; then a text tells what they returned. Tools that are not on offer are told, too, and
//! never called. Asked for a summary, it writes down what is left, so that a conversation that was
//! compacted goes on. Pure: how far a script has come is read from the conversation.

use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::Payload;
use super::prompt::{Offer, Wish, is_call, is_output, output_text, texts};

/// What a script wants of a turn.
#[derive(Clone, Debug)]
pub(super) enum Turn<'b> {
    /// The next call.
    Call(Offer<'b>, Payload),
    /// Nothing is left to call: what has to be told.
    Report(Report<'b>),
    /// The conversation is about to be forgotten: the lines that have yet to be carried out.
    Rest(String),
    /// All of it has been told: what a program says from then on, tool names included, asks for no call.
    Over,
}

/// How a script went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report<'b> {
    /// What the calls returned, with the names of the tools.
    pub(super) returned: Vec<(&'b str, String)>,
    /// Tools that are not on offer.
    pub(super) absent: Vec<&'b str>,
}

/// A line of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step<'b> {
    tool: &'b str,
    payload: &'b str,
}

/// What the last script of a conversation wants now; `None` where there is none.
pub(super) fn turn<'b>(input: &'b [Value], tools: &[Offer<'b>], wish: Wish) -> Option<Turn<'b>> {
    let place = input.iter().rposition(|item| !steps(item).is_empty())?;
    let since = input.get(place + 1..).unwrap_or_default();
    if since.iter().any(|item| item["role"] == "assistant") {
        return Some(Turn::Over);
    }
    let script = steps(&input[place]);
    let mut made = since.iter().filter(|item| item["type"].as_str().is_some_and(is_call)).peekable();
    let mut report = Report::default();
    for (index, step) in script.iter().enumerate() {
        let offer = tools.iter().find(|offer| step.names(offer.namespace, offer.name));
        if let Some(call) = made.next_if(|call| step.is(call)) {
            report.returned.extend(output_of(since, call));
        } else if wish == Wish::Summary {
            return Some(Turn::Rest(script[index..].iter().map(Step::line).collect()));
        } else if let Some(offer) = offer {
            return Some(Turn::Call(offer.clone(), step.pass_to(offer)));
        } else {
            report.absent.push(step.tool);
        }
    }
    Some(Turn::Report(report))
}

impl Step<'_> {
    fn is(&self, call: &Value) -> bool {
        self.names(call["namespace"].as_str(), call["name"].as_str().unwrap_or_default())
    }

    fn names(&self, namespace: Option<&str>, name: &str) -> bool {
        match self.tool.split_once('.') {
            Some((space, tool)) => tool == name && Some(space) == namespace,
            None => self.tool == name,
        }
    }

    fn line(&self) -> String {
        format!("demo:call {} {}\n", self.tool, self.payload)
    }

    fn pass_to(&self, offer: &Offer<'_>) -> Payload {
        if offer.schema.is_none() {
            return Payload::Input(self.payload.to_owned());
        }
        let object = serde_json::Deserializer::from_str(self.payload).into_iter::<&RawValue>().next();
        let arguments = object.and_then(Result::ok).map_or(self.payload, RawValue::get);
        Payload::Arguments(if arguments.is_empty() { "{}" } else { arguments }.to_owned())
    }
}

/// The script in an item: none, unless a person says it.
fn steps(item: &Value) -> Vec<Step<'_>> {
    if item["role"] != "user" {
        return Vec::new();
    }
    texts(&item["content"]).into_iter().flat_map(steps_in).collect()
}

fn steps_in(text: &str) -> impl Iterator<Item = Step<'_>> {
    let mut pieces = text.split("\ndemo:call ");
    let opening = pieces.next().and_then(|piece| piece.strip_prefix("demo:call "));
    opening.into_iter().chain(pieces).map(|piece| {
        let (tool, payload) = piece.trim().split_once(char::is_whitespace).unwrap_or((piece.trim(), ""));
        Step { tool, payload: payload.trim() }
    })
}

fn output_of<'b>(items: &'b [Value], call: &'b Value) -> Option<(&'b str, String)> {
    let output = items.iter().find(|item| is_output(item) && item["call_id"] == call["call_id"])?;
    Some((call["name"].as_str()?, output_text(output)))
}

#[cfg(test)]
mod tests;
