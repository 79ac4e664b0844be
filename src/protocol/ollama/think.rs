//! Reads `think`: the reasoning effort, and whether reasoning is visible.

use crate::error::ProxyError;
use crate::protocol::Context;
use crate::protocol::json::path::Field;
use crate::protocol::models::{Effort, RequestTraits, ResolvedModel};
use crate::protocol::upstream_input::ToolSet;
use crate::protocol::upstream_input::parameters::{self, ClampWarning};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Think {
    /// The model's default effort. Reasoning is visible, as in Ollama.
    #[default]
    Unset,
    /// The same, and the request counts as one for thinking.
    On,
    /// As little reasoning as the model supports, and not visible.
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

    pub(super) fn traits(self, tools: &ToolSet<'_>) -> RequestTraits {
        RequestTraits { thinks: matches!(self, Self::On | Self::Level(_)), searches: tools.has_web_search }
    }

    /// The effort for the backend; `None` leaves it to the model. There is no warning if the model can't turn reasoning
    /// off, because clients request that by default.
    pub(super) fn effort(
        self,
        model: &ResolvedModel,
        traits: RequestTraits,
        context: &mut Context<'_>,
    ) -> Option<Effort> {
        let (requested, warning) = match self {
            Self::Unset | Self::On => (None, ClampWarning::Noted),
            Self::Off => (Some(Effort::None), ClampWarning::Silent),
            Self::Level(effort) => (Some(effort), ClampWarning::Noted),
        };
        parameters::effort_for(model, requested, traits, warning, context)
    }
}
