//! What a request asks for, read from a body that has passed.
//!
//! Only the last thing that the person said counts, and of that only the last part of text for the
//! decision whether to call a tool: programs put much else around it, tool names included.

use serde_json::{Map, Value};

use super::agent::{self, Turn};
use super::fault::OVERFLOW_WORD;

/// Programs that compact a conversation ask for a summary between such tags.
const SUMMARY_TAG: &str = "<summary>";

/// What is asked.
#[derive(Debug)]
pub(super) struct Prompt<'b> {
    /// All texts of the last user message.
    pub(super) said: String,
    /// The last of these texts.
    pub(super) request: &'b str,
    /// Pictures since the last answer.
    pub(super) pictures: usize,
    /// Files since the last answer.
    pub(super) files: usize,
    /// What the tools returned that were called in the last answer, with the tools' names.
    pub(super) returned: Vec<(&'b str, String)>,
    /// Callable tools on offer.
    pub(super) tools: Vec<Offer<'b>>,
    /// Whether the hosted tools are on offer.
    pub(super) hosted: Vec<&'b str>,
    /// What the choice says.
    pub(super) choice: Choice,
    /// Whether several calls may be made at once.
    pub(super) parallel: bool,
    /// The object `text.format`, or null.
    pub(super) format: &'b Value,
    /// The object `reasoning`, or null.
    pub(super) reasoning: &'b Value,
    /// What the script says that the person wrote, if one is being carried out.
    pub(super) turn: Option<Turn<'b>>,
    /// Whether the conversation has to be compacted, as a word in it wants.
    pub(super) is_too_long: bool,
}

/// A tool that the client runs.
#[derive(Clone, Debug)]
pub(super) struct Offer<'b> {
    pub(super) namespace: Option<&'b str>,
    pub(super) name: &'b str,
    /// `None` for a tool that takes plain text.
    pub(super) schema: Option<&'b Value>,
}

/// How free the choice of a tool is. (The tools left to choose from are those in the prompt.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Free,
    Never,
    Must,
}

/// What is wanted of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Answer,
    /// A summary, to go on from: the conversation is about to be forgotten.
    Summary,
}

impl<'b> Prompt<'b> {
    /// Reads a body.
    pub(super) fn read(body: &'b Map<String, Value>) -> Self {
        let input = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
        let last = input.iter().rev().find(|item| item["role"] == "user").map_or(&Value::Null, |item| &item["content"]);
        let texts = texts(last);
        let since = since_last_answer(input);
        let mut prompt = Self {
            said: texts.join(" "),
            request: texts.last().copied().unwrap_or_default(),
            pictures: count(since, "input_image"),
            files: count(since, "input_file"),
            returned: returned(input),
            tools: Vec::new(),
            hosted: Vec::new(),
            choice: Choice::Free,
            parallel: body.get("parallel_tool_calls").is_none_or(|value| value != false),
            format: body.get("text").map_or(&Value::Null, |text| &text["format"]),
            reasoning: body.get("reasoning").unwrap_or(&Value::Null),
            turn: None,
            is_too_long: is_too_long(input),
        };
        let listed = input.iter().filter(|item| item["type"] == "additional_tools").map(|item| &item["tools"]);
        for tool in body.get("tools").into_iter().chain(listed).filter_map(Value::as_array).flatten() {
            prompt.offer(tool, None);
        }
        prompt.choose(body.get("tool_choice").unwrap_or(&Value::Null));
        prompt.turn = agent::turn(input, &prompt.tools, wish(input));
        prompt
    }

    /// Whether a whole word stands in the request, in any case.
    pub(super) fn has_word(&self, wanted: &str) -> bool {
        words(self.request).any(|word| word == wanted)
    }

