//! One cell of the matrix: a row, for a client of one dialect, as a stream or a document.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use crate::table::Row;
use crate::wire::{Answer, Ask};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Chat,
    Completions,
    Responses,
    Messages,
    Ollama,
    Gemini,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Document,
    Stream,
}

/// Marks a wait that is left to the client, which may retry after it.
const AGAIN: &str = " again";
/// A wait of ten seconds or less.
const SOON: &str = "soon";

/// A row in one request format.
pub(crate) struct Cell<'r> {
    pub(crate) number: usize,
    pub(crate) row: &'r Row,
    pub(crate) dialect: Dialect,
    pub(crate) mode: Mode,
}

/// What the client must receive.
struct ExpectedError<'t> {
    status: u16,
    kind: &'t str,
    /// `-` for none.
    code: &'t str,
    param: Option<&'t str>,
}

type Verdict = Result<(), String>;

impl Dialect {
    pub(crate) const ALL: [Self; 6] =
        [Self::Chat, Self::Completions, Self::Responses, Self::Messages, Self::Ollama, Self::Gemini];

    pub(crate) fn ask(self, mode: Mode) -> Ask {
        let prompt = json!([{"role": "user", "content": "hi"}]);
        let (path, mut body) = match self {
            Self::Chat => ("/v1/chat/completions", json!({"messages": prompt})),
            Self::Completions => ("/v1/completions", json!({"prompt": "hi"})),
            Self::Responses => ("/v1/responses", json!({"input": prompt})),
            Self::Messages => ("/v1/messages", json!({"messages": prompt, "max_tokens": 100})),
            Self::Ollama => ("/api/chat", json!({"messages": prompt})),
            Self::Gemini => {
                let method = if mode == Mode::Stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
                let body = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
                return Ask::post(&format!("/v1beta/models/gpt-5.5:{method}"), &body);
            }
        };
        body["model"] = json!("gpt-5.5");
        body["stream"] = json!(mode == Mode::Stream);
        Ask::post(path, &body)
    }

    /// The conversation id.
    fn prompt(self) -> &'static str {
        match self {
            Self::Chat | Self::Messages | Self::Ollama => "messages",
            Self::Completions => "prompt",
            Self::Responses => "input",
            Self::Gemini => "contents",
        }
    }
}

