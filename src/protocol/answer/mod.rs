//! What the dialects share on the way back: what has arrived of an answer, and what of it is new.
//!
//! [`arrive`] turns upstream events into [`step`]s, with `items` to know which item an event belongs
//! to and how much of each text was passed on already; `stop` cuts a text at a stop sequence. How a
//! step looks to a client is the business of its dialect; [`identity`] and [`usage`] hold the
//! members that OpenAI's dialects have in common. Nothing here knows a dialect, waits or draws.

pub(super) mod arrive;
pub(super) mod identity;
pub(super) mod items;
pub(super) mod step;
pub(super) mod stop;
pub(super) mod usage;

use crate::error::ProxyError;
use items::Items;

/// What makes an answer useless that the backend takes for whole. `is_missing`: it was paid for, and
/// nothing of it arrived.
pub(super) fn damage(items: &Items, is_missing: bool) -> Option<ProxyError> {
    let reason = if items.is_damaged() {
        "an event could not be read, and what it held did not come again"
    } else if is_missing {
        "output tokens were spent and no output arrived"
    } else {
        return None;
    };
    Some(ProxyError::Damaged { reason: reason.to_owned() })
}
