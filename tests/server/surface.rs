//! Compares `docs/surface.md` with the program: every endpoint and parameter on the page has the outcome that the page
//! states, and every route and request member in the sources is on the page.

mod sources;
mod table;

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::fake::Script;
use crate::uploads::{Part, form};
use crate::wire::{Answer, Ask};
use crate::{Bench, COMPLETED, CREATED};
use table::{Endpoint, Parameter, Section, code_spans, endpoints, sections};

const COMPACTION: &str = "POST /v1/responses/compact";
/// The methods that are tried at every path.
const METHODS: [&str; 5] = ["GET", "POST", "DELETE", "PUT", "PATCH"];
const IMAGE: &str = r#"{"created":1,"data":[{"b64_json":"iVBORw0KGgo="}],"output_format":"png"}"#;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A daemon whose backend answers every request with the same response.
async fn bench() -> Bench {
    let bench = Bench::answering(|launch| launch).await;
    for (path, body) in [
        ("/images/generations", IMAGE),
        ("/images/edits", IMAGE),
        ("/backend-api/transcribe", r#"{"text":"hi"}"#),
        ("/alpha/search", "{}"),
        ("/alpha/notes/v2/list", "{}"),
        ("/alpha/history/v2/list", "{}"),
        ("/memories/trace_summarize", "{}"),
    ] {
        bench.upstream.on(path, Script::json(200, body));
    }
    bench
}

#[tokio::test]
async fn every_endpoint_on_the_page_has_the_outcome_that_it_states() {
    let bench = bench().await;
    let endpoints = endpoints();
    let mut stated: BTreeMap<String, Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &endpoints {
        stated.entry(concrete(&endpoint.path)).or_default().push(endpoint);
    }
    let mut wrong = Vec::new();
    for (path, rows) in &stated {
        let paths = match path.strip_suffix("/…") {
            Some(folder) => vec![folder.to_owned(), format!("{folder}/x"), format!("{folder}/x/y")],
            None => vec![path.clone()],
        };
        for method in METHODS {
            let row = rows.iter().find(|row| row.methods.is_empty() || row.methods.iter().any(|own| own == method));
            let stated = row.map_or("405", |row| &row.outcome);
            for path in &paths {
                let answer = ask(method, path).send(&bench.proxy).await;
                if !is_outcome(&answer, stated) {
                    wrong.push(format!("{method} {path}: {stated}, but {} {}", answer.status, answer.text()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The path with a value for each parameter.
fn concrete(path: &str) -> String {
    let values = [
        ("{conversation_id}", "conv_1"),
        ("{item_id}", "msg_c"),
        ("{document}", "usage"),
        ("{response_id}", "resp_1"),
        ("{model}", "gpt-5.5"),
        ("{operation}", "list"),
    ];
    let path = values.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
    let mut pieces = path.split('{');
    let start = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(start, |path, piece| path + "x" + piece.split_once('}').unwrap().1)
}

fn ask(method: &str, path: &str) -> Ask {
    if matches!(method, "GET" | "DELETE") {
        return Ask::new(method, path);
    }
    Ask::new(method, path).header("content-type", "application/json").with_content(b"{}".to_vec())
}

fn is_outcome(answer: &Answer, stated: &str) -> bool {
    let is_unknown = answer.status == 404 && answer.text().to_lowercase().contains("unknown path");
    match stated.split([' ', ';']).next().unwrap() {
        "served" => answer.status < 500 && answer.status != 405 && !is_unknown,
        status => answer.status.to_string() == status,
    }
}

#[tokio::test]
async fn every_parameter_on_the_page_has_the_outcome_that_it_states() {
    let (own, mut shared): (Vec<_>, Vec<_>) = sections().into_iter().partition(has_own_bench);
    let half = shared.split_off(shared.len() / 2);
    let groups = own.into_iter().map(|section| vec![section]).chain([shared, half]);
    let wrong = join_all(groups.map(wrong_rows)).await.concat();
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether a section needs another response of the backend, or leaves requests in the background.
fn has_own_bench(section: &Section) -> bool {
    ["POST /v1/responses", COMPACTION].contains(&section.endpoint.as_str())
}

/// The rows whose parameter has another outcome, each with the outcome that it has.
async fn wrong_rows(sections: Vec<Section>) -> Vec<String> {
    let bench = bench().await;
    let ids = create_objects(&bench).await;
    if sections.iter().any(|section| section.endpoint == COMPACTION) {
        let item = json!({"type": "compaction", "id": "cmp_1", "encrypted_content": "x"});
        let done = json!({"type": "response.output_item.done", "output_index": 0, "item": item}).to_string();
        bench.upstream.clear("/responses");
        bench.upstream.on("/responses", Script::events(&[CREATED, &done, COMPLETED]));
    }
    let mut wrong = Vec::new();
    for section in &sections {
        let mut trial = Trial { bench: &bench, section, ids: &ids, without: None };
        for row in &section.rows {
            if let Err(seen) = trial.check(row).await {
                wrong.push(format!("{} {} {}: {}, but {seen}", section.endpoint, row.name, row.value, row.outcome));
            }
        }
    }
    wrong
}

/// The ids of objects, by their names on the page.
type Ids = BTreeMap<&'static str, String>;

/// Creates the objects that the examples refer to: of each kind, the newest one has the name. Also stores the response
/// `resp_1`.
async fn create_objects(bench: &Bench) -> Ids {
    let message = |id: &str| json!({"type": "message", "id": id, "role": "user", "content": "hi"});
    let stored = json!({"model": "gpt-5.5", "input": [message("msg_a"), message("msg_b")]});
    created(bench, Ask::post("/v1/responses", &stored)).await;
    let conversation = json!({"items": [message("msg_c"), message("msg_d")]});
    let mut ids = Ids::from([("conv_1", created(bench, Ask::post("/v1/conversations", &conversation)).await)]);
    for _ in 0..2 {
        let file = ("file", Some("a.jsonl"), "", b"{}".as_slice());
        let upload = form("/v1/files", &[file, ("purpose", None, "", b"batch")]);
        ids.insert("file_1", created(bench, upload).await);
        // The file has no valid line, so nothing is sent to the backend.
        let batch = json!({"input_file_id": ids["file_1"], "endpoint": "/v1/responses", "completion_window": "24h"});
        ids.insert("batch_1", created(bench, Ask::post("/v1/batches", &batch)).await);
    }
    ids
}

/// Sends a request that creates an object, and returns its id.
async fn created(bench: &Bench, ask: Ask) -> String {
    let answer = ask.send(&bench.proxy).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice::<Value>(&answer.body).unwrap()["id"].as_str().unwrap().to_owned()
}

/// The requests of a section.
struct Trial<'t> {
    bench: &'t Bench,
    section: &'t Section,
    ids: &'t Ids,
    /// The latest request without a parameter, and its effects.
    without: Option<(Value, Seen)>,
}

/// The effects of a request.
#[derive(Debug, PartialEq)]
struct Seen {
    status: u16,
    code: String,
    warnings: Vec<String>,
    /// The bodies of the requests to the backend.
    upstream: Vec<Vec<u8>>,
    response: String,
}

impl Trial<'_> {
    /// Compares the effects of a row's request with those of the request without the parameter.
    async fn check(&mut self, row: &Parameter) -> Result<(), String> {
        let with_ids = |text: String| self.ids.iter().fold(text, |text, (name, id)| text.replace(name, id));
        let path = &with_ids(concrete(self.section.split().1));
        let mut base: Value = serde_json::from_str(&with_ids(self.section.request.to_string())).unwrap();
        for (name, value) in &row.others {
            base[name] = value.clone();
        }
        let mut request = base.clone();
        let value: Value = serde_json::from_str(&with_ids(row.value.to_string())).unwrap();
        let is_required = row.name == "file" || base.get(&row.name).is_some();
        match row.name.split_once('.') {
            Some((object, member)) => request[object][member] = value,
            None => request[&row.name] = value,
        }
        if self.without.as_ref().is_none_or(|(last, _)| *last != base) {
            self.without = Some((base.clone(), self.observe(path, &base).await));
        }
        let with = self.observe(path, &request).await;
        let (_, without) = self.without.as_ref().unwrap();
        let tokens = code_spans(&row.outcome);
        let is_token = |span: &&String| ["ignored:", "clamped:", "repaired:"].iter().any(|kind| span.starts_with(kind));
        let (warnings, codes): (Vec<_>, Vec<_>) = tokens.iter().partition(is_token);
        let own = with.warnings.iter().filter(|token| !without.warnings.contains(token)).collect::<Vec<_>>();
        let words: Vec<&str> = row.outcome.split([' ', ',', ';']).collect();
        let has_effect = with.upstream != without.upstream || with.response != without.response;
        let is_right = match words[0] {
            "served" => with.status < 300 && own == warnings && (has_effect || is_required),
            "ignored" => {
                with.status < 300 && own == warnings && !warnings.is_empty() && with.upstream == without.upstream
            }
            "dropped" => with.status < 300 && own.is_empty() && !has_effect,
            "refused" => {
                let status = words.iter().find_map(|word| word.parse().ok());
                let is_named = match codes.first() {
                    Some(code) => **code == with.code,
                    // Ollama's errors are a sentence.
                    None => with.code.starts_with(&row.name),
                };
                status == Some(with.status) && is_named && with.upstream.is_empty()
            }
            other => panic!("{}: unknown outcome {other}", row.name),
        };
        if is_right {
            return Ok(());
        }
        Err(format!("{} {} {:?}, effect: {has_effect}: {:.300}", with.status, with.code, own, with.response))
    }

    async fn observe(&self, path: &str, request: &Value) -> Seen {
        let calls = || self.bench.upstream.requests("").into_iter().filter(|call| call.method == "POST");
        let before = calls().count();
        let answer = sent(self.section, path, request).send(&self.bench.proxy).await;
        let code = if answer.status < 300 { String::new() } else { error_code(&answer) };
        let header = answer.headers.get("x-proxy-warnings").map(|value| value.to_str().unwrap().to_owned());
        let warnings = header.iter().flat_map(|list| list.split(", ")).map(str::to_owned).collect();
        let upstream = calls().skip(before).map(|call| call.body).collect();
        Seen { status: answer.status, code, warnings, upstream, response: without_times(answer.text()) }
    }
}

/// The `code` of the error; its type if it has none; in Ollama's API, the parameter that the sentence begins with.
fn error_code(answer: &Answer) -> String {
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    let error = &document["error"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    text(&error["code"])
        .or_else(|| text(&error["status"]))
        .or_else(|| text(&error["type"]))
        .or_else(|| text(error))
        .unwrap()
}

/// A response without the times in it.
fn without_times(text: &str) -> String {
    ["_duration\":", "created_at\":"].iter().fold(text.to_owned(), |text, name| {
        let mut pieces = text.split(name);
        let start = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(start, |kept, piece| kept + piece.split_once([',', '}']).map_or("", |(_, rest)| rest))
    })
}

fn sent(section: &Section, path: &str, request: &Value) -> Ask {
    let (method, _) = section.split();
    let members = request.as_object().unwrap();
    match path {
        "/v1/audio/transcriptions" => multipart(path, ("file", "a.wav", "audio/wav", b"RIFF"), request),
        "/v1/files" if method == "POST" => multipart(path, ("file", "a.jsonl", "", b"{}"), request),
        "/v1/images/edits" if request.get("images").is_none() => {
            multipart(path, ("image", "a.png", "image/png", PNG), request)
        }
        _ if method == "GET" => {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in members {
                query.append_pair(name, value.as_str().unwrap_or(&value.to_string()));
            }
            let ask = Ask::get(&format!("{path}?{}", query.finish()));
            if section.endpoint == "GET /v1/models" { ask.header("anthropic-version", "2023-06-01") } else { ask }
        }
        _ => Ask::post(path, request),
    }
}

/// A form with a file and these fields.
fn multipart(path: &str, file: (&str, &str, &str, &[u8]), request: &Value) -> Ask {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut fields = Vec::new();
    for (name, value) in request.as_object().unwrap().iter().filter(|(name, _)| *name != "file") {
        match value.as_object() {
            Some(members) => fields.extend(members.iter().map(|(own, value)| (format!("{name}[{own}]"), text(value)))),
            None => fields.push((name.clone(), text(value))),
        }
    }
    let (name, file_name, kind, content) = file;
    let mut parts: Vec<Part<'_>> = vec![(name, Some(file_name), kind, content)];
    for (name, value) in &fields {
        let is_file = ["image", "mask", "markup"].contains(&name.as_str());
        parts.push((
            name,
            is_file.then_some(file_name),
            if is_file { kind } else { "" },
            if is_file { content } else { value.as_bytes() },
        ));
    }
    form(path, &parts)
}
