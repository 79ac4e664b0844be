//! Signs in with a code that the user enters on another device.
//!
//! [`DeviceLogin::start`] checks that the store is writable and requests a code. [`DeviceLogin::wait`] polls the issuer
//! until the code was used, exchanges the result for tokens, and stores the account as the active one. Up to two
//! temporary failures in a row are ignored. Showing the code is up to the caller.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{LoginError, TIMEOUT, ensure_writable};
use crate::auth::credential::Credential;
use crate::auth::import;
use crate::auth::issuer::{DeviceCode, DevicePoll, Issuer, IssuerError};
use crate::auth::store::Store;
use crate::clock::Clock;
use crate::secret::Secret;

/// Added to the interval when the issuer responds with "slow down".
const SLOW_DOWN_STEP: Duration = Duration::from_secs(5);
/// This many temporary failures in a row end the login.
const MAX_FAILURES: u32 = 3;

/// A login with a device code.
#[derive(Debug)]
pub struct DeviceLogin {
    issuer: Issuer,
    store: Store,
    clock: Arc<dyn Clock>,
    page: String,
    code: DeviceCode,
}

/// When to poll, and when to give up.
#[derive(Debug)]
struct PollSchedule {
    interval: Duration,
    until: Instant,
    /// Temporary failures in a row.
    failures: u32,
}

/// A code that can be exchanged for tokens, and its verifier.
struct DeviceAuthorization {
    code: Secret,
    verifier: Secret,
}

impl DeviceLogin {
    /// Requests a code.
    ///
    /// # Errors
    /// If the store isn't writable, or the issuer returns no code.
    pub async fn start(issuer: Issuer, store: Store, clock: Arc<dyn Clock>) -> Result<Self, LoginError> {
        ensure_writable(&store).await.map_err(LoginError::Store)?;
        let code = issuer.device_code().await.map_err(LoginError::NoDeviceCode)?;
        let code = code.ok_or(LoginError::DeviceNotEnabled)?;
        Ok(Self { page: issuer.device_page(), issuer, store, clock, code })
    }

    /// Returns the address of the page that the user has to visit, on any device.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.page
    }

    /// Returns the code to enter there.
    #[must_use]
    pub fn user_code(&self) -> &str {
        self.code.user_code.expose()
    }

    /// Waits until the code was used, and stores the account as the active one.
    ///
    /// # Errors
    /// If the code isn't used within 15 minutes, the user denies the sign-in, or the issuer fails.
    pub async fn wait(self) -> Result<Credential, LoginError> {
        let DeviceAuthorization { code, verifier } = self.authorized().await?;
        let granted = self.issuer.exchange(&code, &verifier, &self.issuer.device_redirect_uri()).await;
        let grant = granted.map_err(LoginError::Exchange)?;
        let credential = Credential::from_response(grant, self.clock.now()).map_err(LoginError::TokenResponse)?;
        import::add(&self.store, &credential).await.map_err(LoginError::Store)?;
        Ok(credential)
    }

    /// Polls until the user has entered the code.
    async fn authorized(&self) -> Result<DeviceAuthorization, LoginError> {
        let mut schedule = PollSchedule { interval: self.code.interval, until: Instant::now() + TIMEOUT, failures: 0 };
        loop {
            match self.issuer.poll(&self.code).await {
                Ok(DevicePoll::Done { code, verifier }) => return Ok(DeviceAuthorization { code, verifier }),
                Ok(DevicePoll::Denied) => return Err(LoginError::Denied),
                Ok(DevicePoll::Expired) => return Err(LoginError::CodeExpired),
                Ok(DevicePoll::Pending) => schedule.failures = 0,
                Ok(DevicePoll::SlowDown) => schedule.slow_down(),
                Err(error) => schedule.record_failure(error)?,
            }
            schedule.pause().await?;
        }
    }
}

impl PollSchedule {
    fn slow_down(&mut self) {
        self.failures = 0;
        self.interval += SLOW_DOWN_STEP;
    }

    /// Returns the error if it is permanent, or the last of too many in a row.
    fn record_failure(&mut self, error: IssuerError) -> Result<(), LoginError> {
        self.failures += 1;
        match error {
            IssuerError::Unavailable { .. } if self.failures < MAX_FAILURES => Ok(()),
            error => Err(LoginError::NoDeviceCode(error)),
        }
    }

    async fn pause(&self) -> Result<(), LoginError> {
        if Instant::now() + self.interval >= self.until {
            return Err(LoginError::CodeExpired);
        }
        sleep(self.interval).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{LoginError, PollSchedule, TIMEOUT};
    use crate::auth::issuer::IssuerError;

    fn schedule() -> PollSchedule {
        PollSchedule { interval: Duration::from_secs(5), until: Instant::now() + TIMEOUT, failures: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn polling_ends_after_15_minutes() {
        let (schedule, started) = (schedule(), Instant::now());
        let mut polls = 1;
        while schedule.pause().await.is_ok() {
            polls += 1;
        }
        assert_eq!(polls, 180);
        assert!(started.elapsed() < TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_to_slow_down_adds_five_seconds() {
        let mut schedule = schedule();
        schedule.slow_down();
        schedule.slow_down();
        let started = Instant::now();
        schedule.pause().await.unwrap();
        assert_eq!(started.elapsed(), Duration::from_secs(15));
    }

    #[tokio::test(start_paused = true)]
    async fn three_failures_in_a_row_or_one_refusal_end_the_login() {
        let temporary = || IssuerError::Unavailable { message: "503".to_owned(), retry_after: None };
        let mut schedule = schedule();
        assert!(schedule.record_failure(temporary()).is_ok() && schedule.record_failure(temporary()).is_ok());
        schedule.slow_down();
        assert!(schedule.record_failure(temporary()).is_ok() && schedule.record_failure(temporary()).is_ok());
        assert!(matches!(schedule.record_failure(temporary()), Err(LoginError::NoDeviceCode(_))));
        let refused = IssuerError::Refused { reason: "no".to_owned() };
        assert!(PollSchedule { failures: 0, ..schedule }.record_failure(refused).is_err());
    }
}
