//! What the simulation says and does about a prompt.
//!
//! A pure function of the prompt: a call where one is asked for, a schema filled where one is
//! given, else a text that repeats what was said and says that no model wrote it.

use serde_json::{Value, json};

use super::agent::Turn;
use super::fault::Fault;
use super::fill::{Reach, fill};
use super::hints::Hints;
use super::prompt::{Choice, Offer, Prompt, words};

/// Longest quotation of what was said or returned.
const QUOTE_CHARACTERS: usize = 400;
/// Most calls in one answer.
const MOST_CALLS: usize = 4;
const TOOL_WORDS: [&str; 4] = ["tool", "tools", "function", "call"];
const BOTH_WORDS: [&str; 3] = ["both", "two", "parallel"];
const SEARCH_WORDS: [&str; 5] = ["search", "web", "latest", "news", "online"];
const DRAW_WORDS: [&str; 6] = ["draw", "paint", "picture", "image", "sketch", "illustration"];
/// Words of tool names that say nothing about the tool.
const PLAIN_WORDS: [&str; 12] =
    ["get", "set", "list", "read", "find", "make", "with", "from", "this", "that", "what", "your"];
const SOURCE_URL: &str = "https://example.invalid/demo";

/// An item of the answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// Thinking, with a summary if one is asked for.
    Reasoning { summary: Option<String> },
    /// Text; `source` is the part of it that cites a page.
    Message { text: String, source: Option<String> },
    /// Text that declines.
    Refusal { text: String },
    /// A call of a client's tool.
    Call { namespace: Option<String>, name: String, payload: Payload },
    /// A search that the backend makes itself.
    Search { query: String },
    /// A picture that the backend makes itself.
    Picture { prompt: String },
}

/// What a call passes on.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Payload {
    /// JSON text for a function.
    Arguments(String),
    /// Plain text for a custom tool.
    Input(String),
}

/// The items that answer a prompt.
pub(super) fn answer(prompt: &Prompt<'_>, fault: Option<Fault>) -> Vec<Output> {
    let mut outputs = Vec::new();
    if prompt.reasoning["effort"] != "none" {
        outputs.push(Output::Reasoning { summary: summary(prompt) });
    }
    if fault == Some(Fault::Refuse) {
        outputs.push(Output::Refusal {
            text: "This is the codex-proxy demo: it was asked to decline, and does.".to_owned(),
        });
        return outputs;
    }
    let calls = if prompt.choice == Choice::Never { Vec::new() } else { calls(prompt) };
    if calls.is_empty() {
        if prompt.turn.is_none() {
            hosted(prompt, &mut outputs);
        }
        outputs.push(message(prompt, &outputs));
    } else {
        outputs.extend(calls);
    }
    outputs
}

fn summary(prompt: &Prompt<'_>) -> Option<String> {
    prompt.reasoning["summary"].as_str()?;
    Some("**Simulating thought**\n\nNothing thinks here: this is the codex-proxy demo.".to_owned())
}

fn calls(prompt: &Prompt<'_>) -> Vec<Output> {
    match &prompt.turn {
        Some(Turn::Call(tool, payload)) => return vec![call(tool, payload.clone())],
        Some(Turn::Report(_) | Turn::Rest(_) | Turn::Over) => return Vec::new(),
        None => {}
    }
    let hints = Hints::read(&prompt.said);
    let asked = asked_for(prompt);
    let is_both = words(prompt.request).any(|word| BOTH_WORDS.contains(&word.as_str()));
    let tools: Vec<&Offer<'_>> = match asked.as_slice() {
        [] => return Vec::new(),
        [first, ..] if !prompt.parallel => vec![*first],
        [only] => vec![*only; times(only, &hints, is_both)],
        several => several.iter().copied().take(MOST_CALLS).collect(),
    };
    let is_repeated = asked.len() == 1;
    let turn = |index: usize| if is_repeated { index } else { 0 };
    let filled = |(index, tool)| call(tool, payload(tool, prompt, &hints.for_call(turn(index))));
    tools.into_iter().enumerate().map(filled).collect()
}

/// How often one tool is called: once for each place, or twice if asked to.
fn times(tool: &Offer<'_>, hints: &Hints, is_both: bool) -> usize {
    let members = tool.schema.and_then(|schema| schema["properties"].as_object());
    let takes_place = members.is_some_and(|members| members.keys().any(|name| Hints::is_place(name)));
    let places = if takes_place { hints.count() } else { 1 };
    places.max(if is_both { 2 } else { 1 }).min(MOST_CALLS)
}

/// The tools that the prompt asks for; after their outputs only those that it must call.
fn asked_for<'p, 'b>(prompt: &'p Prompt<'b>) -> Vec<&'p Offer<'b>> {
    let is_forced = prompt.choice == Choice::Must;
    if !is_forced && !prompt.returned.is_empty() {
        return Vec::new();
    }
    let request = prompt.request.to_lowercase();
    let named: Vec<_> = prompt.tools.iter().filter(|tool| request.contains(&tool.name.to_lowercase())).collect();
    if !named.is_empty() {
        return named;
    }
    let meant: Vec<_> = prompt.tools.iter().filter(|tool| is_meant(tool, prompt)).collect();
    if !meant.is_empty() {
        return meant;
    }
    let is_asked = is_forced || TOOL_WORDS.iter().any(|word| prompt.has_word(word));
    if is_asked { prompt.tools.iter().take(1).collect() } else { Vec::new() }
}

