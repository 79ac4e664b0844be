//! Reads `toolConfig`, and converts it to the backend's tool choice.

use std::borrow::Cow;

use super::spelling::{enum_name, fields};
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::ToolChoice;
use crate::protocol::json::path::Field;
use crate::protocol::upstream_input::parameters::allowed_tools;
use crate::protocol::upstream_input::{ToolSet, names};
use crate::protocol::{Ignored, Warnings};

const ALLOWED_NAMES: &str = "toolConfig.functionCallingConfig.allowedFunctionNames";
const MODE: &str = "toolConfig.functionCallingConfig.mode";
/// The modes, by number.
const MODES: [&str; 5] = ["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"];

/// A tool choice under the client's names.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestedChoice<'a> {
    mode: CallingMode,
    /// Empty if all functions are allowed.
    allowed: Vec<Cow<'a, str>>,
}

/// Whether the model must call functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum CallingMode {
    #[default]
    Auto,
    /// As `Auto`, but may be limited to some functions.
    Validated,
    Any,
    None,
}

impl<'a> RequestedChoice<'a> {
    /// Reads `toolConfig`. Notes the ignored members by name.
    pub(super) fn read(config: &Field<'a, '_>, ignored: &mut Ignored) -> Result<Self, ProxyError> {
        let members = config.object()?;
        let mut choice = Self::default();
        for (name, field) in fields(config, &members) {
            if name == "functionCallingConfig" {
                choice = Self::read_calling(&field, ignored)?;
            } else {
                ignored.note(&name);
            }
        }
        Ok(choice)
    }

    fn read_calling(config: &Field<'a, '_>, ignored: &mut Ignored) -> Result<Self, ProxyError> {
        let members = config.object()?;
        let mut choice = Self::default();
        for (name, field) in fields(config, &members) {
            match &*name {
                "mode" => choice.mode = CallingMode::read(&field)?,
                "allowedFunctionNames" => choice.allowed = field.texts()?,
                name => ignored.note(name),
            }
        }
        Ok(choice)
    }

    /// Converts the choice to the backend's form.
    ///
    /// # Errors
    /// If an allowed function isn't declared, or a call is required and no function is declared.
    pub(super) fn upstream(self, tools: &ToolSet<'a>, warnings: &mut Warnings) -> Result<ToolChoice<'a>, ProxyError> {
        let Self { mode, allowed } = self;
        if mode == CallingMode::Any && tools.functions.is_empty() {
            return Err(Refusal::invalid(MODE, format!("{MODE}: 'ANY' requires at least one function in 'tools'")));
        }
        let word = match mode {
            CallingMode::None => return Ok(ToolChoice::None),
            CallingMode::Auto => {
                if !allowed.is_empty() {
                    warnings.ignored("allowedFunctionNames");
                }
                return Ok(ToolChoice::Auto);
            }
            CallingMode::Validated if allowed.is_empty() => return Ok(ToolChoice::Auto),
            CallingMode::Any if allowed.is_empty() && !tools.has_web_search => return Ok(ToolChoice::Required),
            CallingMode::Validated => "auto",
            CallingMode::Any => "required",
        };
        // A search in place of a call doesn't satisfy `ANY`.
        let allowed = if allowed.is_empty() { tools.functions.iter().cloned().collect() } else { allowed };
        if let Some(unknown) = allowed.iter().find(|name| !tools.functions.contains(&**name)) {
            let message = format!("{ALLOWED_NAMES}: names '{unknown}', which is not among the functions in 'tools'");
            return Err(Refusal::invalid(ALLOWED_NAMES, message));
        }
        let mut choices: Vec<_> = allowed.into_iter().map(|name| Cow::Owned(names::choice("function", name))).collect();
        if mode == CallingMode::Any && choices.len() == 1 {
            return Ok(ToolChoice::Raw(choices.remove(0)));
        }
        Ok(allowed_tools(Cow::Borrowed(word), choices))
    }
}

impl CallingMode {
    fn read(mode: &Field<'_, '_>) -> Result<Self, ProxyError> {
        match &*enum_name(mode, &MODES)? {
            "AUTO" | "MODE_UNSPECIFIED" => Ok(Self::Auto),
            "VALIDATED" => Ok(Self::Validated),
            "ANY" => Ok(Self::Any),
            "NONE" => Ok(Self::None),
            _ => Err(mode.invalid("must be one of 'AUTO', 'ANY', 'NONE' and 'VALIDATED'")),
        }
    }
}
