//! How hard to think, and whether it is shown: `think`.

use crate::error::ProxyError;
use crate::protocol::Context;
use crate::protocol::json::path::Field;
use crate::protocol::models::{Effort, RequestTraits, ResolvedModel};

/// What a client says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Think {
    /// Nothing: as the model does, and shown, as Ollama does.
    #[default]
    Unsaid,
    /// As the model does.
    On,
    /// As little as the model can.
    Off,
    /// So hard.
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
            "" => Ok(Self::Unsaid),
            "none" => Ok(Self::Off),
            level => Effort::asked(level).map(Self::Level).ok_or_else(complaint),
        }
    }

    /// Whether thinking is shown.
    pub(super) fn is_shown(self) -> bool {
        self != Self::Off
    }

    /// What a request is about that says so.
    pub(super) fn occasion(self) -> RequestTraits {
        RequestTraits { thinks: matches!(self, Self::On | Self::Level(_)), searches: false }
    }

    /// The effort for the backend; `None`: the model's own. Clients switch thinking off by default, so
    /// that only a level that was named is said to be another one.
    pub(super) fn effort(self, choice: &ResolvedModel, context: &mut Context<'_>) -> Option<Effort> {
        let asked = match self {
            Self::Unsaid | Self::On => None,
            Self::Off => Some(Effort::None),
            Self::Level(effort) => Some(effort),
        };
        let wanted = choice.effort(asked)?;
        let given = context.models.fit(&choice.slug, wanted, self.occasion());
        if given != wanted && self != Self::Off {
            context.warnings.note("clamped:reasoning_effort");
        }
        Some(given)
    }
}
