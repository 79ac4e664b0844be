//! A prepared request, and its attempts.
//!
//! [`Pending::open`] makes attempts until a response is committed. If that response fails later and the caller has
//! sent nothing to its client, the caller can call [`Pending::retry`] and then open another response: non-streaming
//! replies are retried until they are complete. All attempts of a request share one retry count and one waiting budget.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::sleep;

use super::attempt::AttemptResponse;
use super::outgoing::OutgoingRequest;
use super::region::OnRefusedToken;
use super::rejected_params::{has_member, omission_warnings};
use super::retry_policy::Change;
use super::tool_rounds::{RoundBackend, ToolRounds};
use super::{BackendResponse, EventStream, ForwardedHeaders, ReplyEvents, RequestToken, Upstream};
use crate::error::ProxyError;
use crate::protocol::codex::lite::LiteEffects;
use crate::protocol::codex::request::Omissions;
use crate::protocol::codex::{self, WireFormat};

/// A request that was prepared with [`Upstream::begin`], and can be attempted any number of times.
#[derive(Debug)]
pub struct Pending<'r> {
    upstream: &'r Arc<Upstream>,
    request: codex::Request<'r>,
    token: RequestToken,
    forwarded: ForwardedHeaders,
    /// Members that the next attempt leaves out.
    omitted: Omissions,
    /// The one of them that the backend rejected in an attempt at this request. Remembered for the model once an
    /// attempt succeeds.
    rejected: Option<String>,
    /// Warnings about other changes to the request.
    repairs: Vec<String>,
}

impl<'r> Pending<'r> {
    pub(super) fn new(
        upstream: &'r Arc<Upstream>,
        mut request: codex::Request<'r>,
        mut token: RequestToken,
        forwarded: ForwardedHeaders,
    ) -> Self {
        let catalogue = upstream.catalogue_of(Some(&token.bearer().account.id));
        let is_lite = catalogue.find(&request.model).and_then(|model| model.is_lite) == Some(true);
        token.retries.set_catalogue_form(if is_lite { WireFormat::Lite } else { WireFormat::Classic });
        upstream.body_forms.choose(&mut request, &catalogue);
        let omitted = upstream.rejected_params.for_model(&request.model);
        Self { upstream, request, token, forwarded, omitted, rejected: None, repairs: Vec::new() }
    }

    /// Makes attempts until a response is committed.
    ///
    /// # Errors
    /// The failure of the last attempt.
    pub async fn open(&mut self) -> Result<BackendResponse, ProxyError> {
        loop {
            match self.attempt().await {
                Ok(response) => return Ok(response),
                Err(error) => self.retry(error).await?,
            }
        }
    }

    async fn attempt(&self) -> Result<BackendResponse, ProxyError> {
        let Self { upstream, request, forwarded, .. } = self;
        let bearer = self.token.bearer();
        let on_refused = if self.token.is_first() { OnRefusedToken::Report } else { OnRefusedToken::FallBack };
        let outgoing = OutgoingRequest::new(request, &self.omitted);
        let AttemptResponse { events, headers, request_id } =
            upstream.attempt(&outgoing, forwarded, bearer, on_refused).await?;
        self.token.accepted();
        if let Some(member) = &self.rejected {
            upstream.rejected_params.learn(&request.model, member);
        }
        let mut warnings = omission_warnings(request, &self.omitted);
        warnings.extend_from_slice(&self.repairs);
        let events = match request.lite_effects() {
            None => events.into(),
            Some(effects) => {
                upstream.body_forms.record_lite_success(&request.model);
                warnings.extend_from_slice(&effects.warnings);
                self.lite_events(events, outgoing, effects)
            }
        };
        Ok(BackendResponse { events, headers, request_id, warnings })
    }

    /// The events of a response to a request in the lite form.
    fn lite_events(&self, mut events: EventStream, outgoing: OutgoingRequest, effects: LiteEffects) -> ReplyEvents {
        let LiteEffects { namespace, proxy_tools, .. } = effects;
        events.strip_namespace(namespace.clone());
        if proxy_tools.is_empty() {
            return events.into();
        }
        let (forwarded, token) = (self.forwarded.clone(), self.token.clone());
        let backend = RoundBackend::new(self.upstream, outgoing, forwarded, token, namespace, proxy_tools);
        ReplyEvents::of_rounds(ToolRounds::new(events, backend))
    }

    /// Changes the request as the failure requires, and waits until the next attempt is due; the caller makes it with
    /// [`Self::open`]. The client must not have received any part of the response.
    ///
    /// # Errors
    /// The failure, if another attempt can't help or no retry is left; the token source's error if the backend refused
    /// the token and no other is available.
    pub async fn retry(&mut self, error: ProxyError) -> Result<(), ProxyError> {
        let (upstream, error) = (self.upstream, self.upstream.attributed(error, &self.token));
        let retry = upstream.next_attempt(Some(&self.request.model), &mut self.token, &error);
        let Some(retry) = retry else { return Err(error) };
        match retry.change {
            Change::Nothing => sleep(retry.after).await,
            Change::FreshToken => upstream.recover(&mut self.token).await?,
            Change::Omit(member) if has_member(&self.request, &self.omitted, &member) => {
                self.omitted.insert(member.clone());
                self.rejected = Some(member);
            }
            Change::DropReasoning if self.request.drop_reasoning() => {
                self.repairs.push("repaired:dropped_reasoning".to_owned());
            }
            Change::Lite if upstream.body_forms.try_lite(&mut self.request) => {}
            Change::Omit(_) | Change::DropReasoning | Change::Lite => return Err(error),
        }
        upstream.counters.retries.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
