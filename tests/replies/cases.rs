//! The worked cases below `tests/cases`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use codex_proxy::protocol::chat::{CallStyle, Shape};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A case whose answer comes from upstream.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) request: Value,
    pub(crate) meta: Value,
    pub(crate) upstream_sse: Vec<u8>,
    pub(crate) client_sse: Option<String>,
    /// Null where the case has none.
    pub(crate) client_json: Value,
    pub(crate) store: Option<Value>,
}

/// Every Chat case with an upstream answer, in the order of its name.
pub(crate) fn answered_cases() -> Vec<Case> {
    answered_cases_of("chat", 21)
}

/// Every case of a dialect with an upstream answer, of which there are at least so many.
pub(crate) fn answered_cases_of(dialect: &str, at_least: usize) -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(dialect);
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let cases: Vec<Case> =
        folders.iter().filter(|folder| folder.join("upstream.sse").exists()).map(|folder| read(folder)).collect();
    assert!(cases.len() >= at_least, "cases are missing");
    cases
}

fn read(folder: &Path) -> Case {
    let possible = |file: &str| Some(serde_json::from_slice(&std::fs::read(folder.join(file)).ok()?).unwrap());
    let json = |file: &str| possible(file).unwrap();
    Case {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        request: json("request.json"),
        meta: json("meta.json"),
        upstream_sse: std::fs::read(folder.join("upstream.sse")).unwrap(),
        client_sse: std::fs::read_to_string(folder.join("client.sse")).ok(),
        client_json: possible("client.json").unwrap_or_default(),
        store: possible("store.json"),
    }
}

impl Case {
    /// The status of an answer that is one document.
    pub(crate) fn document_status(&self) -> u64 {
        ["http_status", "http_status_nonstream"].iter().find_map(|key| self.meta[*key].as_u64()).unwrap_or(200)
    }

    /// What the request says about the form of its answer.
    pub(crate) fn shape(&self) -> Shape {
        let request = &self.request;
        Shape {
            model: request["model"].as_str().unwrap().to_owned(),
            includes_usage: request["stream_options"]["include_usage"] == true,
            shows_service_tier: request.get("service_tier").is_some(),
            calls: if request.get("functions").is_some() { CallStyle::Legacy } else { CallStyle::Tools },
            names: names(request),
            flat_custom_tools: BTreeSet::new(),
            stop: stops(&request["stop"]),
            ..Shape::default()
        }
    }
}

fn stops(stop: &Value) -> Vec<String> {
    match stop {
        Value::String(stop) => vec![stop.clone()],
        Value::Array(stops) => stops.iter().map(|stop| stop.as_str().unwrap().to_owned()).collect(),
        _ => vec![],
    }
}

/// Names that the backend would refuse, by what it is told instead.
fn names(request: &Value) -> BTreeMap<String, String> {
    let tools = request["tools"].as_array().into_iter().flatten();
    let names = tools.filter_map(|tool| tool["function"]["name"].as_str());
    names
        .filter(|name| name.len() > 64 || !name.chars().all(is_plain))
        .map(|name| (upstream_name(name), name.to_owned()))
        .collect()
}

fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-')
}

fn upstream_name(name: &str) -> String {
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).take(55).collect();
    let digest = Sha256::digest(name.as_bytes());
    format!("{plain}_{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}
