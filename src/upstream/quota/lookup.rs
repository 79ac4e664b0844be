//! Requests an account's quota (the usage document) from the backend if the last report of it is too old.
//!
//! Concurrent callers for the same account share one request. If the caller that sends it is dropped, a waiting one
//! sends its own. A failed request isn't repeated at once. [`Upstream::fetch_quota`] does none of that: it always sends
//! a request.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::snapshot::Quota;
use super::{QuotaTracker, entry};
use crate::error::ProxyError;
use crate::token_source::{Bearer, TokenSource};
use crate::upstream::{Upstream, region};

/// A quota that was reported within this time is not requested again.
const MAX_AGE: Duration = Duration::from_secs(60);
/// Time limit for the request; some client requests wait for its result.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The state of one account.
#[derive(Debug, Default)]
pub(super) struct LookupState {
    /// When the backend last reported the quota in any form, or a request for it last failed.
    pub(super) updated_at: Option<Instant>,
    /// Closes when the request in progress ends.
    in_progress: Option<watch::Receiver<()>>,
}

/// The next step of a caller that needs a recent quota.
#[derive(Debug)]
pub(super) enum NextStep<'t> {
    /// Nothing: the quota is recent, or a request for it has just failed.
    Recent,
    /// Wait for another caller's request.
    InProgress(watch::Receiver<()>),
    /// Send the request.
    Start(LookupGuard<'t>),
}

/// Marks a request as in progress. Dropping it wakes the waiting callers; if it wasn't finished, one of them sends
/// another request.
#[derive(Debug)]
pub(super) struct LookupGuard<'t> {
    tracker: &'t QuotaTracker,
    account: &'t str,
    max_age: Duration,
    _ended: watch::Sender<()>,
}

impl QuotaTracker {
    /// Decides what a caller that needs an account's quota has to do: nothing if a report or a failure is younger than
    /// `max_age`.
    pub(super) fn lookup<'t>(&'t self, account: &'t str, max_age: Duration) -> NextStep<'t> {
        let mut accounts = self.lock();
        let state = &mut entry(&mut accounts, account).lookup;
        if !state.is_due(max_age) {
            return NextStep::Recent;
        }
        if let Some(in_progress) = &state.in_progress {
            return NextStep::InProgress(in_progress.clone());
        }
        let (ended, in_progress) = watch::channel(());
        state.in_progress = Some(in_progress);
        NextStep::Start(LookupGuard { tracker: self, account, max_age, _ended: ended })
    }
}

impl LookupState {
    fn is_due(&self, max_age: Duration) -> bool {
        self.updated_at.is_none_or(|updated| updated.elapsed() >= max_age)
    }
}

impl LookupGuard<'_> {
    /// Ends the request. If no quota was recorded, counts it as a failure, which isn't repeated within `max_age`.
    pub(super) fn finish(self) {
        if let Some(quota) = self.tracker.lock().get_mut(self.account)
            && quota.lookup.is_due(self.max_age)
        {
            quota.lookup.updated_at = Some(Instant::now());
        }
    }
}

impl Drop for LookupGuard<'_> {
    fn drop(&mut self) {
        if let Some(quota) = self.tracker.lock().get_mut(self.account) {
            quota.lookup.in_progress = None;
        }
    }
}

impl Upstream {
    /// Requests the quota of the active account, however recent the recorded one is. A refused token is replaced once.
    ///
    /// # Errors
    /// If no token is available, or the backend doesn't report the quota.
    pub async fn fetch_quota(&self) -> Result<Quota, ProxyError> {
        let fetch = async |bearer: &Bearer| {
            self.fetch_usage(bearer, TIMEOUT).await?;
            Ok(self.quota.quota(&bearer.account.id))
        };
        let quota = self.with_active_token(fetch).await?;
        quota.ok_or_else(|| ProxyError::Damaged { reason: "the usage response has no quota window".to_owned() })
    }

    /// Requests the quota of the account that `tokens` belong to, unless it is recent. Takes at most five seconds;
    /// failures are only logged.
    pub async fn refresh_quota(&self, tokens: &dyn TokenSource) {
        let deadline = Instant::now() + TIMEOUT;
        if let Ok(Ok(bearer)) = timeout_at(deadline, tokens.bearer()).await {
            self.refresh_until(&bearer, deadline).await;
        }
    }

    /// Requests the quota of this token's account, unless it is recent. Takes at most five seconds; failures are only
    /// logged.
    pub(in crate::upstream) async fn refresh_quota_of(&self, bearer: &Bearer) {
        self.refresh_until(bearer, Instant::now() + TIMEOUT).await;
    }

    async fn refresh_until(&self, bearer: &Bearer, deadline: Instant) {
        loop {
            match self.quota.lookup(&bearer.account.id, MAX_AGE) {
                NextStep::Recent => return,
                NextStep::InProgress(mut ended) => {
                    if timeout_at(deadline, ended.changed()).await.is_err() {
                        return;
                    }
                }
                NextStep::Start(request) => {
                    // Passed as the request's own limit: an outer timeout would skip `finish`.
                    let limit = deadline.saturating_duration_since(Instant::now());
                    if let Err(error) = self.fetch_usage(bearer, limit).await {
                        tracing::debug!(cause = error.loggable(), "the quota could not be requested");
                    }
                    return request.finish();
                }
            }
        }
    }

    /// Requests and records the usage document.
    async fn fetch_usage(&self, bearer: &Bearer, limit: Duration) -> Result<(), ProxyError> {
        let body = region::fetch_account(&self.http, &self.request_headers(bearer), "usage", limit).await?;
        if self.quota.record_usage(&bearer.account.id, &body) {
            return Ok(());
        }
        Err(ProxyError::Damaged { reason: "the usage response can't be parsed".to_owned() })
    }
}