    fn offer(&mut self, tool: &'b Value, namespace: Option<&'b str>) {
        let name = tool["name"].as_str().unwrap_or_default();
        match tool["type"].as_str().unwrap_or_default() {
            "function" => self.tools.push(Offer { namespace, name, schema: Some(&tool["parameters"]) }),
            "custom" => self.tools.push(Offer { namespace, name, schema: None }),
            "namespace" => {
                for inner in tool["tools"].as_array().into_iter().flatten() {
                    self.offer(inner, Some(name));
                }
            }
            hosted => self.hosted.push(hosted),
        }
    }

    fn choose(&mut self, choice: &'b Value) {
        match choice {
            Value::String(mode) if mode == "none" => self.choice = Choice::Never,
            Value::String(mode) if mode == "required" => self.choice = Choice::Must,
            Value::Object(_) if choice["type"] == "allowed_tools" => {
                let allowed = choice["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
                self.narrow(allowed);
                if choice["mode"] == "required" {
                    self.choice = Choice::Must;
                }
            }
            Value::Object(_) => {
                self.narrow(std::slice::from_ref(choice));
                self.choice = Choice::Must;
            }
            _ => {}
        }
    }

    fn narrow(&mut self, allowed: &[Value]) {
        self.tools.retain(|tool| allowed.iter().any(|one| one["name"] == tool.name));
        self.hosted.retain(|kind| allowed.iter().any(|one| one["type"] == *kind));
    }
}

/// The words of a text, in lower case, without what surrounds them.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// The texts of a content or an output.
pub(super) fn texts(content: &Value) -> Vec<&str> {
    match content {
        Value::String(text) => vec![text],
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => Vec::new(),
    }
}

/// What the last thing said by a person asks for, as programs do that compact a conversation.
fn wish(input: &[Value]) -> Wish {
    let last = input.iter().rev().find(|item| item["role"] == "user");
    let is_asked = |text: &str| text.contains(SUMMARY_TAG);
    if last.is_some_and(|item| texts(&item["content"]).into_iter().any(is_asked)) {
        Wish::Summary
    } else {
        Wish::Answer
    }
}

fn is_too_long(input: &[Value]) -> bool {
    let mut said = input.iter().filter(|item| item["role"] == "user").flat_map(|item| texts(&item["content"]));
    said.any(|text| text.contains(OVERFLOW_WORD))
        && input.iter().filter(|item| is_output(item)).count() > 1
        && wish(input) == Wish::Answer
}

fn since_last_answer(input: &[Value]) -> &[Value] {
    let is_answer = |item: &Value| item["role"] == "assistant" || item["type"].as_str().is_some_and(is_call);
    let from = input.iter().rposition(is_answer).map_or(0, |place| place + 1);
    input.get(from..).unwrap_or_default()
}

/// Whether a type is that of a call.
pub(super) fn is_call(kind: &str) -> bool {
    kind.ends_with("_call")
}

/// Whether an item answers a call.
pub(super) fn is_output(item: &Value) -> bool {
    item["type"].as_str().is_some_and(|kind| kind.ends_with("_call_output"))
}

fn count(items: &[Value], kind: &str) -> usize {
    let parts = items.iter().flat_map(|item| [&item["content"], &item["output"]]);
    parts.filter_map(Value::as_array).flatten().filter(|part| part["type"] == kind).count()
}

/// The outputs at the end of the input. What the program says after them doesn't end them.
fn returned(input: &[Value]) -> Vec<(&str, String)> {
    let spoken = input.iter().rev().skip_while(|item| item["role"] == "developer");
    let mut outputs: Vec<_> =
        spoken.take_while(|item| is_output(item)).map(|item| (name_of(input, item), output_text(item))).collect();
    outputs.reverse();
    outputs
}

fn name_of<'b>(input: &'b [Value], output: &Value) -> &'b str {
    let is_its_call =
        |item: &&Value| item["call_id"] == output["call_id"] && item["type"].as_str().is_some_and(is_call);
    input.iter().find(is_its_call).and_then(|call| call["name"].as_str()).unwrap_or("tool")
}

/// All texts of an output.
pub(super) fn output_text(item: &Value) -> String {
    texts(&item["output"]).join(" ")
}
