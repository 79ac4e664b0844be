//! Tracks how much of each account's quota is used, and refuses requests over a limit.
//!
//! [`QuotaTracker`] collects the reports of the backend in headers, events, errors and the usage document, per account
//! and in memory only. They show whether a limit is exhausted ([`exhausted`]), whether a window is used beyond the
//! share that a client key may use, and how fast the windows are used ([`snapshot`]). [`lookup`] requests the usage
//! document if the collected data is too old; that doesn't count against the quota. An unknown quota never blocks a
//! request. [`account_check`] checks whether an account is accepted at all.

pub(super) mod account_check;
mod exhausted;
mod lookup;
pub(super) mod snapshot;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::error::{Fault, ProxyError, Reserve, UpstreamFailure};
use crate::protocol::codex::rate_limits::RateLimits;
use crate::token_source::Bearer;
use crate::upstream::Upstream;
use exhausted::ExhaustedLimits;
use lookup::LookupState;
use snapshot::{Coverage, Quota, QuotaWindow, Snapshot};

/// `Retry-After` for a client key whose share is used up, if the window's reset is unknown.
const RETRY_AFTER_UNKNOWN_RESET: Duration = Duration::from_secs(300);

/// Accounts whose quota is kept.
const MAX_ACCOUNTS: usize = 64;

/// Tracks the quota of each account.
#[derive(Debug)]
pub(super) struct QuotaTracker {
    clock: Arc<dyn Clock>,
    /// How long requests are refused locally before one is sent to probe an exhausted limit.
    probe_interval: Duration,
    /// By account id.
    accounts: Mutex<BTreeMap<String, AccountQuota>>,
}

#[derive(Debug, Default)]
struct AccountQuota {
    /// `None` until the backend reports a window of known length.
    snapshot: Option<Snapshot>,
    lookup: LookupState,
    exhausted: ExhaustedLimits,
}

/// Records the rate limit events of one response.
#[derive(Clone, Debug)]
pub(super) struct QuotaObserver {
    tracker: Arc<QuotaTracker>,
    account: String,
}

/// The entry of an account, created if it is new. Then, another one is forgotten if there are too many: clients that
/// send their own tokens can name any account.
fn entry<'a>(accounts: &'a mut BTreeMap<String, AccountQuota>, account: &str) -> &'a mut AccountQuota {
    if !accounts.contains_key(account) {
        if accounts.len() == MAX_ACCOUNTS {
            accounts.pop_first();
        }
        accounts.insert(account.to_owned(), AccountQuota::default());
    }
    accounts.get_mut(account).expect("it was inserted if it was missing")
}

impl QuotaTracker {
    pub(super) fn new(clock: Arc<dyn Clock>, probe_interval: Duration) -> Self {
        Self { clock, probe_interval, accounts: Mutex::default() }
    }

    pub(super) fn observer(self: &Arc<Self>, account: &str) -> QuotaObserver {
        QuotaObserver { tracker: Arc::clone(self), account: account.to_owned() }
    }

    /// Returns the failure that a request for this model would get, if its limit is known to be exhausted. Lets one
    /// request per probe interval through, to find out whether the limit is still exhausted.
    pub(super) fn exhausted(&self, account: &str, model: &str) -> Option<UpstreamFailure> {
        self.lock().get_mut(account)?.exhausted.check(model, self.probe_interval)
    }

    /// Like [`Self::exhausted`], for a request whose success doesn't show whether the limit is exhausted.
    pub(super) fn exhausted_without_probe(&self, account: &str, model: &str) -> Option<UpstreamFailure> {
        self.lock().get_mut(account)?.exhausted.failure(model)
    }

    /// Records the limits in the headers of a success that doesn't show whether a limit is exhausted.
    pub(super) fn record_headers(&self, account: &str, headers: &HeaderMap) {
        let limits = RateLimits::from_headers(headers);
        self.update(account, |quota, now| quota.record(limits, Coverage::WholeLimits, now));
    }

    /// Records a response that was committed, with the limits in its headers.
    pub(super) fn record_success(&self, account: &str, model: &str, headers: &HeaderMap) {
        let limits = RateLimits::from_headers(headers);
        self.update(account, |quota, now| {
            quota.exhausted.record_success(model, &limits);
            quota.record(limits, Coverage::WholeLimits, now);
        });
    }

