//! How a reply ends: finished or failed, and whether a finished one lacks output.

use super::items::ItemTable;
use crate::error::ProxyError;
use crate::protocol::codex::{ResponseObject, Usage};
use crate::protocol::openai;

/// Why a successful reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishKind {
    /// The model was done.
    Completed,
    /// The backend ended the response early, normally at a token limit.
    Length,
    /// The backend ended the response early because the output was filtered.
    ContentFilter,
    /// The text reached a stop sequence of the client.
    StopSequence,
    /// The output reached the client's token limit, which the proxy enforces.
    TokenLimit,
}

impl FinishKind {
    /// The kind of a `response.incomplete` event.
    pub(in crate::protocol) fn of_incomplete(response: &ResponseObject<'_>) -> Self {
        if response.is_filtered() { Self::ContentFilter } else { Self::Length }
    }

    /// The status of the response in the log.
    fn outcome(self) -> &'static str {
        match self {
            Self::Completed | Self::StopSequence => "completed",
            Self::Length | Self::ContentFilter | Self::TokenLimit => "incomplete",
        }
    }
}

/// The state of a reply.
#[derive(Debug)]
pub(in crate::protocol) enum ReplyState {
    /// It has not ended.
    Open,
    Finished(FinishKind),
    Failed(ProxyError),
}

impl ReplyState {
    pub(in crate::protocol) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    pub(in crate::protocol) fn failure(&self) -> Option<&ProxyError> {
        if let Self::Failed(error) = self { Some(error) } else { None }
    }

    /// `completed`, `incomplete`, or the code of the failure. Empty while the reply is open.
    pub(in crate::protocol) fn outcome(&self) -> String {
        match self {
            Self::Open => String::new(),
            Self::Finished(kind) => kind.outcome().to_owned(),
            Self::Failed(error) => openai::error::code(error),
        }
    }

    /// The error of a reply that failed, or that is still open when it has to be complete.
    pub(in crate::protocol) fn into_result(self) -> Result<(), ProxyError> {
        match self {
            Self::Open => Err(ProxyError::Truncated { cause: None }),
            Self::Finished(_) => Ok(()),
            Self::Failed(error) => Err(error),
        }
    }
}

/// The error if output is missing or contradictory in a response that the backend reports as finished.
pub(in crate::protocol) fn damage(items: &ItemTable, finish: FinishKind, usage: Option<Usage>) -> Option<ProxyError> {
    let visible_tokens = usage.map(|usage| usage.output_tokens.saturating_sub(usage.reasoning_tokens));
    let is_billed = visible_tokens.is_some_and(|tokens| tokens > 0);
    let reason = if items.is_contradicted() {
        "the complete text differs from what was sent of it"
    } else if items.is_damaged(visible_tokens == Some(0)) {
        "an event could not be read, and its content did not arrive again"
    } else if finish == FinishKind::Completed && is_billed && items.has_unfilled() {
        "an output item began, and its content did not arrive"
    } else if finish != FinishKind::ContentFilter && is_billed && items.len() == 0 {
        "output tokens were billed, and no output arrived"
    } else {
        return None;
    };
    Some(ProxyError::Damaged { reason: reason.to_owned() })
}
