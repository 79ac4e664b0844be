//! Reasoning effort and the display of reasoning: `thinking` and `output_config.effort`.

use super::render::ThinkingDisplay;
use super::request::MessagesRequest;
use crate::error::ProxyError;
use crate::protocol::Context;
use crate::protocol::json::path::Field;
use crate::protocol::models::{Effort, RequestTraits, ResolvedModel};

/// The member `thinking`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Thinking {
    mode: Mode,
    is_omitted: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Absent,
    Disabled,
    /// With the budget in tokens, if there is one.
    Enabled(Option<u64>),
    /// The model decides.
    Adaptive,
}

/// Whether a request offers tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tools {
    Some,
    None,
}

impl Thinking {
    pub(super) fn read(thinking: &Field<'_, '_>) -> Result<Self, ProxyError> {
        let members = thinking.object()?;
        let kind = thinking.member(&members, "type").map(|kind| kind.text()).transpose()?;
        let mode = match kind.as_deref() {
            Some("disabled") => Mode::Disabled,
            Some("enabled") => {
                let budget = thinking.member(&members, "budget_tokens");
                let is_number = |budget: Field<'_, '_>| {
                    budget.whole_number().ok_or_else(|| budget.must_be("a whole number of tokens"))
                };
                Mode::Enabled(budget.map(is_number).transpose()?)
            }
            Some("adaptive" | "between_tools") => Mode::Adaptive,
            _ => Mode::Absent,
        };
        let display = thinking.member(&members, "display").map(|display| display.text()).transpose()?;
        Ok(Self { mode, is_omitted: display.as_deref() == Some("omitted") })
    }

    /// Whether the client enabled thinking.
    pub(super) fn is_wanted(self) -> bool {
        matches!(self.mode, Mode::Enabled(_) | Mode::Adaptive)
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

/// The effort to send. `None`: the model's default.
pub(super) fn effort(
    request: &MessagesRequest<'_>,
    tools: Tools,
    choice: &ResolvedModel,
    occasion: RequestTraits,
    context: &mut Context<'_>,
) -> Option<Effort> {
    let wanted = choice.effort(requested(request, tools))?;
    let given = context.models.fit(&choice.slug, wanted, occasion);
    let is_own = request.effort == Some(wanted) && request.thinking.mode != Mode::Disabled;
    if given != wanted && is_own {
        context.warnings.note("clamped:reasoning_effort");
    }
    Some(given)
}

/// The effort that the request asks for.
fn requested(request: &MessagesRequest<'_>, tools: Tools) -> Option<Effort> {
    match request.thinking.mode {
        // Sub-agents of Claude Code disable thinking. Without any reasoning, models use tools badly
        // (case `14-subagent`).
        Mode::Disabled if tools == Tools::Some => Some(Effort::Low),
        Mode::Disabled => Some(Effort::None),
        Mode::Enabled(Some(budget)) => request.effort.or(Some(of_budget(budget))),
        Mode::Enabled(None) | Mode::Adaptive | Mode::Absent => request.effort,
    }
}

/// A budget is an upper bound. Clients set it high by default, so it never means more than `high`.
fn of_budget(tokens: u64) -> Effort {
    match tokens {
        ..=2048 => Effort::Low,
        2049..=8192 => Effort::Medium,
        _ => Effort::High,
    }
}
