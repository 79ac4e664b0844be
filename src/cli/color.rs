//! Colors on a terminal; none if standard output isn't a terminal or `NO_COLOR` is set.

use std::io::{self, IsTerminal as _};

use anstyle::{AnsiColor, Style};

use crate::config::Environment;

pub(super) const RED: Style = AnsiColor::Red.on_default();
pub(super) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(super) const GREEN: Style = AnsiColor::Green.on_default();
pub(super) const BLUE: Style = AnsiColor::Blue.on_default();
pub(super) const DIM: Style = Style::new().dimmed();
pub(super) const BOLD: Style = Style::new().bold();

/// Whether standard output gets colors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coloring {
    Off,
    On,
}

impl Coloring {
    pub(super) fn of_stdout(environment: &Environment) -> Self {
        if io::stdout().is_terminal() && !is_disabled(environment) { Self::On } else { Self::Off }
    }

    pub(super) fn paint(self, style: Style, text: &str) -> String {
        match self {
            Self::Off => text.to_owned(),
            Self::On => format!("{style}{text}{style:#}"),
        }
    }
}

/// Whether colors are disabled: `NO_COLOR` is set and not empty.
pub(super) fn is_disabled(environment: &Environment) -> bool {
    environment.path("NO_COLOR").is_some()
}

#[cfg(test)]
mod tests {
    use super::{BOLD, Coloring, RED, is_disabled};
    use crate::config::Environment;

    #[test]
    fn a_non_empty_no_color_variable_disables_colors() {
        for (value, expected) in [(None, false), (Some(""), false), (Some("1"), true)] {
            let environment: Environment = value.map(|value| ("NO_COLOR", value)).into_iter().collect();
            assert_eq!(is_disabled(&environment), expected, "{value:?}");
        }
    }

    #[test]
    fn text_is_colored_only_if_coloring_is_on() {
        assert_eq!(Coloring::Off.paint(RED, "x"), "x");
        assert_eq!(Coloring::On.paint(RED, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Coloring::On.paint(BOLD, "x"), "\u{1b}[1mx\u{1b}[0m");
    }
}
