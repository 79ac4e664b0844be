//! What the APIs share on the way back: what has arrived of an answer, and what of it is new.
//!
//! [`assembler`] turns upstream events into [`reply_item`]s. `items` finds the item that an event belongs to, `item` and
//! `progress` decide what of a text is sent, [`queue`] keeps the items in order, and `stop` cuts a text at a stop
//! sequence. How a step looks to a client is up to its API; [`response_meta`] and [`usage`] hold the members that OpenAI's
//! APIs have in common. Nothing here knows an API, waits or draws random numbers.

pub(super) mod assembler;
pub(super) mod item;
pub(super) mod items;
pub(super) mod progress;
pub(super) mod queue;
pub(super) mod reply_item;
pub(super) mod response_meta;
pub(super) mod stop;
pub(super) mod usage;

use crate::error::ProxyError;
use crate::protocol::codex::{ResponseObject, Usage};
use items::Items;

/// The event that ended an answer which did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terminal {
    Completed,
    Incomplete,
    /// Incomplete because the output was filtered.
    Filtered,
}

impl Terminal {
    /// The kind of an incomplete answer.
    pub(super) fn of_incomplete(response: &ResponseObject<'_>) -> Self {
        if response.is_filtered() { Self::Filtered } else { Self::Incomplete }
    }
}

/// The error if an answer that the backend reports as complete is damaged.
pub(super) fn damage(items: &Items, terminal: Terminal, usage: Option<Usage>) -> Option<ProxyError> {
    let visible_tokens = usage.map(|usage| usage.output_tokens.saturating_sub(usage.reasoning_tokens));
    let is_billed = visible_tokens.is_some_and(|tokens| tokens > 0);
    let reason = if items.is_contradicted() {
        "the complete text differs from what was sent of it"
    } else if items.is_damaged(visible_tokens == Some(0)) {
        "an event could not be read, and its content did not arrive again"
    } else if terminal == Terminal::Completed && is_billed && items.has_unfilled() {
        "an output item began, and its content did not arrive"
    } else if terminal != Terminal::Filtered && is_billed && items.len() == 0 {
        "output tokens were billed, and no output arrived"
    } else {
        return None;
    };
    Some(ProxyError::Damaged { reason: reason.to_owned() })
}
