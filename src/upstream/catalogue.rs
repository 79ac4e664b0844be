//! The model catalog: the latest from the backend, else from a file, else the one embedded at build time.
//!
//! Reading never waits for the network or the disk. A response that lists no models changes nothing. A catalog belongs
//! to one account and client version; the file has the latest one, is replaced atomically, and is ignored if it can't
//! be read. Requesting the catalog is up to the caller.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use crate::clock::{Clock as _, SystemClock};
use crate::protocol::codex::failure::text_header;
use crate::protocol::models::Catalogue;

const EMBEDDED: &[u8] = include_bytes!("catalogue.json");

/// The catalog in memory, and its file.
#[derive(Debug)]
pub(super) struct CatalogueCache {
    current: RwLock<CachedCatalogue>,
    file: Option<PathBuf>,
    /// The etag that the backend last reported, with the catalog or in another response.
    etag: Mutex<Option<String>>,
    /// Notified when another response reports an etag that differs from `etag`.
    outdated: Notify,
}

/// The client version and account that a catalog was requested with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CatalogueKey {
    client_version: String,
    account_sha256: String,
}

#[derive(Clone, Debug)]
pub(super) struct CachedCatalogue {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) document: CatalogueDocument,
    /// `None` for the embedded catalog.
    key: Option<CatalogueKey>,
    /// `None` for the embedded catalog.
    fetched_at: Option<SystemTime>,
}

/// The catalog as the backend sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueDocument {
    /// The JSON, with members that this release doesn't know. The embedded catalog has no prompts.
    pub json: Bytes,
    /// The `etag` header that came with it. A Codex client compares it with the `x-models-etag` of later responses.
    pub etag: Option<String>,
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct File<'a> {
    #[serde(rename = "asked")]
    key: CatalogueKey,
    /// Unix time in seconds.
    fetched_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(borrow)]
    catalogue: &'a RawValue,
}

impl CatalogueKey {
    pub(super) fn new(client_version: &str, account_id: &str) -> Self {
        let account_sha256 = format!("{:x}", Sha256::digest(account_id));
        Self { client_version: client_version.to_owned(), account_sha256 }
    }
}

impl CatalogueDocument {
    pub(super) fn received(json: Bytes, headers: &HeaderMap) -> Self {
        Self { json, etag: text_header(headers, "etag").map(str::to_owned) }
    }
}

impl CachedCatalogue {
    pub(super) fn embedded() -> Self {
        let catalogue = Catalogue::parse(EMBEDDED).unwrap_or_default();
        let document = CatalogueDocument { json: Bytes::from_static(EMBEDDED), etag: None };
        Self { catalogue: Arc::new(catalogue), document, key: None, fetched_at: None }
    }

    /// `None` if the JSON can't be parsed or lists no models.
    pub(super) fn parse(
        document: CatalogueDocument,
        key: CatalogueKey,
        fetched_at: Option<SystemTime>,
    ) -> Option<Self> {
        let catalogue = Catalogue::parse(&document.json).ok().filter(|catalogue| !catalogue.models().is_empty())?;
        Some(Self { catalogue: Arc::new(catalogue), document, key: Some(key), fetched_at })
    }
}

impl CatalogueCache {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self {
            current: RwLock::new(CachedCatalogue::embedded()),
            file,
            etag: Mutex::default(),
            outdated: Notify::new(),
        }
    }

    pub(super) fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).catalogue)
    }

    pub(super) fn document(&self) -> CatalogueDocument {
        self.current.read().unwrap_or_else(PoisonError::into_inner).document.clone()
    }

    /// When the backend sent the catalog. `None` for the embedded one.
    pub(super) fn fetched_at(&self) -> Option<SystemTime> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).fetched_at
    }

    /// Replaces the catalog, and then the file, with the backend's response. Returns whether the response lists models.
    /// A file that can't be written is only logged.
    pub(super) async fn replace(&self, json: Bytes, key: CatalogueKey, headers: &HeaderMap) -> bool {
        let fetched_at = SystemClock.now();
        let document = CatalogueDocument::received(json, headers);
        let parsed = CachedCatalogue::parse(document.clone(), key.clone(), Some(fetched_at));
        let Some(fetched) = parsed else { return false };
        self.set(fetched);
        if let Some(etag) = reported_etag(headers).or(document.etag.as_deref().map(opaque_tag)) {
            *self.etag.lock().unwrap_or_else(PoisonError::into_inner) = Some(etag.to_owned());
        }
        if let Some(file) = self.file.clone() {
            let written = tokio::task::spawn_blocking(move || save(&file, key, fetched_at, document)).await;
            if let Ok(Err(error)) = written {
                tracing::debug!(%error, "the model catalog could not be written to its file");
            }
        }
        true
    }

    /// Replaces the catalog with that of the file, if it was requested with this client version.
    pub(super) async fn load(&self, client_version: &str) {
        let Some(file) = self.file.clone() else { return };
        let loaded = tokio::task::spawn_blocking(move || load(&file)).await.ok().flatten();
        let is_usable =
            |loaded: &CachedCatalogue| loaded.key.as_ref().is_some_and(|key| key.client_version == client_version);
        if let Some(loaded) = loaded.filter(is_usable) {
            self.set(loaded);
        }
    }

    /// Replaces the catalog by the embedded one, if it was requested with another key.
    pub(super) fn discard_others(&self, key: &CatalogueKey) {
        let is_other = |current: &CachedCatalogue| current.key.as_ref().is_some_and(|current| current != key);
        if is_other(&self.current.read().unwrap_or_else(PoisonError::into_inner)) {
            self.set(CachedCatalogue::embedded());
        }
    }

    /// Checks the headers of a response for a new catalog etag.
    pub(super) fn check_etag(&self, headers: &HeaderMap) {
        let Some(etag) = reported_etag(headers) else { return };
        let mut current = self.etag.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_deref() != Some(etag) {
            *current = Some(etag.to_owned());
            self.outdated.notify_one();
        }
    }

    /// Waits until a response reports a new catalog etag.
    pub(super) async fn outdated(&self) {
        self.outdated.notified().await;
    }

    fn set(&self, catalogue: CachedCatalogue) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = catalogue;
    }
}

