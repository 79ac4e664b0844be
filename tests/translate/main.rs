//! Requests, from the client's bytes to the upstream bytes: golden cases, errors and rules.

#![expect(clippy::unwrap_used, reason = "a test that can't continue has failed")]

#[path = "../support/bodies.rs"]
#[expect(dead_code, reason = "the items alone matter where they are stored")]
mod bodies;
mod cache;
mod compact;
mod completions;
mod errors;
mod gemini;
mod input;
mod laws;
mod lite;
mod message_laws;
mod messages;
mod ollama;
mod parameters;
mod pass_through;
mod responses;
#[path = "../support/stored_refs.rs"]
mod stored_refs;

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use codex_proxy::command_hint::CommandHint;
use codex_proxy::error::{ProxyError, Refusal};
use codex_proxy::protocol::chat::{Chat, Options};
use codex_proxy::protocol::codex::request::Omissions;
use codex_proxy::protocol::completions::Completions;
use codex_proxy::protocol::messages::Messages;
use codex_proxy::protocol::models::{Models, Route, RouteCondition, Rules};
use codex_proxy::protocol::tokens::TokenLimit;
use codex_proxy::protocol::{CommonOptions, Context, Dialect, Plan, Warnings};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

/// The context of a translation: no catalog, no headers, no key, unless a test sets them.
#[derive(Default)]
struct Scene {
    models: Models,
    headers: HeaderMap,
    key: Option<&'static str>,
    path_model: Option<&'static str>,
    options: Options,
}

/// The result without borrowed parts.
#[derive(Debug, PartialEq)]
struct Outcome {
    upstream: Value,
    bytes: Vec<u8>,
    reply: String,
    warnings: Vec<String>,
}

impl Scene {
    fn context(&self) -> Context<'_> {
        Context {
            headers: &self.headers,
            key: self.key,
            path_model: self.path_model,
            commands: CommandHint::default(),
            models: &self.models,
            warnings: Warnings::default(),
        }
    }

    fn try_translate(&self, body: &[u8]) -> Result<Outcome, ProxyError> {
        self.try_translate_as::<Chat>(body, &self.options)
    }

    fn try_complete(&self, body: &[u8]) -> Result<Outcome, ProxyError> {
        let Options { default_instructions, token_limit, .. } = self.options.clone();
        let options = CommonOptions { default_instructions, token_limit };
        self.try_translate_as::<Completions>(body, &options)
    }

    fn try_translate_as<D: Dialect>(&self, body: &[u8], options: &D::Options) -> Result<Outcome, ProxyError>
    where
        D::Reply: Debug,
    {
        self.try_translate_request::<D>(D::decode(body)?, options)
    }

    fn try_translate_request<D: Dialect>(
        &self,
        request: D::Request<'_>,
        options: &D::Options,
    ) -> Result<Outcome, ProxyError>
    where
        D::Reply: Debug,
    {
        let mut context = self.context();
        let Plan { upstream, reply, .. } = D::translate(request, &mut context, options)?;
        let bytes = upstream.encode(&Omissions::new()).to_vec();
        Ok(Outcome {
            upstream: serde_json::from_slice(&bytes).expect("the upstream body is JSON"),
            bytes,
            reply: format!("{reply:?}"),
            warnings: context.warnings.tokens().to_vec(),
        })
    }

    fn try_message(&self, body: &[u8]) -> Result<Outcome, ProxyError> {
        let Options { default_instructions, token_limit, .. } = self.options.clone();
        let options = CommonOptions { default_instructions, token_limit };
        self.try_translate_as::<Messages>(body, &options)
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
    refused(Scene::default().try_translate(body))
}

