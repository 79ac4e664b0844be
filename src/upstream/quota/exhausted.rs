//! Which quotas are spent, so that a client which asks all the same is answered at once.
//!
//! Kept for each account and limit family, since one family can be spent while another has room; a
//! model's family is known from the headers of its earlier answers. A spent quota is evidence and
//! no lock: it is held no longer than the backend's own words justify, one request in a while is let
//! through to see whether it still holds (credits, an upgrade), and any success ends it. It lives in
//! memory, so that a restart forgets it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::error::{Fault, ProxyError, UpstreamFailure};
use crate::protocol::codex::failure::{limit_family, retold, shows_room};

/// What is known of every account's quotas.
#[derive(Debug)]
pub(in crate::upstream) struct Quotas {
    probe_every: Duration,
    accounts: Mutex<HashMap<String, Account>>,
}

/// One account's.
#[derive(Debug, Default)]
struct Account {
    /// The limit family that each model counts against; `None`: it was never named.
    families: HashMap<String, Family>,
    spent: HashMap<Family, Spent>,
}

type Family = Option<String>;

/// A quota that is used up.
#[derive(Debug)]
struct Spent {
    failure: UpstreamFailure,
    since: Instant,
    until: Instant,
    asked_at: Instant,
}

impl Quotas {
    /// Nothing is known; `probe_every` is how long nobody asks the backend about a spent quota.
    pub(in crate::upstream) fn new(probe_every: Duration) -> Self {
        Self { probe_every, accounts: Mutex::default() }
    }

    /// What a request for this model would be answered, where that is known already.
    pub(in crate::upstream) fn known(&self, account: &str, model: &str) -> Option<ProxyError> {
        let now = Instant::now();
        let mut accounts = self.lock();
        let account = accounts.get_mut(account)?;
        let family = account.families.get(model)?.clone();
        let spent = account.spent.get_mut(&family)?;
        if now >= spent.until {
            account.spent.remove(&family);
            return None;
        }
        if now >= spent.asked_at + self.probe_every {
            // Whoever comes next need not ask as well.
            spent.asked_at = now;
            tracing::info!("asking whether the usage limit still holds");
            return None;
        }
        Some(ProxyError::Upstream(Box::new(retold(&spent.failure, now - spent.since))))
    }

    /// Learns from a failure.
    pub(in crate::upstream) fn failed(&self, account: &str, model: &str, error: &ProxyError) {
        let ProxyError::Upstream(failure) = error else { return };
        if failure.fault != Fault::UsageLimit {
            return;
        }
        let now = Instant::now();
        let mut accounts = self.lock();
        let account = accounts.entry(account.to_owned()).or_default();
        let family = account.learn(model, &failure.headers);
        let until = failure.retry_after.and_then(|wait| now.checked_add(wait));
        match until.filter(|_| !shows_room(&failure.headers)) {
            Some(until) => {
                let spent = Spent { failure: failure.as_ref().clone(), since: now, until, asked_at: now };
                account.spent.insert(family, spent);
            }
            None => drop(account.spent.remove(&family)),
        }
    }

    /// Learns from an answer.
    pub(in crate::upstream) fn served(&self, account: &str, model: &str, headers: &HeaderMap) {
        let mut accounts = self.lock();
        let account = accounts.entry(account.to_owned()).or_default();
        let family = account.learn(model, headers);
        account.spent.remove(&family);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// The family that a model counts against, as headers tell; else as known.
    fn learn(&mut self, model: &str, headers: &HeaderMap) -> Family {
        let told = limit_family(headers);
        match self.families.get_mut(model) {
            Some(known) if told.is_none() || *known == told => known.clone(),
            Some(known) => {
                known.clone_from(&told);
                told
            }
            None => {
                self.families.insert(model.to_owned(), told.clone());
                told
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};

    use super::Quotas;
    use crate::error::{Fault, ProxyError};
    use crate::protocol::codex::failure::from_response;

    const MINUTE: Duration = Duration::from_secs(60);

    fn headers(family: &'static str, used_percent: &'static str) -> HeaderMap {
        let pairs = [("x-codex-active-limit", family), ("x-codex-primary-used-percent", used_percent)];
        pairs.into_iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn spent(family: &'static str, used_percent: &'static str, seconds: u64) -> ProxyError {
        let headers = headers(family, used_percent);
        let body = format!(r#"{{"error":{{"type":"usage_limit_reached","resets_in_seconds":{seconds}}}}}"#);
        let mut failure = from_response(429, &headers, body.as_bytes());
        failure.headers = headers;
        ProxyError::Upstream(Box::new(failure))
    }

    fn left(error: Option<ProxyError>) -> Option<Duration> {
        let ProxyError::Upstream(failure) = error? else { panic!("a failure of the backend") };
        assert_eq!(failure.fault, Fault::UsageLimit);
        failure.retry_after
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_quota_is_known_until_its_end() {
        let quotas = Quotas::new(60 * MINUTE);
        assert!(quotas.known("a", "m").is_none());
        quotas.failed("a", "m", &spent("codex", "100", 600));
        tokio::time::advance(MINUTE).await;
        assert_eq!(left(quotas.known("a", "m")), Some(9 * MINUTE));
        tokio::time::advance(9 * MINUTE).await;
        assert!(quotas.known("a", "m").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_in_a_while_asks_again() {
        let quotas = Quotas::new(5 * MINUTE);
        quotas.failed("a", "m", &spent("codex", "100", 6000));
        tokio::time::advance(5 * MINUTE).await;
        assert!(quotas.known("a", "m").is_none(), "the probe");
        assert!(quotas.known("a", "m").is_some(), "only one");
        quotas.failed("a", "m", &spent("codex", "100", 3000));
        assert_eq!(left(quotas.known("a", "m")), Some(50 * MINUTE));
        tokio::time::advance(5 * MINUTE).await;
        assert!(quotas.known("a", "m").is_none());
        quotas.served("a", "m", &headers("codex", "3"));
        assert!(quotas.known("a", "m").is_none(), "a success ends it");
    }

    #[tokio::test(start_paused = true)]
    async fn accounts_and_families_are_apart() {
        let quotas = Quotas::new(5 * MINUTE);
        quotas.served("a", "small", &headers("codex", "3"));
        quotas.served("a", "large", &headers("premium", "3"));
        quotas.served("a", "larger", &headers("premium", "3"));
        quotas.failed("a", "large", &spent("premium", "100", 600));
        assert!(quotas.known("a", "larger").is_some(), "the same family");
        assert!(quotas.known("a", "small").is_none());
        assert!(quotas.known("a", "never seen").is_none());
        assert!(quotas.known("b", "large").is_none());
        quotas.served("a", "larger", &HeaderMap::new());
        assert!(quotas.known("a", "large").is_none(), "a success of the family ends it");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_held_longer_than_the_backend_justifies() {
        let quotas = Quotas::new(5 * MINUTE);
        quotas.failed("a", "m", &spent("codex", "12", 600));
        assert!(quotas.known("a", "m").is_none(), "its own headers show room");
        let endless = from_response(429, &HeaderMap::new(), br#"{"error":{"type":"usage_limit_reached"}}"#);
        quotas.failed("a", "m", &ProxyError::Upstream(Box::new(endless)));
        assert!(quotas.known("a", "m").is_none(), "no end is known");
        quotas.failed("a", "m", &ProxyError::Truncated { cause: None });
        assert!(quotas.known("a", "m").is_none());
    }
}
