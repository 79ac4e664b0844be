//! The worked cases below `tests/cases`.

use std::path::{Path, PathBuf};

use codex_proxy::protocol::model::Models;
use codex_proxy::protocol::{Context, Warnings};
use http::HeaderMap;
use serde_json::Value;

use crate::Told;

/// A case whose answer comes from upstream.
pub(crate) struct Case {
    pub(crate) name: String,
    request: Vec<u8>,
    pub(crate) meta: Value,
    pub(crate) upstream_sse: Vec<u8>,
    pub(crate) client_sse: Option<String>,
    pub(crate) client_json: Value,
}

/// Every case of a dialect with an upstream answer, in the order of its name.
pub(crate) fn answered_cases<D: Told>() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(D::NAME);
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let cases: Vec<Case> =
        folders.iter().filter(|folder| folder.join("upstream.sse").exists()).map(|folder| read(folder)).collect();
    assert!(cases.len() >= D::FEWEST_CASES, "cases are missing");
    cases
}

fn read(folder: &Path) -> Case {
    let json = |file: &str| serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap();
    Case {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        request: std::fs::read(folder.join("request.json")).unwrap(),
        meta: json("meta.json"),
        upstream_sse: std::fs::read(folder.join("upstream.sse")).unwrap(),
        client_sse: std::fs::read_to_string(folder.join("client.sse")).ok(),
        client_json: json("client.json"),
    }
}

impl Case {
    /// The machine that the request asks for.
    pub(crate) fn reply<D: Told>(&self) -> D::Reply {
        let (headers, models) = (HeaderMap::new(), Models::default());
        let warnings = Warnings::default();
        let mut context = Context { headers: &headers, key: None, path_model: None, models: &models, warnings };
        D::translate(D::decode(&self.request).unwrap(), &mut context, &D::options()).unwrap().reply
    }

    pub(crate) fn includes_usage(&self) -> bool {
        let request: Value = serde_json::from_slice(&self.request).unwrap();
        request["stream_options"]["include_usage"] == true
    }
}
