//! The model catalogs of clients that send their own tokens, one per account, in memory only.
//!
//! A request of an account whose catalog is missing, old or reported as changed requests it first, with the client's
//! token. If the backend refuses that token, the request fails: the client has to refresh it. Any other failure leaves
//! the catalog as it is.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::{Instant, timeout};

use super::catalogue::{CachedCatalogue, CatalogueDocument, CatalogueKey, reported_etag};
use super::{CATALOGUE_BACKOFF, CATALOGUE_INTERVAL, Upstream, region};
use crate::error::{Fault, ProxyError};
use crate::token_source::Bearer;

/// Accounts whose catalogs are kept.
const MAX_ACCOUNTS: usize = 8;
/// Time limit of a refresh that requests wait for.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The catalogs, the last used one at the end.
#[derive(Debug, Default)]
pub(super) struct ClientCatalogues {
    entries: Mutex<Vec<Entry>>,
    embedded: OnceLock<CachedCatalogue>,
}

#[derive(Debug)]
struct Entry {
    key: CatalogueKey,
    cached: CachedCatalogue,
    /// The etag that the backend last reported.
    etag: Option<String>,
    /// When the catalog is requested next; `None`: with the next request.
    due: Option<Instant>,
    /// Held while the catalog is requested.
    refreshing: Arc<tokio::sync::Mutex<()>>,
}

impl ClientCatalogues {
    /// The catalog of this account: the embedded one if it isn't known.
    pub(super) fn find(&self, key: Option<&CatalogueKey>) -> CachedCatalogue {
        let entries = self.lock();
        let found = entries.iter().find(|entry| Some(&entry.key) == key).map(|entry| entry.cached.clone());
        found.unwrap_or_else(|| self.embedded())
    }

    fn embedded(&self) -> CachedCatalogue {
        self.embedded.get_or_init(CachedCatalogue::embedded).clone()
    }

