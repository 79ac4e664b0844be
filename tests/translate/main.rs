//! Requests, from the client's bytes to the bytes that leave: worked cases, refusals and laws.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod cache;
mod choices;
mod laws;
mod passing;
#[path = "../support/recalled.rs"]
mod recalled;
mod refusals;
mod responses;

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use codex_proxy::error::{ProxyError, Refusal};
use codex_proxy::protocol::chat::Chat;
use codex_proxy::protocol::codex::request::Omissions;
use codex_proxy::protocol::model::Models;
use codex_proxy::protocol::{Context, Dialect, Plan, Warnings};
use http::HeaderMap;
use serde_json::{Value, json};

/// The surroundings of a translation: no catalogue, no headers, no key, unless a test says otherwise.
#[derive(Default)]
struct Scene {
    models: Models,
    headers: HeaderMap,
    key: Option<&'static str>,
    path_model: Option<&'static str>,
}

/// What came out, apart from the borrowed parts.
#[derive(Debug, PartialEq)]
struct Outcome {
    upstream: Value,
    bytes: Vec<u8>,
    reply: String,
    warnings: Vec<String>,
}

impl Scene {
    fn try_translate(&self, body: &[u8]) -> Result<Outcome, ProxyError> {
        self.try_translate_as::<Chat>(body)
    }

    fn try_translate_as<D: Dialect>(&self, body: &[u8]) -> Result<Outcome, ProxyError>
    where
        D::Options: Default,
        D::Reply: Debug,
    {
        self.try_translate_request::<D>(D::decode(body)?)
    }

    fn try_translate_request<D: Dialect>(&self, request: D::Request<'_>) -> Result<Outcome, ProxyError>
    where
        D::Options: Default,
        D::Reply: Debug,
    {
        let mut context = Context {
            headers: &self.headers,
            key: self.key,
            path_model: self.path_model,
            models: &self.models,
            warnings: Warnings::default(),
        };
        let Plan { upstream, reply, .. } = D::translate(request, &mut context, &D::Options::default())?;
        let bytes = upstream.encode(&Omissions::new()).to_vec();
        Ok(Outcome {
            upstream: serde_json::from_slice(&bytes).expect("the body that leaves is JSON"),
            bytes,
            reply: format!("{reply:?}"),
            warnings: context.warnings.tokens().to_vec(),
        })
    }

    fn translate(&self, request: &Value) -> Outcome {
        self.try_translate(request.to_string().as_bytes()).unwrap()
    }

    fn cache_key(&self, request: &Value) -> String {
        self.translate(request).upstream["prompt_cache_key"].as_str().unwrap().to_owned()
    }
}

fn translate(request: &Value) -> Outcome {
    Scene::default().translate(request)
}

fn refusal(body: &[u8]) -> Refusal {
    match Scene::default().try_translate(body) {
        Err(ProxyError::Refused(refusal)) => refusal,
        other => panic!("{} gave {other:?}", String::from_utf8_lossy(body)),
    }
}

/// Whether a request is refused for this field, with this code.
fn assert_refused(request: &Value, param: &str, code: &str) {
    let refusal = refusal(request.to_string().as_bytes());
    assert_eq!((refusal.param.as_deref(), refusal.code), (Some(param), Some(code)), "{request}");
    assert!(!refusal.message.is_empty());
}

fn with(member: &str, value: Value) -> Value {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
    request[member] = value;
    request
}

fn saying(messages: Value) -> Value {
    with("messages", messages)
}

fn cases(dialect: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(dialect);
    let mut found: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn sorted(list: &Value) -> Vec<String> {
    let mut texts: Vec<_> = list.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect();
    texts.sort();
    texts
}

/// Translates every case of a dialect; gives their number.
fn assert_cases_leave_as_written(dialect: &str, translate: impl Fn(&Path, &[u8]) -> Outcome) -> usize {
    let mut count = 0;
    for case in cases(dialect).iter().filter(|case| case.join("upstream.json").exists()) {
        let body = fs::read(case.join("request.json")).unwrap();
        let outcome = translate(case, &body);
        let mut expected = read(&case.join("upstream.json"));
        let mut upstream = outcome.upstream;
        if expected["prompt_cache_key"] == "<PROMPT_CACHE_KEY>" {
            let key = upstream["prompt_cache_key"].as_str().unwrap();
            assert!(uuid::Uuid::parse_str(key).is_ok(), "{}: {key}", case.display());
            expected["prompt_cache_key"] = json!(key);
        }
        for body in [&mut upstream, &mut expected] {
            // The order of these is free.
            body["include"] = json!(sorted(&body["include"]));
        }
        assert_eq!(upstream, expected, "{}", case.display());
        let mut warnings = outcome.warnings;
        warnings.sort();
        assert_eq!(warnings, sorted(&read(&case.join("meta.json"))["warnings"]), "{}", case.display());
        count += 1;
    }
    count
}

/// The requests of a dialect that are refused: the request, and how the refusal has to read.
fn refused_cases(dialect: &str) -> Vec<Value> {
    let folder = cases(dialect).into_iter().find(|case| case.ends_with("99-refused")).unwrap();
    read(&folder.join("cases.json")).as_array().unwrap().clone()
}

#[test]
fn every_case_leaves_as_written() {
    let count = assert_cases_leave_as_written("chat", |_, body| Scene::default().try_translate(body).unwrap());
    assert!(count >= 21, "the cases are not there");
}

#[test]
fn every_refusal_names_its_field() {
    for case in refused_cases("chat") {
        let refusal = refusal(case["request"].to_string().as_bytes());
        let error = &case["response"]["error"];
        assert_eq!(json!(refusal.param), error["param"], "{}", case["case"]);
        assert_eq!(json!(refusal.code), error["code"], "{}", case["case"]);
    }
}
