//! The golden cases below `tests/cases`.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A case with an upstream response.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) request: Value,
    pub(crate) meta: Value,
    pub(crate) upstream_sse: Vec<u8>,
    /// The client's stream, in the framing of its dialect.
    pub(crate) client_sse: Option<String>,
    /// `null` if the case has none.
    pub(crate) client_json: Value,
    pub(crate) store: Option<Value>,
}

impl Case {
    /// Whether the usage is an estimate.
    pub(crate) fn has_guess(&self) -> bool {
        self.meta["placeholder_usage"] == true
    }
}

/// All Chat cases with an upstream response, sorted by name.
pub(crate) fn answered_cases() -> Vec<Case> {
    answered_cases_of("chat", 21)
}

/// All cases of a dialect, which must be at least this many.
pub(crate) fn answered_cases_of(dialect: &str, fewest: usize) -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(dialect);
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let cases: Vec<Case> =
        folders.iter().filter(|folder| folder.join("upstream.sse").exists()).map(|folder| read(folder)).collect();
    assert!(cases.len() >= fewest, "cases are missing");
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
        client_sse: ["client.sse", "client.ndjson"]
            .iter()
            .find_map(|file| std::fs::read_to_string(folder.join(file)).ok()),
        client_json: possible("client.json").unwrap_or_default(),
        store: possible("store.json"),
    }
}

impl Case {
    /// The HTTP status of a document.
    pub(crate) fn document_status(&self) -> u64 {
        ["http_status", "http_status_nonstream"].iter().find_map(|key| self.meta[*key].as_u64()).unwrap_or(200)
    }
}
