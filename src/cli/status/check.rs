//! Checks with the issuer and the backend whether the login works.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::super::context::Context;
use crate::auth::Accounts;
use crate::config::Config;
use crate::error::{Fault, ProxyError};
use crate::token_source::AuthError;
use crate::upstream::{self, AccountStatus, Quota, Upstream};

/// Time limit for all requests together.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The result of the check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct AccountCheck {
    pub(in crate::cli) state: Verdict,
    /// Details for the user.
    pub(in crate::cli) message: Option<String>,
}

/// The result of the check and the quota, which is requested at the same time.
pub(in crate::cli) struct CheckResult {
    pub(in crate::cli) check: AccountCheck,
    /// `None`: not reported.
    pub(in crate::cli) quota: Option<Quota>,
}

/// Whether the login works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Verdict {
    /// The backend accepts it.
    Good,
    /// It expired or was revoked.
    Refused,
    /// It is valid, but its workspace is disabled.
    Disabled,
    /// The issuer or the backend can't be reached.
    Unreachable,
    /// Any other response.
    Unclear,
}

/// Refreshes the token if it is about to expire, and checks whether the backend accepts the account and how much quota
/// is used.
pub(in crate::cli) async fn check_account(context: &Context, config: &Config, tokens: &Accounts) -> CheckResult {
    let settings = upstream::Settings { catalogue_file: None, ..config.upstream.clone() };
    let upstream = Upstream::new(settings, context.http.clone(), Arc::new(tokens.clone()));
    let request = async {
        tokens.fresh().await.map_err(ProxyError::Auth)?;
        upstream.account_status().await
    };
    let end = Instant::now() + TIMEOUT;
    let check = match timeout_at(end, request).await {
        Ok(Ok(AccountStatus::Active)) => AccountCheck { state: Verdict::Good, message: None },
        Ok(Ok(AccountStatus::Disabled)) => AccountCheck::of(Verdict::Disabled, "the workspace is disabled".to_owned()),
        Ok(Err(error)) => AccountCheck::failed(&error),
        Err(_) => AccountCheck::of(Verdict::Unreachable, format!("no response within {} s", TIMEOUT.as_secs())),
    };
    let quota = match check.state {
        Verdict::Good | Verdict::Unclear => timeout_at(end, upstream.fetch_quota()).await.ok().and_then(Result::ok),
        Verdict::Refused | Verdict::Disabled | Verdict::Unreachable => None,
    };
    CheckResult { check, quota }
}

impl AccountCheck {
    fn of(state: Verdict, message: String) -> Self {
        Self { state, message: Some(message) }
    }

    fn failed(error: &ProxyError) -> Self {
        let state = match error {
            ProxyError::Auth(AuthError::Unavailable { .. })
            | ProxyError::Unreachable { .. }
            | ProxyError::Silent { .. } => Verdict::Unreachable,
            ProxyError::Auth(AuthError::Store { .. }) => Verdict::Unclear,
            ProxyError::Auth(_) => Verdict::Refused,
            ProxyError::Upstream(failure) if failure.fault == Fault::Unauthorized => Verdict::Refused,
            _ => Verdict::Unclear,
        };
        Self::of(state, error.to_string())
    }
}