impl Cell<'_> {
    /// The originator of its requests.
    pub(crate) fn name(&self) -> String {
        format!("row-{}-{:?}-{:?}", self.number, self.dialect, self.mode)
    }

    /// The number of upstream requests.
    pub(crate) fn calls(&self) -> &RangeInclusive<usize> {
        let [document, stream] = &self.row.calls;
        if self.mode == Mode::Document { document } else { stream }
    }

    pub(crate) fn title(&self) -> String {
        format!("{:?} {:?} [{}]", self.dialect, self.mode, self.row.name)
    }

    /// The request id of the backend.
    pub(crate) fn request_id(&self) -> String {
        format!("oai-{}", self.name())
    }

    /// Whether the token is rejected and must be refreshed.
    pub(crate) fn renews(&self) -> bool {
        self.row.name.starts_with("401 ")
    }

    /// A separate account, if the row stores state about the account.
    pub(crate) fn account(&self) -> Option<String> {
        let is_spent =
            ["429 usage_limit_reached", "429 insufficient_quota"].iter().any(|code| self.row.openai.starts_with(code));
        (is_spent || self.renews()).then(|| format!("acct-{}", self.name()))
    }

    pub(crate) fn ask(&self) -> Ask {
        let ask = self.dialect.ask(self.mode).header("originator", &self.name());
        match self.account() {
            Some(account) => ask.header("x-proxy-account", &account),
            None => ask,
        }
    }

    /// Checks the response.
    pub(crate) fn judge(&self, answer: &Answer) -> Verdict {
        if self.row.openai == "whole" {
            return self.judge_whole(answer);
        }
        match (self.mode, &self.row.responses) {
            (Mode::Stream, Some(responses)) => self.judge_stream(answer, responses),
            _ => self.judge_refusal(answer),
        }
    }

    fn expected_error(&self) -> ExpectedError<'_> {
        let text = if self.dialect == Dialect::Messages { self.row.anthropic } else { self.row.openai };
        let mut words = text.split(' ');
        ExpectedError {
            status: words.next().unwrap().parse().unwrap(),
            kind: words.next().unwrap(),
            code: words.next().unwrap_or("-"),
            param: words.next().map(|param| if param == "PROMPT" { self.dialect.prompt() } else { param }),
        }
    }

    fn words(&self) -> &str {
        self.row.words[usize::from(self.dialect == Dialect::Messages)]
    }

    /// An error with an HTTP status.
    fn judge_refusal(&self, answer: &Answer) -> Verdict {
        let expected = self.expected_error();
        same("status", answer.status, expected.status)?;
        same("content-type", answer.header("content-type"), "application/json")?;
        let wait = self.row.retry_after.unwrap_or_default();
        let seconds = wait.strip_suffix(AGAIN);
        // Attempts remain if the wait is left to the client, and after one timed-out silence.
        let has_attempts = seconds.is_some() || (expected.status == 504 && *self.calls() == (1..=1));
        same("x-should-retry", answer.header("x-should-retry"), if has_attempts { "" } else { "false" })?;
        if self.row.retry_after.is_some() {
            let seconds = seconds.unwrap_or(wait);
            let found = answer.headers.get("retry-after").map_or("-", |value| value.to_str().unwrap());
            if seconds == SOON {
                holds("retry-after", found.parse::<u64>().is_ok_and(|seconds| (1..=10).contains(&seconds)))?;
            } else {
                same("retry-after", found, seconds)?;
            }
        }
        let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        if self.dialect == Dialect::Messages {
            same("type of the body", &body["type"], &json!("error"))?;
            let id = body["request_id"].as_str().unwrap_or_default();
            same("request id", id, answer.header("request-id"))?;
        }
        self.check_error(&body["error"], expected.param)
    }

    /// The error of the dialect: an object, or a string for Ollama.
    fn check_error(&self, error: &Value, param: Option<&str>) -> Verdict {
        let expected = self.expected_error();
        let message = error.as_str().or(error["message"].as_str()).unwrap_or_default();
        holds("message", !message.is_empty() && message.contains(self.words()))?;
        holds("no web page", !message.contains('<'))?;
        if self.dialect == Dialect::Ollama {
            return holds("a sentence", error.is_string());
        }
        if self.dialect == Dialect::Gemini {
            return check_google_error(error, &expected, param);
        }
        same("type", &error["type"], &json!(expected.kind))?;
        if self.dialect == Dialect::Messages {
            return same("members", error.as_object().map_or(0, serde_json::Map::len), 2);
        }
        same("members", error.as_object().map_or(0, serde_json::Map::len), 4)?;
        same("code", &error["code"], &json!((expected.code != "-").then_some(expected.code)))?;
        if let Some(param) = param {
            same("param", &error["param"], &json!(param))?;
        }
        Ok(())
    }

    /// A stream that started and failed: one error event, which is the last one, and no sign of completion.
    fn judge_stream(&self, answer: &Answer, responses: &str) -> Verdict {
        let events = self.opened(answer)?;
        holds("nothing looks finished", !events.iter().any(|event| self.is_finish(event)))?;
        same("failures", events.iter().filter(|event| is_failure(event)).count(), 1)?;
        let last = events.last().unwrap();
        match self.dialect {
            Dialect::Responses => {
                let error = if last["type"] == "error" { last } else { &last["response"]["error"] };
                let found =
                    format!("{} {}", last["type"].as_str().unwrap_or_default(), error["code"].as_str().unwrap());
                holds("message", error["message"].as_str().is_some_and(|message| !message.is_empty()))?;
                holds("no web page", !answer.text().contains('<'))?;
                same("last event", found.as_str(), responses)
            }
            Dialect::Ollama | Dialect::Gemini => self.check_error(&last["error"], None),
            Dialect::Messages => {
                same("type of the last event", &last["type"], &json!("error"))?;
                self.check_error(&last["error"], None)
            }
            Dialect::Chat | Dialect::Completions => {
                same("parameter in a stream", &last["error"]["param"], &Value::Null)?;
                self.check_error(&last["error"], None)
            }
        }
    }

    /// A complete response, exactly once.
    fn judge_whole(&self, answer: &Answer) -> Verdict {
        if self.mode == Mode::Document {
            same("status", answer.status, 200)?;
            return same("texts", answer.text().matches("\"Hello\"").count(), 1);
        }
        let events = self.opened(answer)?;
        same("failures", events.iter().filter(|event| is_failure(event)).count(), 0)?;
        same("ends", events.iter().filter(|event| self.is_finish(event)).count(), 1)?;
        let last = events.last().unwrap();
        holds("the last event", *last == "[DONE]" || self.is_finish(last))?;
        let texts = events.iter().filter(|event| !event["response"].is_object());
        let deltas = texts.filter(|event| {
            let found = [&event["delta"], &event["delta"]["text"], &event["choices"][0]["text"]];
            found.contains(&&json!("Hello"))
                || event["choices"][0]["delta"]["content"] == "Hello"
                || event["message"]["content"] == "Hello"
                || event["candidates"][0]["content"]["parts"][0]["text"] == "Hello"
        });
        same("texts", deltas.count(), 1)
    }

    /// The events of a stream.
    fn opened(&self, answer: &Answer) -> Result<Vec<Value>, String> {
        same("status", answer.status, 200)?;
        let text = std::str::from_utf8(&answer.body).map_err(|error| error.to_string())?;
        if self.dialect == Dialect::Ollama {
            same("content-type", answer.header("content-type"), "application/x-ndjson")?;
            let lines = text.lines().map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line}")));
            let lines: Vec<Value> = lines.collect::<Result<_, String>>()?;
            return if lines.is_empty() { Err("no lines".to_owned()) } else { Ok(lines) };
        }
        same("content-type", answer.header("content-type"), "text/event-stream; charset=utf-8")?;
        let blocks = text.split_terminator("\n\n").filter(|block| !block.starts_with(':'));
        let data = blocks.map(|block| block.lines().find_map(|line| line.strip_prefix("data: ")).ok_or(block));
        let events = data.map(|data| {
            let data = data.map_err(|block| format!("no event: {block}"))?;
            Ok(serde_json::from_str(data).unwrap_or_else(|_| Value::from(data)))
        });
        let events: Vec<Value> = events.collect::<Result<_, String>>()?;
        if self.dialect == Dialect::Responses {
            let is_counted = events.iter().zip(0..).all(|(event, number)| event["sequence_number"] == number);
            holds("events are counted", is_counted)?;
        }
        if events.is_empty() { Err("no events".to_owned()) } else { Ok(events) }
    }

    /// Whether an event marks the response as complete.
    fn is_finish(&self, event: &Value) -> bool {
        match self.dialect {
            Dialect::Chat | Dialect::Completions => event["choices"][0]["finish_reason"].is_string(),
            Dialect::Responses => event["type"] == "response.completed",
            Dialect::Messages => event["type"] == "message_stop",
            Dialect::Ollama => event["done"] == true,
            Dialect::Gemini => event["candidates"][0].get("finishReason").is_some(),
        }
    }
}

