//! Decides when the next line of a batch may start, and what a failed response means for its batch.
//!
//! A line waits for requests of clients, for room in the file store, and while the quota of its account is used beyond
//! `batch.window_percent`. A failure that isn't the line's own, such as a used-up quota, pauses the batch.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request};

use super::activity::Obstacle;
use super::runner::BatchRunner;
use crate::clock::{Clock as _, SystemClock};
use crate::error::ProxyError;
use crate::history::{BatchRecord, FileError};
use crate::server::account;
use crate::server::internal_request::attach_owner;

/// How often the quota of a paused batch is checked, since the user may have bought credits or reset it.
const QUOTA_INTERVAL: Duration = Duration::from_secs(60);
/// How often other causes are checked.
const INTERVAL: Duration = Duration::from_secs(30);
/// The shortest and the longest pause after a failed attempt.
const MIN_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(10 * 60);
/// How often a line is tried if the backend fails in a way that may be caused by the line.
const MAX_ATTEMPTS: u32 = 3;

/// What to do with the line of a failed response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// The failure is the result of the line.
    Line,
    /// The line is tried again, at most [`MAX_ATTEMPTS`] times.
    Unknown,
    /// The line is tried again until it isn't a failure of this kind.
    Other,
}

impl BatchRunner {
    /// Why the next line may not start; `None`: it may. Waits until no request of a client waits for a permit.
    pub(super) async fn obstacle(&self, batch: &BatchRecord) -> Result<Option<Obstacle>, FileError> {
        if self.services.files.is_full().await? {
            let reason = "the stored files have reached their maximum size (setting files.max_bytes); delete some";
            return Ok(Some(Obstacle { kind: "files_full", reason: reason.to_owned(), wait: INTERVAL }));
        }
        if let Err(error) = self.check_quota(batch).await {
            return Ok(Some(error));
        }
        self.state.concurrency.until_unqueued().await;
        Ok(None)
    }

    /// Checks the login, and the quota of the account.
    async fn check_quota(&self, batch: &BatchRecord) -> Result<(), Obstacle> {
        let blocked = |error: ProxyError| Obstacle { kind: error.class(), reason: error.to_string(), wait: INTERVAL };
        let parts = self.parts(batch).map_err(blocked)?;
        let chosen = account::tokens(&parts, &self.services).await.map_err(blocked)?;
        let token = self.services.upstream.token(chosen).await.map_err(blocked)?;
        if let Err(error) = account::check_share(&parts, &self.services.upstream, token.bearer()).await {
            let ProxyError::Reserved(reserve) = &error else { return Err(blocked(error)) };
            let wait = until_reset(reserve.resets_at, SystemClock.now());
            return Err(Obstacle { wait, ..blocked(error) });
        }
        if let Some(window) = self.services.upstream.window_beyond(token.bearer(), self.window_percent).await {
            let reason = format!(
                "{} % of the {} window is used; batches run while at most {} % is (setting batch.window_percent)",
                window.used_percent, window.window, self.window_percent
            );
            let wait = until_reset(window.resets_at, SystemClock.now());
            return Err(Obstacle { kind: "window_percent", reason, wait });
        }
        Ok(())
    }

    /// A request on behalf of the key of a batch, to find its account.
    fn parts(&self, batch: &BatchRecord) -> Result<Parts, ProxyError> {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.headers = headers(batch);
        attach_owner(&self.services.live.borrow(), &batch.owner, &mut parts)?;
        Ok(parts)
    }

    /// Whether a failed response isn't the result of its line: why and how long to wait before the next attempt.
    pub(super) fn retry(&self, batch: &BatchRecord, class: &'static str, headers: &HeaderMap) -> Option<Obstacle> {
        let blame = blame(class);
        if blame == Blame::Line {
            return None;
        }
        let attempts = self.state.batches.count_attempt(batch.number);
        if blame == Blame::Unknown && attempts >= MAX_ATTEMPTS {
            return None;
        }
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let backoff = MIN_WAIT * 2_u32.saturating_pow(attempts.min(10));
        let wait = seconds.map_or(backoff, Duration::from_secs).clamp(MIN_WAIT, MAX_WAIT);
        let reason = format!("the last line could not be run ({class}); it is run again");
        Some(Obstacle { kind: class, reason, wait })
    }
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

/// What a failure of this class says about the line. The classes are those of [`ProxyError::class`].
fn blame(class: &str) -> Blame {
    match class {
        "sign_in"
        | "busy"
        | "memory_full"
        | "shutting_down"
        | "window_reserved"
        | "upstream_unreachable"
        | "upstream_unauthorized"
        | "upstream_usage_limit"
        | "upstream_insufficient_quota"
        | "upstream_rate_limited"
        | "upstream_flex_unavailable"
        | "upstream_overloaded"
        | "upstream_challenge"
        | "upstream_wrong_place" => Blame::Other,
        "internal" | "upstream_timeout" | "upstream_truncated" | "upstream_damaged" | "upstream_server" => {
            Blame::Unknown
        }
        _ => Blame::Line,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Blame, MIN_WAIT, QUOTA_INTERVAL, blame, until_reset};
    use crate::error::{ProxyError, Refusal};

    #[test]
    fn a_pause_ends_with_the_window_and_is_bounded() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (seconds, expected) in [(5, Duration::from_secs(5)), (0, MIN_WAIT), (999_999, QUOTA_INTERVAL)] {
            assert_eq!(until_reset(Some(now + Duration::from_secs(seconds)), now), expected);
        }
        assert_eq!(until_reset(None, now), QUOTA_INTERVAL);
        assert_eq!(until_reset(Some(UNIX_EPOCH), now), MIN_WAIT);
    }

    #[test]
    fn an_invalid_line_is_blamed_and_a_failed_connection_is_not() {
        let class = |error: ProxyError| error.class();
        assert_eq!(blame(class(Refusal::missing("model"))), Blame::Line);
        assert_eq!(blame(class(ProxyError::Unreachable { cause: String::new() })), Blame::Other);
        assert_eq!(blame(class(ProxyError::ShuttingDown)), Blame::Other);
        assert_eq!(blame(class(ProxyError::Truncated { cause: None })), Blame::Unknown);
    }
}
