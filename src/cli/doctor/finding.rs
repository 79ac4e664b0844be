//! A finding: the check, its severity, a message, and the command that fixes it.

use std::io::{self, IsTerminal};

use serde::Serialize;

use super::super::color::{Coloring, GREEN, RED, YELLOW};
use super::super::table::{WIDTH, wrap};

/// Column in which the message begins.
const MESSAGE_COLUMN: usize = 20;

/// The checks. The JSON form has these names in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Check {
    Settings,
    Files,
    Store,
    Token,
    Network,
    Clock,
    Issuer,
    Backend,
    Workspace,
    Catalogue,
    Port,
    Quota,
    /// Events and items of the backend that this release doesn't know.
    Drift,
    /// Request members that the backend rejected.
    Members,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    /// No problem.
    Ok,
    /// It works, but needs attention.
    Warning,
    /// It doesn't work.
    Error,
    /// It couldn't be checked.
    Unknown,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    check: Check,
    pub(super) severity: Severity,
    message: String,
    command: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: Check, message: impl Into<String>) -> Self {
        Self { check, severity: Severity::Ok, message: message.into(), command: None }
    }

    pub(super) fn warning(check: Check, message: impl Into<String>, command: impl Into<String>) -> Self {
        Self { check, severity: Severity::Warning, message: message.into(), command: Some(command.into()) }
    }

    pub(super) fn error(check: Check, message: impl Into<String>, command: impl Into<String>) -> Self {
        Self { check, severity: Severity::Error, message: message.into(), command: Some(command.into()) }
    }

    pub(super) fn unknown(check: Check, message: impl Into<String>) -> Self {
        Self { check, severity: Severity::Unknown, message: message.into(), command: None }
    }

    /// Returns an error with the command at the end of `text`, or else with `default_command`.
    pub(super) fn error_from_text(check: Check, text: &str, default_command: impl FnOnce() -> String) -> Self {
        match split_command(text) {
            Some((message, command)) => Self::error(check, message, command),
            None => Self::error(check, text, default_command()),
        }
    }

    /// Formats the finding as one line, or as several if `width` is given.
    pub(super) fn format(&self, width: Option<usize>, coloring: Coloring) -> String {
        let (mark, name) = (self.severity.mark(coloring), format!("{:?}", self.check).to_lowercase());
        let text = match &self.command {
            Some(command) => format!("{}: `{command}`", self.message),
            None => self.message.clone(),
        };
        let lines = width.map_or_else(|| vec![text.clone()], |width| wrap(&text, width.saturating_sub(MESSAGE_COLUMN)));
        let text = lines.join(&format!("\n{}", " ".repeat(MESSAGE_COLUMN)));
        format!("{mark} {name:<11}{text}")
    }
}

impl Severity {
    fn mark(self, coloring: Coloring) -> String {
        match self {
            Self::Ok => coloring.paint(GREEN, "ok      "),
            Self::Warning => coloring.paint(YELLOW, "warning "),
            Self::Error => coloring.paint(RED, "wrong   "),
            Self::Unknown => "unknown ".to_owned(),
        }
    }
}

/// Splits a message that ends with a command in backticks, such as "…: `command`" or "…. Run `command`.".
pub(super) fn split_command(text: &str) -> Option<(&str, &str)> {
    let (message, command) = text.strip_suffix('.').unwrap_or(text).strip_suffix('`')?.rsplit_once('`')?;
    let message = message.trim_end();
    let message = message.strip_suffix("Run").or_else(|| message.strip_suffix(": run")).unwrap_or(message);
    Some((message.trim_end_matches([' ', ':', '.']), command))
}

/// Returns the width to wrap lines at. Only on a terminal: programs that read a pipe get one line per finding.
pub(super) fn output_width() -> Option<usize> {
    io::stdout().is_terminal().then_some(WIDTH)
}

#[cfg(test)]
mod tests {
    use super::super::super::color::Coloring;
    use super::{Check, Finding};

    #[test]
    fn a_command_at_the_end_of_the_text_is_used() {
        let default = || "codex-proxy status".to_owned();
        let line = |text: &str| Finding::error_from_text(Check::Store, text, default).format(None, Coloring::Off);
        for text in ["it is damaged: `mv a b`", "it is damaged. Run `mv a b`.", "it is damaged: run `mv a b`"] {
            assert_eq!(line(text), "wrong    store      it is damaged: `mv a b`");
        }
        assert_eq!(line("it is locked"), "wrong    store      it is locked: `codex-proxy status`");
    }

    #[test]
    fn a_finding_is_one_line_or_is_wrapped_without_breaking_its_command() {
        let many = "word ".repeat(20);
        let finding = Finding::error(Check::Catalogue, many.trim(), "codex-proxy models --refresh");
        let line = finding.format(None, Coloring::Off);
        assert_eq!(line.lines().count(), 1);
        assert!(line.starts_with("wrong    catalogue  word"), "{line}");
        assert!(line.ends_with("word: `codex-proxy models --refresh`"), "{line}");
        let lines = finding.format(Some(80), Coloring::Off);
        assert!(lines.lines().all(|line| line.chars().count() <= 80), "{lines}");
        assert!(lines.lines().any(|line| line.trim() == "`codex-proxy models --refresh`"), "{lines}");
    }
}
