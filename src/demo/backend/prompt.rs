//! The parts of a valid request that determine the simulated response.
//!
//! Of the user messages, only the last counts, except for scripts and [`OVERFLOW_WORD`]. Whether to call a tool depends
//! only on its last text part, because clients put other text, including tool names, before it.

use serde_json::{Map, Value};

use super::fault::OVERFLOW_WORD;
use super::script::{self, ScriptStep};

/// The tag in which a client that compacts a conversation requests a summary.
const SUMMARY_TAG: &str = "<summary>";
/// Words that request a web search.
const SEARCH_WORDS: [&str; 5] = ["search", "web", "latest", "news", "online"];
/// Words that request an image.
const IMAGE_WORDS: [&str; 6] = ["draw", "paint", "picture", "image", "sketch", "illustration"];

/// The relevant parts of a request.
#[derive(Debug)]
pub(super) struct Prompt<'b> {
    /// The kind of reply that the client requests.
    pub(super) requested: RequestedReply,
    /// All text of the last user message.
    pub(super) user_text: String,
    /// The last text part of that message: what the user asks for.
    pub(super) request_text: &'b str,
    /// Number of images in the input since the last reply.
    pub(super) images: usize,
    /// Number of files in the input since the last reply.
    pub(super) files: usize,
    /// The tool outputs at the end of the input: name of the tool, and text.
    pub(super) returned: Vec<(&'b str, String)>,
    /// Tools that the client runs.
    pub(super) tools: Vec<ClientTool<'b>>,
    /// Types of tools that the backend runs.
    pub(super) hosted: Vec<&'b str>,
    /// The mode of `tool_choice`.
    pub(super) choice: ToolChoice,
    /// Whether parallel calls are allowed.
    pub(super) parallel: bool,
    /// The object `text.format`, or null.
    pub(super) format: &'b Value,
    /// The object `reasoning`, or null.
    pub(super) reasoning: &'b Value,
    /// The next step of the script, if the conversation contains one.
    pub(super) script_step: Option<ScriptStep<'b>>,
    /// Whether the request is to fail as too long, because of [`OVERFLOW_WORD`].
    pub(super) is_too_long: bool,
}

/// A tool that the client runs.
#[derive(Clone, Debug)]
pub(super) struct ClientTool<'b> {
    pub(super) namespace: Option<&'b str>,
    pub(super) name: &'b str,
    pub(super) description: &'b str,
    /// The schema of the arguments, or null. `None` for a tool with plain-text input.
    pub(super) schema: Option<&'b Value>,
}

/// The mode of `tool_choice`. Tools that it doesn't allow are removed from the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToolChoice {
    Auto,
    None,
    Required,
}

/// The kind of reply that the client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestedReply {
    Answer,
    /// A summary, because the client is about to compact the conversation.
    Summary,
    /// A compaction by the backend.
    Compaction,
}

impl<'b> Prompt<'b> {
    /// Reads a request body that `validate` has accepted, or one with at least `input`.
    pub(super) fn read(body: &'b Map<String, Value>) -> Self {
        let input = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
        let last = input.iter().rev().find(|item| item["role"] == "user").map_or(&Value::Null, |item| &item["content"]);
        let texts = texts(last);
        let since = since_last_reply(input);
        let mut prompt = Self {
            requested: requested_reply(input),
            user_text: texts.join(" "),
            request_text: texts.last().copied().unwrap_or_default(),
            images: count(since, "input_image"),
            files: count(since, "input_file"),
            returned: returned(input),
            tools: Vec::new(),
            hosted: Vec::new(),
            choice: ToolChoice::Auto,
            parallel: body.get("parallel_tool_calls").is_none_or(|value| value != false),
            format: body.get("text").map_or(&Value::Null, |text| &text["format"]),
            reasoning: body.get("reasoning").unwrap_or(&Value::Null),
            script_step: None,
            is_too_long: is_too_long(input),
        };
        let listed = input.iter().filter(|item| item["type"] == "additional_tools").map(|item| &item["tools"]);
        for tool in body.get("tools").into_iter().chain(listed).filter_map(Value::as_array).flatten() {
            prompt.offer(tool, None);
        }
        prompt.choose(body.get("tool_choice").unwrap_or(&Value::Null));
        prompt.script_step = script::next_step(input, &prompt.tools, prompt.requested);
        prompt
    }

    /// Returns whether [`Self::request_text`] contains a word. `wanted` must be in lowercase.
    pub(super) fn has_word(&self, wanted: &str) -> bool {
        words(self.request_text).any(|word| word == wanted)
    }

    /// Returns whether the request contains a word that requests a web search.
    pub(super) fn asks_to_search(&self) -> bool {
        SEARCH_WORDS.iter().any(|word| self.has_word(word))
    }

    /// Returns whether the request contains a word that requests an image.
    pub(super) fn asks_for_image(&self) -> bool {
        IMAGE_WORDS.iter().any(|word| self.has_word(word))
    }