    /// Returns the lock to hold while the catalog of this account is requested, if it is due.
    fn turn(&self, key: &CatalogueKey) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let mut entries = self.lock();
        let entry = match entries.iter().position(|entry| entry.key == *key) {
            Some(position) => entries.remove(position),
            None => {
                Entry { key: key.clone(), cached: self.embedded(), etag: None, due: None, refreshing: Arc::default() }
            }
        };
        if entries.len() == MAX_ACCOUNTS {
            entries.remove(0);
        }
        let turn = entry.is_due().then(|| Arc::clone(&entry.refreshing));
        entries.push(entry);
        turn
    }

    fn is_due(&self, key: &CatalogueKey) -> bool {
        self.lock().iter().find(|entry| entry.key == *key).is_none_or(Entry::is_due)
    }

    /// Sets when the catalog is requested next; `None`: with the next request.
    fn set_due(&self, key: &CatalogueKey, delay: Option<Duration>) {
        self.change(key, |entry| entry.due = delay.map(|delay| Instant::now() + delay));
    }

    /// Records a catalog. Returns whether it lists models.
    fn replace(&self, key: &CatalogueKey, json: &Bytes, headers: &HeaderMap) -> bool {
        let document = CatalogueDocument::received(json.clone(), headers);
        let Some(cached) = CachedCatalogue::parse(document, key.clone(), None) else { return false };
        self.change(key, |entry| {
            entry.etag = reported_etag(headers).map(str::to_owned);
            entry.cached = cached;
        });
        true
    }

    /// Checks the headers of a response for a new catalog etag.
    fn check_etag(&self, key: &CatalogueKey, headers: &HeaderMap) {
        let Some(etag) = reported_etag(headers) else { return };
        self.change(key, |entry| {
            if entry.etag.as_deref() != Some(etag) {
                // The first etag may be that of the catalog, if that came without one.
                entry.due = entry.due.filter(|_| entry.etag.is_none());
                entry.etag = Some(etag.to_owned());
            }
        });
    }

    fn change(&self, key: &CatalogueKey, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().iter_mut().find(|entry| entry.key == *key) {
            change(entry);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_due(&self) -> bool {
        self.due.is_none_or(|due| due <= Instant::now())
    }
}

impl Upstream {
    pub(super) fn client_catalogue(&self, account_id: Option<&str>) -> CachedCatalogue {
        let key = account_id.map(|id| CatalogueKey::new(&self.version, id));
        self.client_catalogues.find(key.as_ref())
    }

    /// Requests the catalog of this token's account if it is missing, old or reported as changed. For clients that send
    /// their own token. Takes at most five seconds; concurrent callers share one request.
    ///
    /// # Errors
    /// If the backend refuses the token. Other failures are only logged.
    pub async fn refresh_catalogue_of(&self, bearer: &Bearer) -> Result<(), ProxyError> {
        let key = CatalogueKey::new(&self.version, &bearer.account.id);
        if self.player.is_some() {
            return Ok(());
        }
        let Some(turn) = self.client_catalogues.turn(&key) else { return Ok(()) };
        let refresh = async {
            let _turn = turn.lock().await;
            if self.client_catalogues.is_due(&key) { self.fetch_client_catalogue(bearer, &key).await } else { Ok(()) }
        };
        timeout(MAX_WAIT, refresh).await.unwrap_or(Ok(()))
    }

    async fn fetch_client_catalogue(&self, bearer: &Bearer, key: &CatalogueKey) -> Result<(), ProxyError> {
        // Set first, so that a request that is cut off by the time limit isn't repeated at once.
        self.client_catalogues.set_due(key, Some(CATALOGUE_BACKOFF));
        match self.request_catalogue(bearer).await {
            Ok((headers, json)) if self.client_catalogues.replace(key, &json, &headers) => {
                self.client_catalogues.set_due(key, Some(CATALOGUE_INTERVAL));
            }
            Ok(_) => tracing::debug!("the model catalog of a client lists no models"),
            Err(mut error) if region::is_refused_token(&error) => {
                self.client_catalogues.set_due(key, None);
                if let ProxyError::Upstream(failure) = &mut error {
                    failure.fault = Fault::ClientUnauthorized;
                }
                return Err(error);
            }
            Err(error) => {
                tracing::debug!(cause = error.loggable(), "the model catalog of a client could not be requested");
            }
        }
        Ok(())
    }

    /// Requests the catalog of this account again with the next token of a client, which shows whether the backend
    /// accepts that one.
    pub(super) fn check_next_token_of(&self, account_id: &str) {
        self.client_catalogues.set_due(&CatalogueKey::new(&self.version, account_id), None);
    }

    /// Checks the headers of a response to a client's own token for a new catalog etag.
    pub(super) fn check_client_etag(&self, account_id: &str, headers: &HeaderMap) {
        self.client_catalogues.check_etag(&CatalogueKey::new(&self.version, account_id), headers);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::HeaderMap;

    use super::{CatalogueKey, ClientCatalogues, MAX_ACCOUNTS};

    fn key(account: usize) -> CatalogueKey {
        CatalogueKey::new("1", &account.to_string())
    }

    fn add(catalogues: &ClientCatalogues, account: usize) {
        assert!(catalogues.turn(&key(account)).is_some());
        let json = format!(r#"{{"models":[{{"slug":"gpt-{account}"}}]}}"#);
        assert!(catalogues.replace(&key(account), &Bytes::from(json), &HeaderMap::new()));
        catalogues.set_due(&key(account), Some(Duration::from_secs(60)));
    }

    fn knows(catalogues: &ClientCatalogues, account: usize) -> bool {
        catalogues.find(Some(&key(account))).catalogue.find(&format!("gpt-{account}")).is_some()
    }

    fn etag(etag: &'static str) -> HeaderMap {
        let name = http::HeaderName::from_static("x-models-etag");
        HeaderMap::from_iter([(name, http::HeaderValue::from_static(etag))])
    }

    #[tokio::test]
    async fn each_account_has_its_catalog_and_the_least_recently_used_is_dropped() {
        let catalogues = ClientCatalogues::default();
        (0..MAX_ACCOUNTS).for_each(|account| add(&catalogues, account));
        assert!(catalogues.turn(&key(0)).is_none() && (0..MAX_ACCOUNTS).all(|account| knows(&catalogues, account)));
        add(&catalogues, MAX_ACCOUNTS);
        assert!(knows(&catalogues, 0) && !knows(&catalogues, 1) && knows(&catalogues, MAX_ACCOUNTS));
    }

    #[tokio::test]
    async fn a_new_etag_makes_the_catalog_of_that_account_due() {
        let catalogues = ClientCatalogues::default();
        (0..2).for_each(|account| add(&catalogues, account));
        catalogues.check_etag(&key(0), &etag("one"));
        assert!(!catalogues.is_due(&key(0)), "it may be the one of the catalog");
        catalogues.check_etag(&key(0), &etag("two"));
        assert!(catalogues.is_due(&key(0)) && !catalogues.is_due(&key(1)));
    }

    #[tokio::test]
    async fn a_response_without_models_changes_nothing() {
        let catalogues = ClientCatalogues::default();
        add(&catalogues, 0);
        assert!(!catalogues.replace(&key(0), &Bytes::from_static(br#"{"models":[]}"#), &HeaderMap::new()));
        assert!(knows(&catalogues, 0));
    }
}
