//! The frames that a client can send on a WebSocket while a response arrives, and the events about them.

/// What a control frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlKind {
    /// `response.steer`: adds user input.
    Steer,
    /// `response.interrupt`: ends the response.
    Interrupt,
}

impl ControlKind {
    /// The kind of a frame with this `type`.
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

    /// The `type` of the event that says that a frame had no effect.
    #[must_use]
    pub fn failed_event(self) -> &'static str {
        match self {
            Self::Steer => "response.steer.failed",
            Self::Interrupt => "response.interrupt.failed",
        }
    }
}

/// Whether an event is about a control frame. Such events also arrive after the end of the response.
#[must_use]
pub fn is_control_event(kind: &str) -> bool {
    kind.starts_with("response.steer.") || kind.starts_with("response.interrupt.")
}
