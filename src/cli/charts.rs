//! Bars and colours on a terminal. Colours only there, and not where `NO_COLOR` is set.

use std::io::{self, IsTerminal as _};

use crate::config::Environment;

/// Whether to use colours on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Coloured,
}

/// The colours there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Red,
    Yellow,
    Green,
    Blue,
    Faint,
    Strong,
}

impl Paint {
    pub(super) fn of(environment: &Environment) -> Self {
        let is_wanted = io::stdout().is_terminal() && environment.path("NO_COLOR").is_none();
        if is_wanted { Self::Coloured } else { Self::Plain }
    }

    pub(super) fn painted(self, colour: Colour, text: &str) -> String {
        let code = match (self, colour) {
            (Self::Plain, _) => return text.to_owned(),
            (Self::Coloured, Colour::Red) => 31,
            (Self::Coloured, Colour::Yellow) => 33,
            (Self::Coloured, Colour::Green) => 32,
            (Self::Coloured, Colour::Blue) => 34,
            (Self::Coloured, Colour::Faint) => 2,
            (Self::Coloured, Colour::Strong) => 1,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// A bar of this width that is full to a share between 0 and 1; what is empty is shaded.
pub(super) fn bar(share: f64, width: u32) -> String {
    let full = filled(share, width);
    let rest = width as usize - full.chars().count();
    format!("{full}{}", "░".repeat(rest))
}

/// The full part of such a bar, to an eighth of a character.
pub(super) fn filled(share: f64, width: u32) -> String {
    const PARTS: [(f64, char); 8] =
        [(1.0, '█'), (0.875, '▉'), (0.75, '▊'), (0.625, '▋'), (0.5, '▌'), (0.375, '▍'), (0.25, '▎'), (0.125, '▏')];
    let length = share.clamp(0.0, 1.0) * f64::from(width);
    let left = (0..width).map(|place| length - f64::from(place));
    left.filter_map(|left| PARTS.iter().find(|(part, _)| left >= *part).map(|(_, sign)| *sign)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Colour, Paint, bar, filled};

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!([bar(0.0, 4), bar(0.5, 4), bar(1.0, 4), bar(7.0, 4)], ["░░░░", "██░░", "████", "████"]);
        assert_eq!([filled(0.28125, 4), filled(0.01, 4), filled(f64::NAN, 4)], ["█▏", "", ""]);
    }

    #[test]
    fn there_are_no_colours_where_none_are_wanted() {
        assert_eq!(Paint::Plain.painted(Colour::Red, "x"), "x");
        assert_eq!(Paint::Coloured.painted(Colour::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