/// Google's error: the status as its code, and in the details the field and the code of OpenAI's error.
fn check_google_error(error: &Value, expected: &ExpectedError<'_>, param: Option<&str>) -> Verdict {
    same("members", error.as_object().map_or(0, serde_json::Map::len), 4)?;
    same("code", &error["code"], &json!(expected.status))?;
    let detail = |kind: &str| error["details"].as_array().unwrap().iter().find(|detail| detail["@type"] == kind);
    let reason = if expected.code == "-" { expected.kind } else { expected.code }.to_ascii_uppercase();
    let information = detail("type.googleapis.com/google.rpc.ErrorInfo").ok_or("no ErrorInfo")?;
    same("reason", &information["reason"], &json!(reason))?;
    match param {
        None => Ok(()),
        Some(param) => {
            let request = detail("type.googleapis.com/google.rpc.BadRequest").ok_or("no BadRequest")?;
            same("field", &request["fieldViolations"][0]["field"], &json!(param))
        }
    }
}

fn is_failure(event: &Value) -> bool {
    event["error"].is_object()
        || event["error"].is_string()
        || event["type"] == "error"
        || event["type"] == "response.failed"
}

#[expect(clippy::needless_pass_by_value, reason = "values are inline")]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Verdict {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, not {expected:?}")) }
}

fn holds(what: &str, is_so: bool) -> Verdict {
    if is_so { Ok(()) } else { Err(format!("{what}: it is not so")) }
}
