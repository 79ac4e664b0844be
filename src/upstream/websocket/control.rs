//! Tracks which control frames of a response the backend has acknowledged. Pure.
//!
//! A connection on which an acknowledgment is due is in an unknown state, and isn't used again. When a steered response
//! has ended, the backend starts another one without a request, unless it waits for a tool result of the client.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::protocol::codex::control::ControlKind;

/// The control frames of one response.
#[derive(Debug, Default)]
pub(super) struct ControlState {
    /// Frames without an acknowledgment.
    unacknowledged_steers: usize,
    unacknowledged_interrupts: usize,
    /// Accepted inputs that no response contains yet.
    queued_inputs: usize,
    /// Whether the backend has started a response without a request.
    pub(super) has_successor: bool,
    has_begun: bool,
}

/// The events that may follow the terminal event of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Expected {
    Nothing,
    /// The acknowledgment of a steering input.
    Acknowledgment,
    /// A response to accepted steering inputs.
    Successor,
}

#[derive(Deserialize)]
struct FailedSteer {
    steer: SteerId,
}

#[derive(Deserialize)]
struct SteerId {
    #[serde(default)]
    id: Option<IgnoredAny>,
}

impl ControlState {
    pub(super) fn sent(&mut self, kind: ControlKind) {
        match kind {
            ControlKind::Steer => self.unacknowledged_steers += 1,
            ControlKind::Interrupt => self.unacknowledged_interrupts += 1,
        }
    }

    /// Observes an event, given its type and data.
    pub(super) fn observe(&mut self, kind: &str, data: &[u8]) {
        let decrease = |count: &mut usize| *count = count.saturating_sub(1);
        match kind {
            "response.created" => {
                self.has_successor |= std::mem::replace(&mut self.has_begun, true);
                self.queued_inputs = 0;
            }
            "response.interrupt.accepted" | "response.interrupt.failed" => {
                decrease(&mut self.unacknowledged_interrupts);
            }
            "response.steer.accepted" => {
                decrease(&mut self.unacknowledged_steers);
                self.queued_inputs += 1;
            }
            // The input is added to the client's next request.
            "response.steer.pending" => decrease(&mut self.queued_inputs),
            "response.steer.failed" => match serde_json::from_slice::<FailedSteer>(data) {
                // Only accepted inputs have an id.
                Ok(FailedSteer { steer: SteerId { id: Some(_) } }) => decrease(&mut self.queued_inputs),
                _ => decrease(&mut self.unacknowledged_steers),
            },
            _ => {}
        }
    }

    pub(super) fn expects(&self) -> Expected {
        match self {
            Self { queued_inputs: 1.., .. } => Expected::Successor,
            Self { unacknowledged_steers: 1.., .. } => Expected::Acknowledgment,
            _ => Expected::Nothing,
        }
    }

    /// Whether all frames are acknowledged, and no other response follows.
    pub(super) fn is_settled(&self) -> bool {
        self.expects() == Expected::Nothing && self.unacknowledged_interrupts == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{ControlKind, ControlState, Expected};

    fn state(frames: &[ControlKind], events: &[&str]) -> ControlState {
        let mut state = ControlState::default();
        state.observe("response.created", b"");
        for kind in frames {
            state.sent(*kind);
        }
        for event in events {
            state.observe(event, br#"{"steer":{"previous_response_id":"resp_1"}}"#);
        }
        state
    }

    #[test]
    fn a_connection_is_settled_once_every_frame_is_acknowledged() {
        assert!(state(&[], &[]).is_settled());
        assert!(!state(&[ControlKind::Interrupt], &[]).is_settled());
        for event in ["response.interrupt.accepted", "response.interrupt.failed"] {
            assert!(state(&[ControlKind::Interrupt], &[event]).is_settled(), "{event}");
        }
        assert!(!state(&[ControlKind::Steer], &[]).is_settled());
        assert!(state(&[ControlKind::Steer], &["response.steer.failed"]).is_settled());
    }

    #[test]
    fn a_response_follows_accepted_input() {
        let steer = [ControlKind::Steer; 2];
        assert_eq!(state(&steer, &[]).expects(), Expected::Acknowledgment);
        let accepted = ["response.steer.accepted", "response.steer.accepted"];
        assert_eq!(state(&steer, &accepted).expects(), Expected::Successor);
        let mut begun = state(&steer, &accepted);
        begun.observe("response.created", b"");
        assert!(begun.is_settled() && begun.has_successor);
    }

    #[test]
    fn input_that_waits_for_a_tool_result_or_failed_has_no_response() {
        let mut state = state(&[ControlKind::Steer; 2], &["response.steer.accepted", "response.steer.accepted"]);
        state.observe("response.steer.pending", b"{}");
        assert_eq!(state.expects(), Expected::Successor);
        state.observe("response.steer.failed", br#"{"steer":{"id":"steer_1"}}"#);
        assert!(state.is_settled() && !state.has_successor);
    }
}
