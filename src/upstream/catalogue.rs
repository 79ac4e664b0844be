//! The model catalogue: what the backend said last, what a file kept of it, or what was known when
//! this was built.
//!
//! Reading never waits. A refresh that fails, or brings no models, leaves what is there. The file
//! is replaced in one step, and belongs to one account and client version; it is a cache, so that
//! a file that can't be read is simply not used.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::headers::text;
use crate::clock::{Clock as _, SystemClock};
use crate::protocol::models::Catalogue;

const EMBEDDED: &[u8] = include_bytes!("catalogue.json");

/// The catalogue in memory, and its file.
#[derive(Debug)]
pub(super) struct Shelf {
    held: RwLock<Held>,
    file: Option<PathBuf>,
    noticed: Mutex<Option<String>>,
    outdated: Notify,
}

/// Whose catalogue, asked for with which client version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Label {
    client_version: String,
    account_sha256: String,
}

#[derive(Clone, Debug)]
struct Held {
    catalogue: Arc<Catalogue>,
    json: Bytes,
    /// `None` for the embedded list.
    label: Option<Label>,
    /// When the backend said it; `None` for the embedded list.
    heard_at: Option<SystemTime>,
}

#[derive(Serialize, Deserialize)]
struct File<'a> {
    asked: Label,
    fetched_at: u64,
    #[serde(borrow)]
    catalogue: &'a RawValue,
}

impl Label {
    pub(super) fn new(client_version: &str, account_id: &str) -> Self {
        use std::fmt::Write as _;
        let mut account_sha256 = String::new();
        for byte in Sha256::digest(account_id.as_bytes()) {
            let _ = write!(account_sha256, "{byte:02x}");
        }
        Self { client_version: client_version.to_owned(), account_sha256 }
    }
}

impl Held {
    fn embedded() -> Self {
        let catalogue = Catalogue::parse(EMBEDDED).unwrap_or_default();
        Self { catalogue: Arc::new(catalogue), json: Bytes::from_static(EMBEDDED), label: None, heard_at: None }
    }

    /// `None` when it can't be read or lists nothing.
    fn read(json: Bytes, label: Label, heard_at: Option<SystemTime>) -> Option<Self> {
        let catalogue = Catalogue::parse(&json).ok().filter(|catalogue| !catalogue.models().is_empty())?;
        Some(Self { catalogue: Arc::new(catalogue), json, label: Some(label), heard_at })
    }
}

impl Shelf {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { held: RwLock::new(Held::embedded()), file, noticed: Mutex::default(), outdated: Notify::new() }
    }

    pub(super) fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner).catalogue)
    }

    pub(super) fn json(&self) -> Bytes {
        self.held.read().unwrap_or_else(PoisonError::into_inner).json.clone()
    }

    /// When the backend said it; `None` for the embedded list.
    pub(super) fn heard_at(&self) -> Option<SystemTime> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).heard_at
    }

    /// Takes what the backend sent. Says whether there was anything in it.
    pub(super) async fn replace(&self, json: Bytes, label: Label, etag: Option<&str>) -> bool {
        let heard_at = SystemClock.now();
        let Some(held) = Held::read(json.clone(), label.clone(), Some(heard_at)) else { return false };
        self.hold(held);
        if let Some(etag) = etag {
            *self.noticed.lock().unwrap_or_else(PoisonError::into_inner) = Some(bare(etag).to_owned());
        }
        if let Some(file) = self.file.clone() {
            let written = tokio::task::spawn_blocking(move || save(&file, label, heard_at, &json)).await;
            if let Ok(Err(error)) = written {
                tracing::debug!(%error, "the model catalogue could not be kept in its file");
            }
        }
        true
    }

    /// Takes the file's catalogue, when it was asked for with this client version.
    pub(super) async fn load(&self, client_version: &str) {
        let Some(file) = self.file.clone() else { return };
        let loaded = tokio::task::spawn_blocking(move || load(&file)).await.ok().flatten();
        let is_usable = |held: &Held| held.label.as_ref().is_some_and(|label| label.client_version == client_version);
        if let Some(held) = loaded.filter(is_usable) {
            self.hold(held);
        }
    }

    /// Goes back to the embedded list when what is held belongs to somebody else.
    pub(super) fn claim(&self, label: &Label) {
        let is_foreign = |held: &Held| held.label.as_ref().is_some_and(|held| held != label);
        if is_foreign(&self.held.read().unwrap_or_else(PoisonError::into_inner)) {
            self.hold(Held::embedded());
        }
    }

    /// Looks at an answer's headers: another etag means that the catalogue has changed.
    pub(super) fn notice(&self, headers: &HeaderMap) {
        let Some(etag) = text(headers, "x-models-etag").map(bare) else { return };
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        if noticed.as_deref() != Some(etag) {
            *noticed = Some(etag.to_owned());
            self.outdated.notify_one();
        }
    }

    /// Waits until an answer says that the catalogue has changed.
    pub(super) async fn outdated(&self) {
        self.outdated.notified().await;
    }

    fn hold(&self, held: Held) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
    }
}