    /// Adds a tool that the request lists.
    fn offer(&mut self, tool: &'b Value, namespace: Option<&'b str>) {
        let name = tool["name"].as_str().unwrap_or_default();
        let description = tool["description"].as_str().unwrap_or_default();
        let client_tool = |schema| ClientTool { namespace, name, description, schema };
        match tool["type"].as_str().unwrap_or_default() {
            "function" => self.tools.push(client_tool(Some(&tool["parameters"]))),
            "custom" => self.tools.push(client_tool(None)),
            "namespace" => {
                for inner in tool["tools"].as_array().into_iter().flatten() {
                    self.offer(inner, Some(name));
                }
            }
            hosted => self.hosted.push(hosted),
        }
    }

    /// Applies `tool_choice`.
    fn choose(&mut self, choice: &'b Value) {
        match choice {
            Value::String(mode) if mode == "none" => self.choice = ToolChoice::None,
            Value::String(mode) if mode == "required" => self.choice = ToolChoice::Required,
            Value::Object(_) if choice["type"] == "allowed_tools" => {
                let allowed = choice["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
                self.narrow(allowed);
                if choice["mode"] == "required" {
                    self.choice = ToolChoice::Required;
                }
            }
            Value::Object(_) => {
                self.narrow(std::slice::from_ref(choice));
                self.choice = ToolChoice::Required;
            }
            _ => {}
        }
    }

    /// Removes all tools but these.
    fn narrow(&mut self, allowed: &[Value]) {
        self.tools.retain(|tool| allowed.iter().any(|one| one["name"] == tool.name));
        self.hosted.retain(|kind| allowed.iter().any(|one| one["type"] == *kind));
    }
}

/// Splits text into lowercase words without punctuation.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// Returns the texts of a message's content or of a tool output.
pub(super) fn texts(content: &Value) -> Vec<&str> {
    match content {
        Value::String(text) => vec![text],
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => Vec::new(),
    }
}

/// Returns the kind of reply that the last item or the last user message requests.
fn requested_reply(input: &[Value]) -> RequestedReply {
    if input.last().is_some_and(|item| item["type"] == "compaction_trigger") {
        return RequestedReply::Compaction;
    }
    let last = input.iter().rev().find(|item| item["role"] == "user");
    let is_asked = |text: &str| text.contains(SUMMARY_TAG);
    if last.is_some_and(|item| texts(&item["content"]).into_iter().any(is_asked)) {
        RequestedReply::Summary
    } else {
        RequestedReply::Answer
    }
}

/// Whether a user message contains [`OVERFLOW_WORD`], there are at least two tool outputs, and no summary is requested.
fn is_too_long(input: &[Value]) -> bool {
    let mut user_text = input.iter().filter(|item| item["role"] == "user").flat_map(|item| texts(&item["content"]));
    user_text.any(|text| text.contains(OVERFLOW_WORD))
        && input.iter().filter(|item| is_output(item)).count() > 1
        && requested_reply(input) == RequestedReply::Answer
}

/// The items after the last one of the assistant: a message or a call.
fn since_last_reply(input: &[Value]) -> &[Value] {
    let is_reply = |item: &Value| item["role"] == "assistant" || item["type"].as_str().is_some_and(is_call);
    let from = input.iter().rposition(is_reply).map_or(0, |index| index + 1);
    input.get(from..).unwrap_or_default()
}

/// Returns whether an item type is a tool call.
pub(super) fn is_call(kind: &str) -> bool {
    kind.ends_with("_call")
}

/// Returns whether an item is a tool output.
pub(super) fn is_output(item: &Value) -> bool {
    item["type"].as_str().is_some_and(|kind| kind.ends_with("_call_output"))
}

fn count(items: &[Value], kind: &str) -> usize {
    let parts = items.iter().flat_map(|item| [&item["content"], &item["output"]]);
    parts.filter_map(Value::as_array).flatten().filter(|part| part["type"] == kind).count()
}

/// Returns the tool outputs at the end of the input; developer messages may follow them.
fn returned(input: &[Value]) -> Vec<(&str, String)> {
    let spoken = input.iter().rev().skip_while(|item| item["role"] == "developer");
    let mut outputs: Vec<_> =
        spoken.take_while(|item| is_output(item)).map(|item| (name_of(input, item), output_text(item))).collect();
    outputs.reverse();
    outputs
}

/// Returns the name of the tool whose call an output belongs to.
fn name_of<'b>(input: &'b [Value], output: &Value) -> &'b str {
    let is_its_call =
        |item: &&Value| item["call_id"] == output["call_id"] && item["type"].as_str().is_some_and(is_call);
    input.iter().find(is_its_call).and_then(|call| call["name"].as_str()).unwrap_or("tool")
}

/// Returns the joined texts of an output.
pub(super) fn output_text(item: &Value) -> String {
    texts(&item["output"]).join(" ")
}
