//! Whether the sign-in works, asked of the services themselves.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::super::context::Context;
use crate::auth::Accounts;
use crate::config::Config;
use crate::error::{Fault, ProxyError};
use crate::token_source::AuthError;
use crate::upstream::{self, Quota, Standing, Upstream};

/// All of the asking together.
const LIMIT: Duration = Duration::from_secs(5);

/// What came of the question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct AccountCheck {
    pub(in crate::cli) state: Verdict,
    /// In one sentence, where there is more to say.
    pub(in crate::cli) message: Option<String>,
}

/// What the asking brought.
pub(in crate::cli) struct CheckResult {
    pub(in crate::cli) check: AccountCheck,
    /// `None`: nobody said.
    pub(in crate::cli) quota: Option<Quota>,
}

/// What the services say of the sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Verdict {
    /// The backend takes it.
    Good,
    /// It has ended, or was revoked.
    Refused,
    /// It is good, and its workspace was switched off.
    Disabled,
    /// Nobody could be asked.
    Unreachable,
    /// Somebody was asked, and did not say.
    Unclear,
}

/// Renews the token if it is about to end, and asks the backend whether it takes the account, and how
/// much of its quota is used.
pub(in crate::cli) async fn check_account(context: &Context, config: &Config, tokens: &Accounts) -> CheckResult {
    let settings = upstream::Settings { catalogue_file: None, ..config.upstream.clone() };
    let upstream = Upstream::new(settings, context.http.clone(), Arc::new(tokens.clone()));
    let asked = async {
        tokens.fresh().await.map_err(ProxyError::Auth)?;
        upstream.standing().await
    };
    let end = Instant::now() + LIMIT;
    let check = match timeout_at(end, asked).await {
        Ok(Ok(Standing::Active)) => AccountCheck { state: Verdict::Good, message: None },
        Ok(Ok(Standing::Disabled)) => AccountCheck::of(Verdict::Disabled, "the workspace is disabled".to_owned()),
        Ok(Err(error)) => AccountCheck::failed(&error),
        Err(_) => AccountCheck::of(Verdict::Unreachable, format!("no answer within {} s", LIMIT.as_secs())),
    };
    let quota = match check.state {
        Verdict::Good | Verdict::Unclear => timeout_at(end, upstream.quota()).await.ok().and_then(Result::ok),
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
