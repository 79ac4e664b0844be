//! Decides when the next line of a batch may start.
//!
//! A line waits for requests of clients, for room in the file store, and while the quota of its account is used beyond
//! `batch.window_percent`.

use std::time::{Duration, SystemTime};

use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Request};
use tokio::time::timeout;

use super::activity::Obstacle;
use super::runner::BatchRunner;
use crate::clock::{Clock as _, SystemClock};
use crate::error::{ProxyError, Refusal};
use crate::history::{BatchRecord, FileError};
use crate::server::account;
use crate::server::internal_request::{KEY_REMOVED, attach_owner};

/// How often the quota of a paused batch is checked, since the user may have bought credits or reset it.
const QUOTA_INTERVAL: Duration = Duration::from_secs(60);
/// How often other causes are checked.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);
/// The shortest pause.
pub(super) const MIN_WAIT: Duration = Duration::from_secs(1);
/// How long a line waits for requests of clients until its batch counts as paused.
const QUEUE_WAIT: Duration = Duration::from_secs(1);
/// How long a batch of a removed client key waits for the key, which the user may have removed by mistake.
const KEY_GRACE: Duration = Duration::from_secs(10 * 60);

impl BatchRunner {
    /// Why the next line may not start; `None`: it may. Waits a moment for requests of clients to get their permits.
    pub(super) async fn obstacle(&self, batch: &BatchRecord) -> Result<Option<Obstacle>, FileError> {
        // First, since a batch of a removed key may be what fills the store.
        if let Err(error) = self.check_quota(batch).await {
            return Ok(Some(self.obstacle_of(batch, &error).await?));
        }
        if !self.services.files.has_room().await? {
            let reason = "the stored files have reached their maximum size (setting files.max_bytes); delete some";
            return Ok(Some(Obstacle { kind: "files_full", reason: reason.to_owned(), wait: INTERVAL }));
        }
        if timeout(QUEUE_WAIT, self.state.concurrency.until_unqueued()).await.is_err() {
            let reason = "requests of clients are waiting, which come first (setting limits.concurrency)";
            return Ok(Some(Obstacle { kind: "clients_waiting", reason: reason.to_owned(), wait: MIN_WAIT }));
        }
        Ok(None)
    }

    /// Checks the key, the login, and the quota of the account.
    async fn check_quota(&self, batch: &BatchRecord) -> Result<(), ProxyError> {
        let parts = self.parts(batch)?;
        let chosen = account::tokens(&parts, &self.services).await?;
        let token = self.services.upstream.token(chosen).await?;
        account::check_share(&parts, &self.services.upstream, token.bearer()).await
    }

    /// A request on behalf of the key of a batch, to find its account.
    fn parts(&self, batch: &BatchRecord) -> Result<Parts, ProxyError> {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.headers = headers(batch);
        parts.extensions = self.extensions();
        attach_owner(&self.services.live.borrow(), &batch.owner, &mut parts)?;
        Ok(parts)
    }

    /// What the handler of a line reads besides its headers: the share of the quota, so that it applies to the account
    /// that the line is sent with.
    pub(super) fn extensions(&self) -> Extensions {
        let mut extensions = Extensions::new();
        account::attach_batch_share(self.window_percent, &mut extensions);
        extensions
    }

    /// The obstacle for an error that isn't that of a line. Cancels the batch if its client key was removed and hasn't
    /// come back for [`KEY_GRACE`].
    pub(super) async fn obstacle_of(&self, batch: &BatchRecord, error: &ProxyError) -> Result<Obstacle, FileError> {
        let wait = match error {
            ProxyError::Reserved(reserve) => until_reset(reserve.resets_at, SystemClock.now()),
            _ => INTERVAL,
        };
        if !is_key_removed(error) {
            return Ok(Obstacle { kind: error.class(), reason: error.to_string(), wait });
        }
        if self.state.batches.paused_for(batch.number, KEY_REMOVED) >= KEY_GRACE {
            tracing::warn!(batch = batch.batch.id, "batch cancelled: its client key was removed (setting keys)");
            // No client can cancel it, and its input file would be kept forever.
            self.services.files.cancel_batch(&batch.owner, &batch.batch.id).await?;
            self.state.batches.notify();
        }
        let minutes = KEY_GRACE.as_secs() / 60;
        let reason = format!(
            "the client key of the batch was removed or replaced (setting keys); the batch is cancelled after {minutes} \
             minutes without it"
        );
        Ok(Obstacle { kind: KEY_REMOVED, reason, wait })
    }
}

fn is_key_removed(error: &ProxyError) -> bool {
    matches!(error, ProxyError::Refused(Refusal { code: Some(KEY_REMOVED), .. }))
}

/// The headers of the client that the lines of a batch depend on.
pub(super) fn headers(batch: &BatchRecord) -> HeaderMap {
    let account = batch.batch.account.as_deref().and_then(|account| HeaderValue::from_str(account).ok());
    account.map(|account| (account::HEADER.parse().expect("the name is valid"), account)).into_iter().collect()
}

/// The time until a window resets, but not longer than the next check.
fn until_reset(resets_at: Option<SystemTime>, now: SystemTime) -> Duration {
    let left = resets_at.map_or(QUOTA_INTERVAL, |reset| reset.duration_since(now).unwrap_or_default());
    left.clamp(MIN_WAIT, QUOTA_INTERVAL)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{MIN_WAIT, QUOTA_INTERVAL, until_reset};

    #[test]
    fn a_pause_ends_with_the_window_and_is_bounded() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (seconds, expected) in [(5, Duration::from_secs(5)), (0, MIN_WAIT), (999_999, QUOTA_INTERVAL)] {
            assert_eq!(until_reset(Some(now + Duration::from_secs(seconds)), now), expected);
        }
        assert_eq!(until_reset(None, now), QUOTA_INTERVAL);
        assert_eq!(until_reset(Some(UNIX_EPOCH), now), MIN_WAIT);
    }
}
