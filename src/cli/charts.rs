//! Horizontal bars made of block characters.

/// Returns a bar that fills `share` (0 to 1) of `width`; the rest is shaded.
pub(super) fn bar(share: f64, width: u32) -> String {
    let full = filled(share, width);
    let rest = width as usize - full.chars().count();
    format!("{full}{}", "░".repeat(rest))
}

/// Returns only the filled part of such a bar, to an eighth of a column.
pub(super) fn filled(share: f64, width: u32) -> String {
    const BLOCKS: [(f64, char); 8] =
        [(1.0, '█'), (0.875, '▉'), (0.75, '▊'), (0.625, '▋'), (0.5, '▌'), (0.375, '▍'), (0.25, '▎'), (0.125, '▏')];
    let length = share.clamp(0.0, 1.0) * f64::from(width);
    let left = (0..width).map(|column| length - f64::from(column));
    left.filter_map(|left| BLOCKS.iter().find(|(part, _)| left >= *part).map(|(_, block)| *block)).collect()
}

#[cfg(test)]
mod tests {
    use super::{bar, filled};

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!([bar(0.0, 4), bar(0.5, 4), bar(1.0, 4), bar(7.0, 4)], ["░░░░", "██░░", "████", "████"]);
        assert_eq!([filled(0.28125, 4), filled(0.01, 4), filled(f64::NAN, 4)], ["█▏", "", ""]);
    }
}
