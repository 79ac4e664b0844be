//! Parses the tables: each line becomes one or more rows.

use std::ops::RangeInclusive;

use crate::fake::Script;
use crate::script;

/// A fault, and the expected errors.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) script: Script,
    /// Number of upstream requests for a document and for a stream.
    pub(crate) calls: [RangeInclusive<usize>; 2],
    /// Status, type, code, parameter; or `whole`.
    pub(crate) openai: &'static str,
    /// Status and type.
    pub(crate) anthropic: &'static str,
    /// The last event of a Responses stream past the commit point; `None` if no stream starts.
    pub(crate) responses: Option<String>,
    /// Seconds; `-` for none, and `None` if it doesn't matter.
    pub(crate) retry_after: Option<&'static str>,
    /// Part of the message for OpenAI clients, and for Anthropic clients.
    pub(crate) words: [&'static str; 2],
    /// Whether the backend responds, so that its request id is known.
    pub(crate) has_head: bool,
}

/// All rows of all tables.
pub(crate) fn rows() -> Vec<Row> {
    let refusals = lines(include_str!("answers.txt")).map(|columns| refusal(&columns));
    let codes = lines(include_str!("codes.txt")).flat_map(|columns| code(&columns));
    let streams = lines(include_str!("streams.txt")).map(|columns| stream(&columns));
    refusals.chain(codes).chain(streams).collect()
}

/// The columns of each line that is not a comment.
fn lines(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let is_row = |line: &&str| !line.is_empty() && !line.starts_with('#');
    table.lines().filter(is_row).map(|line| line.split(" | ").collect())
}

fn times(column: &str) -> [RangeInclusive<usize>; 2] {
    let (document, stream) = column.split_once('/').unwrap_or((column, column));
    [document, stream].map(|column| {
        let least = column.trim_end_matches('+').parse().unwrap();
        least..=if column.ends_with('+') { 2 * least } else { least }
    })
}

fn present(column: &'static str) -> Option<&'static str> {
    (column != "-").then_some(column)
}

fn refusal(columns: &[&'static str]) -> Row {
    let [status, headers, body, calls, openai, anthropic, retry_after, words] = *columns else { panic!("{columns:?}") };
    let (words, others) = words.split_once(" || ").unwrap_or((words, words));
    let body = present(body).unwrap_or_default();
    Row {
        name: format!("{status} {headers} {body}"),
        script: script::answer(status.parse().unwrap(), headers, body),
        calls: times(calls),
        openai,
        anthropic,
        responses: None,
        retry_after: Some(retry_after),
        words: [words, others],
        has_head: true,
    }
}

/// The formats of a code, before and after the commit point.
fn code(columns: &[&'static str]) -> [Row; 4] {
    let [code, calls, openai, anthropic] = *columns else { panic!("{columns:?}") };
    let members = format!(r#""code":"{code}","message":"Please try again in 20ms.""#);
    let error = format!("{{{members}}}");
    let failed = format!(r#"{{"type":"response.failed","response":{{"id":"resp_1","error":{error}}}}}"#);
    let nested = format!(r#"{{"type":"error","error":{error}}}"#);
    let flat = format!(r#"{{"type":"error",{members}}}"#);
    let row = |begun: &[&str], event: &str, responses: Option<&str>| Row {
        name: format!("{begun:?} {event}"),
        script: script::ending_in(begun, event),
        calls: if responses.is_some() { times(&format!("{calls}/1")) } else { times(calls) },
        openai,
        anthropic,
        responses: responses.map(|kind| format!("{kind} {code}")),
        retry_after: None,
        words: [if code == "usage_limit_reached" { "usage limit reached" } else { "try again" }; 2],
        has_head: true,
    };
    let (before, after) = (["created"], ["created", "item", "text"]);
    [
        row(&before, &failed, None),
        row(&before, &nested, None),
        row(&after, &failed, Some("response.failed")),
        row(&after, &flat, Some("error")),
    ]
}

fn stream(columns: &[&'static str]) -> Row {
    let [steps, calls, openai, anthropic, responses] = *columns else { panic!("{columns:?}") };
    Row {
        name: steps.to_owned(),
        script: script::steps(steps),
        calls: times(calls),
        openai,
        anthropic,
        responses: present(responses).map(str::to_owned),
        retry_after: None,
        words: [""; 2],
        has_head: steps.starts_with("head ") || steps.contains(": "),
    }
}
