//! Requests the usage document when the recorded quota is too old.
//!
//! Concurrent callers for the same account share one request. If the caller that sent it gives up, another one sends
//! the next.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::QuotaTracker;
use super::snapshot::Quota;
use crate::error::{Fault, ProxyError};
use crate::token_source::{Bearer, TokenSource};
use crate::upstream::{Upstream, region};

/// A quota recorded within this time is not requested again.
const MAX_AGE: Duration = Duration::from_secs(60);
/// Limit for the request. Client requests wait for it.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct LookupState {
    /// When the quota was last recorded, or a request for it last failed.
    pub(super) updated_at: Option<Instant>,
    /// Closes when the request in progress ends.
    in_progress: Option<watch::Receiver<()>>,
}

/// What a caller that needs an account's quota does.
#[derive(Debug)]
pub(super) enum Lookup<'t> {
    /// Nothing: the quota is recent, or a request for it has just failed.
    Recent,
    /// Wait for another caller's request.
    InProgress(watch::Receiver<()>),
    /// Send the request.
    Start(LookupGuard<'t>),
}

/// The request for an account's quota. Dropping it ends the request, and other callers stop waiting. If it had no
/// result, the next caller sends another one.
#[derive(Debug)]
pub(super) struct LookupGuard<'t> {
    tracker: &'t QuotaTracker,
    account: &'t str,
    max_age: Duration,
    _ended: watch::Sender<()>,
}

impl QuotaTracker {
    /// Decides whether the caller requests an account's quota. A quota or a failed request within `max_age` is recent
    /// enough.
    pub(super) fn lookup<'t>(&'t self, account: &'t str, max_age: Duration) -> Lookup<'t> {
        let mut accounts = self.lock();
        let state = &mut accounts.entry(account.to_owned()).or_default().lookup;
        if !state.is_due(max_age) {
            return Lookup::Recent;
        }
        if let Some(in_progress) = &state.in_progress {
            return Lookup::InProgress(in_progress.clone());
        }
        let (ended, in_progress) = watch::channel(());
        state.in_progress = Some(in_progress);
        Lookup::Start(LookupGuard { tracker: self, account, max_age, _ended: ended })
    }
}

impl LookupState {
    fn is_due(&self, max_age: Duration) -> bool {
        self.updated_at.is_none_or(|updated| updated.elapsed() >= max_age)
    }
}

impl LookupGuard<'_> {
    /// Records that the request has a result. If that is a failure, it isn't repeated at once.
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
    /// Requests the quota of the active account.
    ///
    /// # Errors
    /// If no token is available, or the backend doesn't report the quota.
    pub async fn fetch_quota(&self) -> Result<Quota, ProxyError> {
        let bearer = self.tokens.bearer().await.map_err(ProxyError::Auth)?;
        let bearer = match self.fetch_usage(&bearer, LIMIT).await {
            Err(ProxyError::Upstream(failure)) if failure.fault == Fault::Unauthorized => {
                let bearer = self.tokens.recover(&bearer).await.map_err(ProxyError::Auth)?;
                self.fetch_usage(&bearer, LIMIT).await?;
                bearer
            }
            fetched => fetched.map(|()| bearer)?,
        };
        let quota = self.quota.quota(&bearer.account.id);
        quota.ok_or_else(|| ProxyError::Damaged { reason: "the usage response has no quota window".to_owned() })
    }

    /// Requests the quota of the account with these tokens, unless it is recent. Takes at most five seconds.
    pub async fn refresh_quota(&self, tokens: &dyn TokenSource) {
        let deadline = Instant::now() + LIMIT;
        if let Ok(Ok(bearer)) = timeout_at(deadline, tokens.bearer()).await {
            self.refresh_until(&bearer, deadline).await;
        }
    }

    /// Requests the quota of an account, unless it is recent.
    pub(in crate::upstream) async fn refresh(&self, bearer: &Bearer) {
        self.refresh_until(bearer, Instant::now() + LIMIT).await;
    }

    async fn refresh_until(&self, bearer: &Bearer, deadline: Instant) {
        loop {
            match self.quota.lookup(&bearer.account.id, MAX_AGE) {
                Lookup::Recent => return,
                Lookup::InProgress(mut ended) => {
                    if timeout_at(deadline, ended.changed()).await.is_err() {
                        return;
                    }
                }
                Lookup::Start(request) => {
                    // The request has its own limit, so that a backend that doesn't respond counts as a failed request.
                    let limit = deadline.saturating_duration_since(Instant::now());
                    if let Err(error) = self.fetch_usage(bearer, limit).await {
                        tracing::debug!(cause = error.loggable(), "the quota could not be requested");
                    }
                    return request.finish();
                }
            }
        }
    }

    async fn fetch_usage(&self, bearer: &Bearer, limit: Duration) -> Result<(), ProxyError> {
        let body = region::fetch_account(&self.http, &self.request_headers(bearer), "usage", limit).await?;
        if self.quota.record_usage(&bearer.account.id, &body) {
            return Ok(());
        }
        Err(ProxyError::Damaged { reason: "the usage response can't be parsed".to_owned() })
    }
}
