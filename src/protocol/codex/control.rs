//! The frames that a client can send on a WebSocket while a response arrives, and the events that answer them.

/// The kind of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlKind {
    /// `response.steer`: adds user input.
    Steer,
    /// `response.interrupt`: ends the response.
    Interrupt,
}

impl ControlKind {
    /// Returns the kind of a frame with this `type`; `None` if it isn't a control frame.
    #[must_use]
    pub fn of(kind: &str) -> Option<Self> {
        [Self::Steer, Self::Interrupt].into_iter().find(|known| known.type_name() == kind)
    }

    /// The `type` of its frames.
    #[must_use]
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Steer => "response.steer",
            Self::Interrupt => "response.interrupt",
        }
    }

    /// The `type` of the event that reports that a frame had no effect.
    #[must_use]
    pub fn failed_event(self) -> &'static str {
        match self {
            Self::Steer => "response.steer.failed",
            Self::Interrupt => "response.interrupt.failed",
        }
    }
}

/// Whether an event answers a control frame. Such events also arrive after the end of the response.
#[must_use]
pub fn is_control_event(kind: &str) -> bool {
    kind.starts_with("response.steer.") || kind.starts_with("response.interrupt.")
}
