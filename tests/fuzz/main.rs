//! Random hostile input: valid data is mutated, and its parsers must neither panic nor use unbounded memory.
//!
//! Each test makes 256 attempts in the suite; `PROPTEST_CASES=20000 cargo test --test fuzz` makes more. Other
//! parsers have fuzz tests next to their code: the event splitter, access rules, failures.

#![cfg(test)]

mod files;
mod mutate;
mod replies;
mod requests;

use std::fs;
use std::path::Path;

use codex_proxy::command_hint::CommandHint;
use codex_proxy::protocol::models::Models;
use codex_proxy::protocol::{Context, Dialect, Plan, Warnings};
use http::HeaderMap;
use proptest::test_runner::Config;

/// The number of attempts from the environment, without persistence files.
fn attempts() -> Config {
    Config { failure_persistence: None, ..Config::default() }
}

/// A golden case: a request, and the backend's response if there is one.
#[derive(Clone, Debug)]
struct Case {
    request: Vec<u8>,
    answer: Option<Vec<u8>>,
}

/// The golden cases of a dialect.
fn cases(dialect: &str) -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(dialect);
    let mut folders: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let read = |folder: &std::path::PathBuf| {
        let request = fs::read(folder.join("request.json")).ok()?;
        Some(Case { request, answer: fs::read(folder.join("upstream.sse")).ok() })
    };
    let cases: Vec<Case> = folders.iter().filter_map(read).collect();
    assert!(cases.len() >= 4, "cases are missing");
    cases
}

/// Parses and translates a body like the server, and passes on the result.
fn translated<D: Dialect, T>(
    body: &[u8],
    options: &D::Options,
    take: impl FnOnce(Plan<'_, D::Reply>) -> T,
) -> Result<T, codex_proxy::error::ProxyError> {
    let (headers, models) = (HeaderMap::new(), Models::default());
    let warnings = Warnings::default();
    let mut context = Context {
        headers: &headers,
        key: None,
        path_model: Some("m"),
        commands: CommandHint::default(),
        models: &models,
        warnings,
    };
    D::translate(D::decode(body)?, &mut context, options).map(take)
}
