//! Reads `thinking`, and derives the reasoning effort from it and from `output_config.effort`.

use super::render::ThinkingDisplay;
use super::request::MessagesRequest;
use super::tools::ToolSet;
use crate::error::ProxyError;
use crate::protocol::Context;
use crate::protocol::json::path::Field;
use crate::protocol::models::{Effort, RequestTraits, ResolvedModel};
use crate::protocol::upstream_input::parameters::{self, ClampWarning, effort_for_budget};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Thinking {
    kind: ThinkingKind,
    /// `display: "omitted"`.
    is_omitted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ThinkingKind {
    /// No `thinking` member, or an unknown type.
    #[default]
    Absent,
    Disabled,
    /// The budget in tokens, if the client sent one.
    Enabled(Option<u64>),
    /// The model decides how much to think, within the effort.
    Adaptive,
}

impl Thinking {
    pub(super) fn read(thinking: &Field<'_, '_>) -> Result<Self, ProxyError> {
        let members = thinking.object()?;
        let kind = match thinking.optional_text(&members, "type")?.as_deref() {
            Some("disabled") => ThinkingKind::Disabled,
            Some("enabled") => {
                let budget = thinking.member(&members, "budget_tokens");
                let tokens = |budget: Field<'_, '_>| {
                    budget.whole_number().ok_or_else(|| budget.must_be("a whole number of tokens"))
                };
                ThinkingKind::Enabled(budget.map(tokens).transpose()?)
            }
            Some("adaptive" | "between_tools") => ThinkingKind::Adaptive,
            _ => ThinkingKind::Absent,
        };
        let display = thinking.optional_text(&members, "display")?;
        Ok(Self { kind, is_omitted: display.as_deref() == Some("omitted") })
    }

    /// Whether the client requests thinking.
    pub(super) fn is_wanted(self) -> bool {
        matches!(self.kind, ThinkingKind::Enabled(_) | ThinkingKind::Adaptive)
    }

    /// How reasoning is shown.
    pub(super) fn display(self) -> ThinkingDisplay {
        match (self.is_wanted(), self.is_omitted) {
            (false, _) => ThinkingDisplay::Hidden,
            (true, true) => ThinkingDisplay::Omitted,
            (true, false) => ThinkingDisplay::Shown,
        }
    }
}

/// The effort for the backend; `None` leaves it to the model. If the model doesn't support the effort, a warning says
/// so, but only if the client named it in `output_config`.
pub(super) fn effort(
    request: &MessagesRequest<'_>,
    tools: &ToolSet<'_>,
    model: &ResolvedModel,
    traits: RequestTraits,
    context: &mut Context<'_>,
) -> Option<Effort> {
    let requested = requested_effort(request, tools);
    let is_named = model.effort(requested) == request.effort;
    let warning = if is_named && request.thinking.kind != ThinkingKind::Disabled {
        ClampWarning::Noted
    } else {
        ClampWarning::Silent
    };
    parameters::effort_for(model, requested, traits, warning, context)
}

fn requested_effort(request: &MessagesRequest<'_>, tools: &ToolSet<'_>) -> Option<Effort> {
    match request.thinking.kind {
        // Subagents of Claude Code disable thinking. Without reasoning the model uses tools badly (case `14-subagent`).
        ThinkingKind::Disabled if !tools.upstream.is_empty() => Some(Effort::Low),
        ThinkingKind::Disabled => Some(Effort::None),
        ThinkingKind::Enabled(Some(budget)) => request.effort.or(Some(effort_for_budget(budget))),
        ThinkingKind::Enabled(None) | ThinkingKind::Adaptive | ThinkingKind::Absent => request.effort,
    }
}
