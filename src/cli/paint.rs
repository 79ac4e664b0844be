//! Colours of the answer: only on a terminal that knows them, and not where `NO_COLOR` is set.

use std::io::{self, IsTerminal};

use crate::config::Environment;

/// Whether texts are painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paint {
    is_on: bool,
}

impl Paint {
    /// No colours.
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self { is_on: false };

    /// For the answer of this process.
    pub(super) fn of_answer(environment: &Environment) -> Self {
        Self { is_on: io::stdout().is_terminal() && allows(environment) }
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

fn allows(environment: &Environment) -> bool {
    environment.path("NO_COLOR").is_none() && environment.get("TERM").is_none_or(|terminal| terminal != "dumb")
}

#[cfg(test)]
mod tests {
    use super::{Paint, allows};
    use crate::config::Environment;

    #[test]
    fn no_color_and_a_dumb_terminal_are_obeyed() {
        let of = |name: &str, value: &str| allows(&Environment::from_iter([(name, value)]));
        assert!(of("TERM", "xterm") && of("NO_COLOR", ""));
        assert!(!of("NO_COLOR", "1") && !of("TERM", "dumb"));
    }

    #[test]
    fn paint_is_put_around_a_text_or_not_at_all() {
        assert_eq!(Paint { is_on: true }.red("x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Paint::PLAIN.strong("x"), "x");
    }
}
