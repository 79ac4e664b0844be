//! The quota as others see it: asked for where it is not known, told, and kept in part for others.
//!
//! Asking spends nothing of the plan. A share of the windows can be reserved: whoever may use only so
//! much is refused while a window that counts is used beyond that. Where the quota can't be found out
//! nobody is refused.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout_at};

use super::snapshot::{Ask, Quota, QuotaWindow};
use crate::error::{Fault, ProxyError, Reserve};
use crate::token_source::{Bearer, TokenSource};
use crate::upstream::{Upstream, region};

/// What was told within this span is taken for true.
const FRESH: Duration = Duration::from_secs(60);
/// How long the question may take, since requests wait for it.
const LIMIT: Duration = Duration::from_secs(5);
/// When to come back where it is not known when a window begins anew.
const COME_BACK: Duration = Duration::from_secs(300);

impl Upstream {
    /// What is known of every account's quota; asks nobody.
    #[must_use]
    pub fn quotas(&self) -> Vec<Quota> {
        self.gauges.all()
    }

    /// Asks for the quota of the account in use.
    ///
    /// # Errors
    /// When no token can be had, or the backend did not say.
    pub async fn quota(&self) -> Result<Quota, ProxyError> {
        let bearer = self.tokens.bearer().await.map_err(ProxyError::Auth)?;
        let bearer = match self.ask_quota(&bearer, LIMIT).await {
            Err(ProxyError::Upstream(failure)) if failure.fault == Fault::Unauthorized => {
                let bearer = self.tokens.recover(&bearer).await.map_err(ProxyError::Auth)?;
                self.ask_quota(&bearer, LIMIT).await?;
                bearer
            }
            asked => asked.map(|()| bearer)?,
        };
        let quota = self.gauges.of(&bearer.account.id);
        quota.ok_or_else(|| ProxyError::Damaged { reason: "the answer shows no quota window".to_owned() })
    }

    /// Asks for the quota of the account whose tokens these are, unless something was told of it just now.
    /// Takes five seconds at most.
    pub async fn look_for(&self, tokens: &dyn TokenSource) {
        let deadline = Instant::now() + LIMIT;
        if let Ok(Ok(bearer)) = timeout_at(deadline, tokens.bearer()).await {
            self.look_until(&bearer, deadline).await;
        }
    }

    /// Refuses whoever may use only this much of each window, once one is used beyond that.
    ///
    /// # Errors
    /// With the window that is.
    pub async fn check_reserve(&self, bearer: &Bearer, key: &str, percent: u8) -> Result<(), ProxyError> {
        self.look(bearer).await;
        let quota = self.gauges.of(&bearer.account.id);
        match quota.as_ref().and_then(|quota| quota.beyond(percent)) {
            Some(window) => Err(ProxyError::Reserved(Box::new(reserve(key, percent, window, self.http.clock().now())))),
            None => Ok(()),
        }
    }

    /// Asks for the quota unless it was learned just now. Concurrent callers for the same account share one
    /// request. If the caller that sent it gives up, one of the others sends the next.
    pub(in crate::upstream) async fn look(&self, bearer: &Bearer) {
        self.look_until(bearer, Instant::now() + LIMIT).await;
    }

    async fn look_until(&self, bearer: &Bearer, deadline: Instant) {
        loop {
            match self.gauges.ask(&bearer.account.id, FRESH) {
                Ask::Known => return,
                Ask::UnderWay(mut end) => {
                    if timeout_at(deadline, end.changed()).await.is_err() {
                        return;
                    }
                }
                Ask::Begin(request) => {
                    // The limit is the request's own, so that a silent backend counts as a failed request.
                    let limit = deadline.saturating_duration_since(Instant::now());
                    if let Err(error) = self.ask_quota(bearer, limit).await {
                        tracing::debug!(cause = error.loggable(), "the quota could not be found out");
                    }
                    return request.finish();
                }
            }
        }
    }

    async fn ask_quota(&self, bearer: &Bearer, limit: Duration) -> Result<(), ProxyError> {
        let body = region::ask(&self.http, &self.caller(bearer), "usage", limit).await?;
        if self.gauges.answered(&bearer.account.id, &body) {
            return Ok(());
        }
        Err(ProxyError::Damaged { reason: "the answer about the quota can't be read".to_owned() })
    }
}

fn reserve(key: &str, percent: u8, window: &QuotaWindow, now: SystemTime) -> Reserve {
    let left = window.resets_at.map(|reset| reset.duration_since(now).unwrap_or_default());
    Reserve {
        key: key.to_owned(),
        allowed_percent: percent,
        window: window.window.clone(),
        used_percent: window.used_percent,
        resets_at: window.resets_at,
        retry_after: left.unwrap_or(COME_BACK),
    }
}
