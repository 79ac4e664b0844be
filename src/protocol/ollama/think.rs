//! Reads `think`: the reasoning effort, and whether reasoning is visible.

use crate::error::ProxyError;
use crate::protocol::Context;
use crate::protocol::json::path::Field;
use crate::protocol::models::{Effort, RequestTraits, ResolvedModel};
use crate::protocol::upstream_input::parameters::{self, ClampWarning};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Think {
    /// The model's default effort; visible, as in Ollama.
    #[default]
    Unset,
    /// The model's default effort.
    On,
    /// As little as the model supports, and not visible.
    Off,
    Level(Effort),
}

impl Think {
    pub(super) fn read(think: &Field<'_, '_>) -> Result<Self, ProxyError> {
        if !think.is_text() {
            let is_on = think.flag().map_err(|_| think.must_be("true, false or a level such as 'high'"))?;
            return Ok(if is_on { Self::On } else { Self::Off });
        }
        let complaint = || think.invalid("must be true, false, 'low', 'medium', 'high' or 'max'");
        match &*think.text()? {
            "" => Ok(Self::Unset),
            "none" => Ok(Self::Off),
            level => Effort::from_client(level).map(Self::Level).ok_or_else(complaint),
        }
    }

    /// Whether reasoning is visible.
    pub(super) fn is_shown(self) -> bool {
        self != Self::Off
    }

    pub(super) fn traits(self) -> RequestTraits {
        RequestTraits { thinks: matches!(self, Self::On | Self::Level(_)), searches: false }
    }

    /// The effort for the backend; `None` leaves it to the model. Clients switch thinking off by default, so a model
    /// that can't do that causes no warning.
    pub(super) fn effort(self, model: &ResolvedModel, context: &mut Context<'_>) -> Option<Effort> {
        let (requested, warning) = match self {
            Self::Unset | Self::On => (None, ClampWarning::Noted),
            Self::Off => (Some(Effort::None), ClampWarning::Silent),
            Self::Level(effort) => (Some(effort), ClampWarning::Noted),
        };
        parameters::effort_for(model, requested, self.traits(), warning, context)
    }
}