    /// Records a failed attempt, with the limits in its headers if it is a response of the backend.
    pub(super) fn record_failure(&self, account: &str, model: &str, error: &ProxyError) {
        let ProxyError::Upstream(failure) = error else { return };
        let limits = RateLimits::from_headers(&failure.headers);
        self.update(account, |quota, now| {
            if failure.fault == Fault::UsageLimit {
                quota.exhausted.record_usage_limit(model, failure, &limits);
            }
            quota.record(limits, Coverage::WholeLimits, now);
        });
    }

    /// Records a usage document. Returns whether the body is one.
    fn record_usage(&self, account: &str, body: &[u8]) -> bool {
        let Some(limits) = RateLimits::from_usage(body) else { return false };
        self.update(account, |quota, now| quota.record(limits, Coverage::AllLimits, now));
        true
    }

    /// The recorded quota of one account.
    fn quota(&self, account: &str) -> Option<Quota> {
        Some(self.lock().get(account)?.snapshot.as_ref()?.quota(account, self.clock.now()))
    }

    fn quotas(&self) -> Vec<Quota> {
        let (accounts, now) = (self.lock(), self.clock.now());
        accounts.iter().filter_map(|(id, quota)| Some(quota.snapshot.as_ref()?.quota(id, now))).collect()
    }

    fn update(&self, account: &str, change: impl FnOnce(&mut AccountQuota, SystemTime)) {
        let now = self.clock.now();
        change(entry(&mut self.lock(), account), now);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, AccountQuota>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccountQuota {
    /// Records the reported windows of known length.
    fn record(&mut self, mut limits: RateLimits, coverage: Coverage, now: SystemTime) {
        limits.limits.retain_mut(|limit| {
            limit.windows.retain(|window| window.length.is_some());
            !limit.windows.is_empty()
        });
        if limits.limits.is_empty() {
            return;
        }
        self.lookup.updated_at = Some(Instant::now());
        self.snapshot.get_or_insert_with(|| Snapshot::new(now)).merge(limits, coverage, now);
    }
}

impl QuotaObserver {
    /// Records a rate limit event.
    pub(super) fn record_event(&self, data: &[u8]) {
        if let Some(limits) = RateLimits::from_event(data) {
            self.tracker.update(&self.account, |quota, now| quota.record(limits, Coverage::SomeWindows, now));
        }
    }
}

impl Upstream {
    /// The recorded quota of every account that the backend has reported one for. Sends no request.
    #[must_use]
    pub fn quotas(&self) -> Vec<Quota> {
        self.quota.quotas()
    }

    /// Checks that no window of the account is used beyond the percentage that a client key, or batches, may use.
    /// Requests the quota first if its last report is older than a minute.
    ///
    /// # Errors
    /// [`ProxyError::Reserved`] with the window that is used further.
    pub async fn check_reserve(&self, bearer: &Bearer, key: Option<&str>, percent: u8) -> Result<(), ProxyError> {
        match self.window_beyond(bearer, percent).await {
            Some(window) => Err(ProxyError::Reserved(Box::new(reserve(key, percent, &window, self.quota.clock.now())))),
            None => Ok(()),
        }
    }

    /// The window of the account that is used beyond this percentage. If there are several, the one that resets last.
    async fn window_beyond(&self, bearer: &Bearer, percent: u8) -> Option<QuotaWindow> {
        self.refresh_quota_of(bearer).await;
        self.quota.quota(&bearer.account.id)?.window_beyond(percent).cloned()
    }
}

fn reserve(key: Option<&str>, percent: u8, window: &QuotaWindow, now: SystemTime) -> Reserve {
    let left = window.resets_at.map(|reset| reset.duration_since(now).unwrap_or_default());
    Reserve {
        key: key.map(str::to_owned),
        allowed_percent: percent,
        window: window.window.clone(),
        used_percent: window.used_percent,
        resets_at: window.resets_at,
        retry_after: left.unwrap_or(RETRY_AFTER_UNKNOWN_RESET),
    }
}

#[cfg(test)]
mod tests;
