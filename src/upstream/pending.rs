//! A request while its answer may still be replaced by that of another attempt.
//!
//! [`Pending::open`] makes attempts until one is committed to. A caller that has sent nothing to its
//! client yet can hand a later failure back with [`Pending::retry`] and open again: a document is
//! sent when it is whole, so its attempts last until then. Every failure is judged in one place, so
//! that all attempts of a request share one count and one budget of waiting.

use std::sync::atomic::Ordering;

use tokio::time::sleep;

use super::region::OnRefusedToken;
use super::rejected_params::{has_member, left_out};
use super::retry_policy::{Change, chance};
use super::{Answer, Hints, RequestToken, Upstream};
use crate::error::ProxyError;
use crate::protocol::codex::request::Omissions;
use crate::protocol::codex::{self, WireFormat};

/// A request that may still be sent again.
#[derive(Debug)]
pub struct Pending<'r> {
    upstream: &'r Upstream,
    request: codex::Request<'r>,
    token: RequestToken,
    hints: Hints,
    /// Members that are left out.
    omitted: Omissions,
    /// The one of them that was refused in this request.
    refused: Option<String>,
    /// Warnings about what was changed in the request.
    repairs: Vec<String>,
}

impl<'r> Pending<'r> {
    pub(super) fn new(
        upstream: &'r Upstream,
        mut request: codex::Request<'r>,
        mut token: RequestToken,
        hints: Hints,
    ) -> Self {
        let catalogue = upstream.catalogue();
        let is_lite = catalogue.find(&request.model).and_then(|model| model.is_lite) == Some(true);
        token.attempts.set_usual_form(if is_lite { WireFormat::Lite } else { WireFormat::Classic });
        upstream.forms.choose(&mut request, &catalogue);
        let omitted = upstream.omitted.of(&request.model);
        Self { upstream, request, token, hints, omitted, refused: None, repairs: Vec::new() }
    }

    /// Makes attempts until one is committed to.
    ///
    /// # Errors
    /// The failure of the last attempt.
    pub async fn open(&mut self) -> Result<Answer, ProxyError> {
        loop {
            match self.attempt().await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.retry(error).await?,
            }
        }
    }

    async fn attempt(&self) -> Result<Answer, ProxyError> {
        let Self { upstream, request, hints, .. } = self;
        let bearer = self.token.bearer();
        let on_refused = if self.token.is_first() { OnRefusedToken::Report } else { OnRefusedToken::FallBack };
        let mut answer = upstream.attempt(request, &self.omitted, hints, bearer, on_refused).await?;
        self.token.accepted();
        upstream.quotas.served(&bearer.account.id, &request.model, &answer.headers);
        if let Some(member) = &self.refused {
            upstream.omitted.learn(&request.model, member);
        }
        answer.warnings = left_out(request, &self.omitted);
        answer.warnings.extend_from_slice(&self.repairs);
        if let Some(effects) = request.lite_effects() {
            upstream.forms.served(&request.model);
            answer.warnings.extend(effects.warnings);
            answer.events.strip_namespace(effects.namespace);
        }
        Ok(answer)
    }

    /// Prepares another attempt after a failure, and waits until it is time for it. Only for a request of
    /// which the client has received nothing.
    ///
    /// # Errors
    /// The failure, when another attempt can't help or none is left.
    pub async fn retry(&mut self, error: ProxyError) -> Result<(), ProxyError> {
        let upstream = self.upstream;
        let account = &self.token.bearer().account.id;
        upstream.quotas.failed(account, &self.request.model, &error);
        if let ProxyError::Upstream(failure) = &error {
            upstream.gauges.heard(account, &failure.headers);
        }
        let Some(retry) = self.token.attempts.judge(&error, chance()) else { return Err(error) };
        let cause = error.loggable();
        tracing::info!(cause, change = retry.change.loggable(), wait = ?retry.after, "trying upstream again");
        match retry.change {
            Change::Nothing => sleep(retry.after).await,
            Change::FreshToken => upstream.recover(&mut self.token).await?,
            Change::Omit(member) if has_member(&self.request, &self.omitted, &member) => {
                self.omitted.insert(member.clone());
                self.refused = Some(member);
            }
            Change::DropReasoning if self.request.drop_reasoning() => {
                self.repairs.push("repaired:dropped_reasoning".to_owned());
            }
            Change::Lite if upstream.forms.try_lite(&mut self.request) => {}
            Change::Omit(_) | Change::DropReasoning | Change::Lite => return Err(error),
        }
        upstream.counters.retries.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
