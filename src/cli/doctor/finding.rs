//! A finding: what was looked at, how bad it is, and what to do.

use std::io::{self, IsTerminal};

use serde::Serialize;

use super::super::color::{Coloring, GREEN, RED, YELLOW};
use super::super::table::{WIDTH, wrap};

/// Where the message of a line begins.
const MARGIN: usize = 20;

/// What is looked at.
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
    Drift,
    Members,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    /// As it should be.
    Ok,
    /// It works, and deserves attention.
    Warning,
    /// It does not work.
    Error,
    /// It could not be looked at.
    Unknown,
}

/// One thing that was found.
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

    /// What is wrong, in a text that ends in the command that helps; else there is a usual one.
    pub(super) fn telling(check: Check, text: &str, usual: impl FnOnce() -> String) -> Self {
        let parts = text.strip_suffix('`').and_then(|text| text.rsplit_once('`'));
        match parts {
            Some((message, command)) => Self::error(check, message.trim_end_matches([' ', ':']), command),
            None => Self::error(check, text, usual()),
        }
    }

    /// The finding as a line; below it what is too much for `width` characters.
    pub(super) fn told(&self, width: Option<usize>, coloring: Coloring) -> String {
        let (mark, name) = (self.severity.mark(coloring), format!("{:?}", self.check).to_lowercase());
        let text = match &self.command {
            Some(command) => format!("{}: `{command}`", self.message),
            None => self.message.clone(),
        };
        let lines = width.map_or_else(|| vec![text.clone()], |width| wrap(&text, width.saturating_sub(MARGIN)));
        let text = lines.join(&format!("\n{}", " ".repeat(MARGIN)));
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

/// Lines are broken for eyes alone: what reads a pipe gets each finding in one.
pub(super) fn width_of_answer() -> Option<usize> {
    io::stdout().is_terminal().then_some(WIDTH)
}

#[cfg(test)]
mod tests {
    use super::super::super::color::Coloring;
    use super::{Check, Finding};

    #[test]
    fn a_command_that_is_told_already_is_not_told_twice() {
        let usual = || "codex-proxy status".to_owned();
        let line = |text: &str| Finding::telling(Check::Store, text, usual).told(None, Coloring::Off);
        assert_eq!(line("it is damaged: `mv a b`"), "wrong    store      it is damaged: `mv a b`");
        assert_eq!(line("it is locked"), "wrong    store      it is locked: `codex-proxy status`");
    }

    #[test]
    fn a_finding_is_one_line_or_fits_a_terminal_with_its_command_whole() {
        let many = "word ".repeat(20);
        let finding = Finding::error(Check::Catalogue, many.trim(), "codex-proxy models --refresh");
        let line = finding.told(None, Coloring::Off);
        assert_eq!(line.lines().count(), 1);
        assert!(line.starts_with("wrong    catalogue  word"), "{line}");
        assert!(line.ends_with("word: `codex-proxy models --refresh`"), "{line}");
        let lines = finding.told(Some(80), Coloring::Off);
        assert!(lines.lines().all(|line| line.chars().count() <= 80), "{lines}");
        assert!(lines.lines().any(|line| line.trim() == "`codex-proxy models --refresh`"), "{lines}");
    }
}