/// The etag of the current catalog that a response reports.
pub(super) fn reported_etag(headers: &HeaderMap) -> Option<&str> {
    text_header(headers, "x-models-etag").map(opaque_tag)
}

/// Removes the quotes and the prefix `W/` from an etag.
fn opaque_tag(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

fn save(path: &Path, key: CatalogueKey, fetched_at: SystemTime, document: CatalogueDocument) -> std::io::Result<()> {
    let CatalogueDocument { json, etag } = document;
    let fetched_at = fetched_at.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let file = serde_json::to_vec(&File { key, fetched_at, etag, catalogue: serde_json::from_slice(&json)? })?;
    crate::fs::write_private(path, &file)
}

fn load(path: &Path) -> Option<CachedCatalogue> {
    let text = std::fs::read(path).ok()?;
    let file: File<'_> = serde_json::from_slice(&text).ok()?;
    let fetched_at = UNIX_EPOCH.checked_add(Duration::from_secs(file.fetched_at));
    let json = Bytes::copy_from_slice(file.catalogue.get().as_bytes());
    CachedCatalogue::parse(CatalogueDocument { json, etag: file.etag }, file.key, fetched_at)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::{CatalogueCache, CatalogueKey, EMBEDDED};
    use crate::protocol::models::Catalogue;

    const LIVE: &[u8] = br#"{"models":[{"slug":"gpt-live"}],"later":1}"#;

    fn etag(name: &'static str, text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(text))])
    }

    #[test]
    fn the_embedded_catalog_lists_models_without_prompts() {
        let embedded = Catalogue::parse(EMBEDDED).unwrap();
        assert!(embedded.find("gpt-5.5").is_some());
        let text = std::str::from_utf8(EMBEDDED).unwrap();
        assert!(!text.contains("instructions"));
    }

    #[tokio::test]
    async fn the_file_keeps_the_catalog_of_one_account_and_version() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("deep/catalogue.json");
        let key = CatalogueKey::new("0.171.0", "acct-1");
        let cache = CatalogueCache::new(Some(file.clone()));
        assert!(cache.replace(Bytes::from_static(LIVE), key.clone(), &etag("etag", "W/\"one\"")).await);
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(!written.contains("acct-1"), "the account's id is not written");

        let next = CatalogueCache::new(Some(file.clone()));
        next.load("0.171.0").await;
        let document = next.document();
        assert_eq!((document.json.as_ref(), document.etag.as_deref()), (LIVE, Some("W/\"one\"")));
        assert!(next.fetched_at().is_some());
        next.discard_others(&key);
        assert_eq!(next.document(), document);
        next.discard_others(&CatalogueKey::new("0.171.0", "acct-2"));
        assert_eq!((next.document().json.as_ref(), next.fetched_at()), (EMBEDDED, None));

        let other_version = CatalogueCache::new(Some(file.clone()));
        other_version.load("0.170.0").await;
        assert_eq!(other_version.document().json, EMBEDDED);

        std::fs::write(&file, "{").unwrap();
        let damaged = CatalogueCache::new(Some(file));
        damaged.load("0.171.0").await;
        assert_eq!(damaged.document().json, EMBEDDED);
    }

    #[tokio::test]
    async fn a_response_without_models_changes_nothing() {
        let cache = CatalogueCache::new(None);
        for json in ["", "{}", r#"{"models":[]}"#] {
            let key = CatalogueKey::new("1", "a");
            assert!(!cache.replace(Bytes::from_static(json.as_bytes()), key, &HeaderMap::new()).await, "{json}");
        }
        assert_eq!(cache.document().json, EMBEDDED);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_new_etag_outdates_the_catalog() {
        let is_outdated = async |cache: &CatalogueCache| {
            tokio::time::timeout(std::time::Duration::from_secs(1), cache.outdated()).await.is_ok()
        };
        let cache = CatalogueCache::new(None);
        let key = CatalogueKey::new("1", "a");
        assert!(cache.replace(Bytes::from_static(LIVE), key, &etag("etag", "W/\"one\"")).await);
        cache.check_etag(&etag("x-models-etag", "one"));
        assert!(!is_outdated(&cache).await);
        cache.check_etag(&etag("x-models-etag", "two"));
        assert!(is_outdated(&cache).await);
        cache.check_etag(&etag("x-models-etag", "two"));
        assert!(!is_outdated(&cache).await);
    }
}
