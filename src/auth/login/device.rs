//! Signing in with a code that is typed on another device.
//!
//! [`DeviceLogin::start`] makes sure that the outcome can be stored and asks for a code;
//! [`DeviceLogin::wait`] asks the issuer at its own pace whether the code was used, exchanges what
//! it gets for tokens and stores the account as the active one. A trouble in passing does not end
//! the waiting; three in a row do. Showing the code is not done here.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{LoginError, TIMEOUT, ensure_writable};
use crate::auth::credential::Credential;
use crate::auth::import;
use crate::auth::issuer::{Authority, AuthorityError, DeviceCode, Poll};
use crate::auth::store::Store;
use crate::clock::Clock;
use crate::secret::Secret;

/// How much slower to ask when the issuer wishes it.
const SLOWER: Duration = Duration::from_secs(5);
const MOST_TROUBLES: u32 = 3;

/// A login that waits for its code to be used.
#[derive(Debug)]
pub struct DeviceLogin {
    authority: Authority,
    store: Store,
    clock: Arc<dyn Clock>,
    page: String,
    code: DeviceCode,
}

/// When to ask again, and when to stop asking.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    until: Instant,
    troubles: u32,
}

/// What the exchange needs.
struct Used {
    code: Secret,
    verifier: Secret,
}

impl DeviceLogin {
    /// Asks for a code.
    ///
    /// # Errors
    /// When the store can't take the outcome, or the issuer gives no code.
    pub async fn start(authority: Authority, store: Store, clock: Arc<dyn Clock>) -> Result<Self, LoginError> {
        ensure_writable(&store).await.map_err(LoginError::Store)?;
        let code = authority.device_code().await.map_err(LoginError::NoDeviceCode)?;
        let code = code.ok_or(LoginError::DeviceNotEnabled)?;
        Ok(Self { page: authority.device_page(), authority, store, clock, code })
    }

    /// The page that the person has to visit, on any device.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.page
    }

    /// The code to type there.
    #[must_use]
    pub fn user_code(&self) -> &str {
        self.code.user_code.expose()
    }

    /// Waits until the code has been used, and stores the account as the active one.
    ///
    /// # Errors
    /// When nobody uses it within 15 minutes, somebody refuses, or the issuer fails.
    pub async fn wait(self) -> Result<Credential, LoginError> {
        let Used { code, verifier } = self.used().await?;
        let granted = self.authority.exchange(&code, &verifier, &self.authority.device_redirect_uri()).await;
        let grant = granted.map_err(LoginError::Exchange)?;
        let credential = Credential::granted(grant, self.clock.now()).map_err(LoginError::Grant)?;
        import::add(&self.store, &credential).await.map_err(LoginError::Store)?;
        Ok(credential)
    }

    async fn used(&self) -> Result<Used, LoginError> {
        let mut pace = Pace { interval: self.code.interval, until: Instant::now() + TIMEOUT, troubles: 0 };
        loop {
            match self.authority.poll(&self.code).await {
                Ok(Poll::Done { code, verifier }) => return Ok(Used { code, verifier }),
                Ok(Poll::Denied) => return Err(LoginError::Denied),
                Ok(Poll::Expired) => return Err(LoginError::CodeExpired),
                Ok(Poll::Pending) => pace.troubles = 0,
                Ok(Poll::SlowDown) => pace.slow_down(),
                Err(error) => pace.trouble(error)?,
            }
            pace.pause().await?;
        }
    }
}

impl Pace {
    fn slow_down(&mut self) {
        self.troubles = 0;
        self.interval += SLOWER;
    }

    /// Bears with a trouble that may pass.
    fn trouble(&mut self, error: AuthorityError) -> Result<(), LoginError> {
        self.troubles += 1;
        match error {
            AuthorityError::Unavailable { .. } if self.troubles < MOST_TROUBLES => Ok(()),
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

    use super::{LoginError, Pace, TIMEOUT};
    use crate::auth::issuer::AuthorityError;

    fn pace() -> Pace {
        Pace { interval: Duration::from_secs(5), until: Instant::now() + TIMEOUT, troubles: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn the_waiting_ends_after_15_minutes() {
        let (pace, started) = (pace(), Instant::now());
        let mut polls = 1;
        while pace.pause().await.is_ok() {
            polls += 1;
        }
        assert_eq!(polls, 180);
        assert!(started.elapsed() < TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn each_wish_to_slow_down_adds_five_seconds() {
        let mut pace = pace();
        pace.slow_down();
        pace.slow_down();
        let started = Instant::now();
        pace.pause().await.unwrap();
        assert_eq!(started.elapsed(), Duration::from_secs(15));
    }

    #[tokio::test(start_paused = true)]
    async fn three_troubles_in_a_row_or_one_refusal_end_it() {
        let passing = || AuthorityError::Unavailable { message: "503".to_owned(), retry_after: None };
        let mut pace = pace();
        assert!(pace.trouble(passing()).is_ok() && pace.trouble(passing()).is_ok());
        pace.slow_down();
        assert!(pace.trouble(passing()).is_ok() && pace.trouble(passing()).is_ok());
        assert!(matches!(pace.trouble(passing()), Err(LoginError::NoDeviceCode(_))));
        let refused = AuthorityError::Refused { reason: "no".to_owned() };
        assert!(Pace { troubles: 0, ..pace }.trouble(refused).is_err());
    }
}