fn refused(outcome: Result<Outcome, ProxyError>) -> Refusal {
    match outcome {
        Err(ProxyError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// The main and the small model of the cases.
fn claude_models() -> Models {
    let pattern = "claude-*haiku*".to_owned();
    let small = Route { pattern, model: "gpt-5.4-mini".to_owned(), effort: None, when: RouteCondition::Always };
    let rules = Rules { default_model: Some("gpt-5.4".to_owned()), routes: vec![small], ..Rules::default() };
    Models { rules: rules.into(), ..Models::default() }
}

fn headers(named: &Value) -> HeaderMap {
    let pairs = named.as_object().into_iter().flatten();
    let header = |(name, value): (&String, &Value)| -> (HeaderName, HeaderValue) {
        (name.parse().unwrap(), value.as_str().unwrap().parse().unwrap())
    };
    pairs.map(header).collect()
}

/// The settings of a case; others have their defaults.
fn options(named: &Value) -> Options {
    let token_limit = match named["token_limit"].as_str() {
        None | Some("ignore") => TokenLimit::Ignore,
        Some("enforce") => TokenLimit::Enforce,
        Some("reject") => TokenLimit::Reject,
        Some(other) => panic!("there is no token_limit {other}"),
    };
    Options { token_limit, ..Options::default() }
}

/// Whether a request is rejected for this field, with this code.
fn assert_refused(request: &Value, param: &str, code: &str) {
    assert_refusal(&refusal(request.to_string().as_bytes()), request, param, code);
}

fn assert_refusal(refusal: &Refusal, request: &Value, param: &str, code: &str) {
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

/// Compares every case of a dialect with its expected upstream request; returns the number of cases.
fn leaves_as_written(dialect: &str, translate: impl Fn(&Path, &[u8]) -> Outcome) -> usize {
    let mut count = 0;
    for case in cases(dialect).iter().filter(|case| case.join("upstream.json").exists()) {
        let body = fs::read(case.join("request.json")).unwrap();
        let meta = read(&case.join("meta.json"));
        let outcome = translate(case, &body);
        let mut expected = read(&case.join("upstream.json"));
        let mut upstream = outcome.upstream;
        if expected["prompt_cache_key"] == "<PROMPT_CACHE_KEY>" {
            let key = upstream["prompt_cache_key"].as_str().unwrap();
            assert!(uuid::Uuid::parse_str(key).is_ok(), "{}: {key}", case.display());
            expected["prompt_cache_key"] = json!(key);
        }
        for body in [&mut upstream, &mut expected] {
            // Their order doesn't matter.
            body["include"] = json!(sorted(&body["include"]));
        }
        assert_eq!(upstream, expected, "{}", case.display());
        let mut warnings = outcome.warnings;
        warnings.sort();
        assert_eq!(warnings, sorted(&meta["warnings"]), "{}", case.display());
        count += 1;
    }
    count
}

/// The context with the settings of a case.
fn scene(case: &Path) -> Scene {
    let meta = read(&case.join("meta.json"));
    let (options, headers) = (options(&meta["options"]), headers(&meta["headers"]));
    Scene { options, models: claude_models(), headers, ..Scene::default() }
}

/// The rejected requests of a dialect: the request, and the expected error.
fn refused_cases(dialect: &str) -> Vec<Value> {
    let folder = cases(dialect).into_iter().find(|case| case.ends_with("99-refused")).unwrap();
    read(&folder.join("cases.json")).as_array().unwrap().clone()
}

/// Checks the code and the param of the refusal of each rejected request of a dialect.
fn assert_refusals(dialect: &str, refuse: impl Fn(&Value) -> Refusal) {
    for case in refused_cases(dialect) {
        let refusal = refuse(&case);
        let found = (json!(refusal.param), json!(refusal.code));
        assert_eq!(found, (case["param"].clone(), case["code"].clone()), "{}", case["case"]);
    }
}

#[test]
fn every_case_is_translated_as_expected() {
    let chats = leaves_as_written("chat", |case, body| scene(case).try_translate(body).unwrap());
    assert!(chats >= 21, "the cases are missing");
    let completions = leaves_as_written("completions", |case, body| scene(case).try_complete(body).unwrap());
    assert!(completions >= 5, "the cases are missing");
    let messages = leaves_as_written("messages", |case, body| scene(case).try_message(body).unwrap());
    assert!(messages >= 25, "the cases are missing");
    let ollamas = leaves_as_written("ollama", |case, body| {
        ollama::translate(&scene(case), ollama::form(&read(&case.join("meta.json"))), body).unwrap()
    });
    assert!(ollamas >= 20, "the cases are missing");
    let geminis = leaves_as_written("gemini", |case, body| {
        gemini::translate(&Scene { path_model: Some("gpt-5.4"), ..scene(case) }, body).unwrap()
    });
    assert!(geminis >= 20, "the cases are missing");
}

#[test]
fn every_error_names_its_param() {
    for case in refused_cases("chat") {
        let scene = Scene { options: options(&case["options"]), ..Scene::default() };
        let refusal = refused(scene.try_translate(case["request"].to_string().as_bytes()));
        let error = &case["response"]["error"];
        assert_eq!(json!(refusal.param), error["param"], "{}", case["case"]);
        assert_eq!(json!(refusal.code), error["code"], "{}", case["case"]);
    }
}