/// An etag without the marks that HTTP puts around it.
fn bare(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

fn save(path: &Path, label: Label, heard_at: SystemTime, json: &[u8]) -> std::io::Result<()> {
    let fetched_at = heard_at.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let file = serde_json::to_vec(&File { asked: label, fetched_at, catalogue: serde_json::from_slice(json)? })?;
    crate::fs::write_private(path, &file)
}

fn load(path: &Path) -> Option<Held> {
    let text = std::fs::read(path).ok()?;
    let file: File<'_> = serde_json::from_slice(&text).ok()?;
    let heard_at = UNIX_EPOCH.checked_add(Duration::from_secs(file.fetched_at));
    Held::read(Bytes::copy_from_slice(file.catalogue.get().as_bytes()), file.asked, heard_at)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::{EMBEDDED, Label, Shelf};
    use crate::protocol::models::Catalogue;

    const LIVE: &[u8] = br#"{"models":[{"slug":"gpt-live"}],"later":1}"#;

    #[test]
    fn the_embedded_list_names_models_and_holds_no_prompt() {
        let embedded = Catalogue::parse(EMBEDDED).unwrap();
        assert!(embedded.find("gpt-5.5").is_some());
        let text = std::str::from_utf8(EMBEDDED).unwrap();
        assert!(!text.contains("instructions"));
    }

    #[tokio::test]
    async fn what_was_heard_outlives_the_process() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("deep/catalogue.json");
        let label = Label::new("0.169.0", "acct-1");
        let shelf = Shelf::new(Some(file.clone()));
        assert!(shelf.replace(Bytes::from_static(LIVE), label.clone(), None).await);
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(!written.contains("acct-1"), "the account's id is not written");

        let next = Shelf::new(Some(file.clone()));
        next.load("0.169.0").await;
        assert_eq!(next.json(), LIVE);
        assert!(next.heard_at().is_some());
        next.claim(&label);
        assert_eq!(next.json(), LIVE);
        next.claim(&Label::new("0.169.0", "acct-2"));
        assert_eq!((next.json().as_ref(), next.heard_at()), (EMBEDDED, None));

        let other_version = Shelf::new(Some(file.clone()));
        other_version.load("0.170.0").await;
        assert_eq!(other_version.json(), EMBEDDED);

        std::fs::write(&file, "{").unwrap();
        let damaged = Shelf::new(Some(file));
        damaged.load("0.169.0").await;
        assert_eq!(damaged.json(), EMBEDDED);
    }

    #[tokio::test]
    async fn an_answer_without_models_changes_nothing() {
        let shelf = Shelf::new(None);
        for json in ["", "{}", r#"{"models":[]}"#] {
            assert!(!shelf.replace(Bytes::from_static(json.as_bytes()), Label::new("1", "a"), None).await, "{json}");
        }
        assert_eq!(shelf.json(), EMBEDDED);
    }

    #[tokio::test(start_paused = true)]
    async fn only_another_etag_outdates_the_catalogue() {
        let etag = |text: &'static str| {
            HeaderMap::from_iter([(http::HeaderName::from_static("x-models-etag"), HeaderValue::from_static(text))])
        };
        let told = async |shelf: &Shelf| {
            tokio::time::timeout(std::time::Duration::from_secs(1), shelf.outdated()).await.is_ok()
        };
        let shelf = Shelf::new(None);
        assert!(shelf.replace(Bytes::from_static(LIVE), Label::new("1", "a"), Some("W/\"one\"")).await);
        shelf.notice(&etag("one"));
        assert!(!told(&shelf).await);
        shelf.notice(&etag("two"));
        assert!(told(&shelf).await);
        shelf.notice(&etag("two"));
        assert!(!told(&shelf).await);
    }
}