/// Whether a telling word of the tool's name stands in the request, as `weather` of `get_weather`.
fn is_meant(tool: &Offer<'_>, prompt: &Prompt<'_>) -> bool {
    let telling = |word: &String| word.chars().count() > 3 && !PLAIN_WORDS.contains(&word.as_str());
    words(&split_humps(tool.name)).filter(telling).any(|word| prompt.has_word(&word))
}

/// `getWeather` as `get Weather`.
fn split_humps(name: &str) -> String {
    let mut split = String::new();
    for character in name.chars() {
        if character.is_uppercase() {
            split.push(' ');
        }
        split.push(character);
    }
    split
}

fn payload(tool: &Offer<'_>, prompt: &Prompt<'_>, hints: &Hints) -> Payload {
    match tool.schema {
        Some(Value::Null) => Payload::Arguments("{}".to_owned()),
        Some(schema) => Payload::Arguments(fill(schema, Reach::Required, hints).to_string()),
        None => Payload::Input(quote(prompt.request)),
    }
}

fn call(tool: &Offer<'_>, payload: Payload) -> Output {
    Output::Call { namespace: tool.namespace.map(str::to_owned), name: tool.name.to_owned(), payload }
}

/// What the backend's own tools do.
fn hosted(prompt: &Prompt<'_>, outputs: &mut Vec<Output>) {
    let wanted = |kind: &str, asking: &[&str]| {
        let is_forced = prompt.choice == Choice::Must && prompt.tools.is_empty();
        let is_asked = prompt.choice != Choice::Never && asking.iter().any(|word| prompt.has_word(word));
        prompt.hosted.contains(&kind) && (is_forced || is_asked)
    };
    if wanted("web_search", &SEARCH_WORDS) {
        outputs.push(Output::Search { query: quote(prompt.request) });
    }
    if wanted("image_generation", &DRAW_WORDS) {
        outputs.push(Output::Picture { prompt: quote(prompt.request) });
    }
}

fn message(prompt: &Prompt<'_>, before: &[Output]) -> Output {
    let filled = match prompt.format["type"].as_str() {
        Some("json_schema") => fill(&prompt.format["schema"], Reach::All, &Hints::read(&prompt.said)),
        Some("json_object") => object(prompt),
        _ => return prose(prompt, before),
    };
    Output::Message { text: filled.to_string(), source: None }
}

fn object(prompt: &Prompt<'_>) -> Value {
    let mut object = json!({ "demo": true, "note": "no model wrote this", "you_said": quote(&prompt.said) });
    if !prompt.returned.is_empty() {
        object["tool_outputs"] = prompt.returned.iter().map(|(_, output)| quote(output)).collect();
    }
    object
}

fn prose(prompt: &Prompt<'_>, before: &[Output]) -> Output {
    let mut sentences = vec!["This is the codex-proxy demo: no model wrote this.".to_owned()];
    sentences.extend(told(prompt));
    sentences.extend(seen(prompt.pictures, "image"));
    sentences.extend(seen(prompt.files, "file"));
    let has = |wanted: fn(&Output) -> bool| before.iter().any(wanted);
    if has(|output| matches!(output, Output::Picture { .. })) {
        sentences.push("Here is a picture of one red dot.".to_owned());
    }
    let is_searched = has(|output| matches!(output, Output::Search { .. }));
    let source = is_searched.then(|| format!("([example.invalid]({SOURCE_URL}))"));
    if let Some(source) = &source {
        sentences.push(format!("Nothing was searched {source}."));
    }
    Output::Message { text: sentences.join(" "), source }
}

/// What the tools returned, or else what was said.
fn told(prompt: &Prompt<'_>) -> Vec<String> {
    let returned = |(name, output): &(&str, String)| format!("The tool {name} returned: {}", quote(output));
    match &prompt.turn {
        Some(Turn::Report(report)) => {
            let absent = report.absent.iter().map(|name| format!("The tool {} is not on offer.", quote(name)));
            report.returned.iter().map(returned).chain(absent).collect()
        }
        Some(Turn::Rest(lines)) => vec![format!("<summary>\nWhat is left to do:\n{lines}</summary>")],
        _ if prompt.returned.is_empty() => vec![format!("You said: {}", quote(&prompt.said))],
        _ => prompt.returned.iter().map(returned).collect(),
    }
}

fn seen(count: usize, thing: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("I see 1 {thing}.")),
        count => Some(format!("I see {count} {thing}s.")),
    }
}

/// A text, shortened if it is long.
fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(QUOTE_CHARACTERS).collect();
    if text.chars().nth(QUOTE_CHARACTERS).is_some() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests;
