//! Scripted tool calls: the user writes calls into the prompt, and the demo makes one per turn.
//!
//! A script is a user message with lines `demo:call NAME PAYLOAD`. The name may be prefixed with a namespace and
//! a dot. The payload is a JSON object or, for a tool with plain-text input, all text up to the next such line;
//! it is passed on unchanged. After the last call, a message lists the results and the tools that the client doesn't
//! offer, which are skipped. A summary that the client requests contains the remaining lines, and a compaction by the
//! backend contains the progress, so the script continues after both. Nothing is stored: the progress of a script is
//! derived from the conversation.

use serde_json::Value;
use serde_json::value::RawValue;

use super::output::Payload;
use super::prompt::{ClientTool, RequestedReply, is_call, is_output, output_text, texts};

/// The next step of a script.
#[derive(Clone, Debug)]
pub(super) enum ScriptStep<'b> {
    /// Make the next call.
    Call(ClientTool<'b>, Payload),
    /// All calls were made or skipped: report the results.
    Report(Report<'b>),
    /// The client requests a summary, which consists of these remaining lines.
    Summarize(String),
    /// The client requests a compaction, which holds the progress.
    Compact(Progress),
    /// The results were reported. Later messages cause no calls, even if they name tools.
    Finished,
}

/// How far a script got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// This number of lines is done.
    Lines(usize),
    /// The results were reported.
    Finished,
}

/// The results of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report<'b> {
    /// Tool names and results.
    pub(super) returned: Vec<(&'b str, String)>,
    /// Tools that the client doesn't offer.
    pub(super) unavailable: Vec<&'b str>,
}

/// A line of a script: one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step<'b> {
    tool: &'b str,
    payload: &'b str,
}

/// Returns the next step of the last script in a conversation, if there is one.
pub(super) fn next_step<'b>(
    input: &'b [Value],
    tools: &[ClientTool<'b>],
    requested: RequestedReply,
) -> Option<ScriptStep<'b>> {
    let index = input.iter().rposition(|item| !steps(item).is_empty())?;
    let (progress, since) = since_compaction(input.get(index + 1..).unwrap_or_default());
    let done = match progress {
        Progress::Lines(done) if since.iter().all(|item| item["role"] != "assistant") => done,
        _ if requested == RequestedReply::Compaction => return Some(ScriptStep::Compact(Progress::Finished)),
        _ => return Some(ScriptStep::Finished),
    };
    let script = steps(&input[index]);
    let mut made = since.iter().filter(|item| item["type"].as_str().is_some_and(is_call)).peekable();
    let mut report = Report::default();
    for (number, step) in script.iter().enumerate().skip(done) {
        let offer = tools.iter().find(|offer| step.names(offer.namespace, offer.name));
        if let Some(call) = made.next_if(|call| step.is(call)) {
            report.returned.extend(output_of(since, call));
        } else if requested == RequestedReply::Summary {
            return Some(ScriptStep::Summarize(script[number..].iter().map(Step::line).collect()));
        } else if requested == RequestedReply::Compaction {
            return Some(ScriptStep::Compact(Progress::Lines(number)));
        } else if let Some(offer) = offer {
            return Some(ScriptStep::Call(offer.clone(), step.pass_to(offer)));
        } else {
            report.unavailable.push(step.tool);
        }
    }
    if requested == RequestedReply::Compaction {
        return Some(ScriptStep::Compact(Progress::Lines(script.len())));
    }
    Some(ScriptStep::Report(report))
}

/// Splits the items after a script at the last compaction: the progress that it holds, and the items after it.
fn since_compaction(items: &[Value]) -> (Progress, &[Value]) {
    let is_compaction = |item: &Value| item["type"] == "compaction" || item["type"] == "compaction_summary";
    let Some(index) = items.iter().rposition(is_compaction) else { return (Progress::Lines(0), items) };
    let content = items[index]["encrypted_content"].as_str().unwrap_or_default();
    (Progress::read(content), &items[index + 1..])
}

impl Progress {
    const FINISHED: &'static str = "finished";

    /// Adds the progress to the content of a compaction.
    pub(super) fn add_to(self, content: &str) -> String {
        match self {
            Self::Lines(done) => format!("{content}-{done}"),
            Self::Finished => format!("{content}-{}", Self::FINISHED),
        }
    }

    fn read(content: &str) -> Self {
        match content.rsplit_once('-') {
            Some((_, Self::FINISHED)) => Self::Finished,
            Some((_, done)) => Self::Lines(done.parse().unwrap_or(0)),
            None => Self::Lines(0),
        }
    }
}

impl Step<'_> {
    /// Whether this line made the call.
    fn is(&self, call: &Value) -> bool {
        self.names(call["namespace"].as_str(), call["name"].as_str().unwrap_or_default())
    }

    /// Whether this line names the tool.
    fn names(&self, namespace: Option<&str>, name: &str) -> bool {
        match self.tool.split_once('.') {
            Some((space, tool)) => tool == name && Some(space) == namespace,
            None => self.tool == name,
        }
    }

    fn line(&self) -> String {
        format!("demo:call {} {}\n", self.tool, self.payload)
    }

    /// Returns the payload in the form that the tool accepts.
    fn pass_to(&self, offer: &ClientTool<'_>) -> Payload {
        if offer.schema.is_none() {
            return Payload::Input(self.payload.to_owned());
        }
        let object = serde_json::Deserializer::from_str(self.payload).into_iter::<&RawValue>().next();
        let arguments = object.and_then(Result::ok).map_or(self.payload, RawValue::get);
        Payload::Arguments(if arguments.is_empty() { "{}" } else { arguments }.to_owned())
    }
}

/// Returns the script in an item; only user messages can contain one.
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
