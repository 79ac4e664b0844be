//! Tables for people: columns as wide as what is in them, and never more than 80 characters a line.
//!
//! What is too much for a line goes on below, in its own column, broken between words. Words are
//! never cut: a path or a command can be copied from where it stands.

use super::charts::{Colour, Paint};

/// What fits on a terminal that nobody has widened.
pub(super) const WIDTH: usize = 80;
const GAP: usize = 2;

/// On which side of its column a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    /// On the left, and broken between words where the line would be too long. One column at most.
    Broken,
}

/// The lines of a table, its heads first.
pub(super) fn table<const N: usize>(columns: [(&str, Side); N], rows: &[[String; N]], paint: Paint) -> String {
    let mut widths = columns.map(|(head, _)| length(head));
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(length(cell));
        }
    }
    if let Some(broken) = columns.iter().position(|(_, side)| *side == Side::Broken) {
        let others: usize = widths.iter().sum::<usize>() - widths[broken] + GAP * (N - 1);
        let longest_word = rows.iter().flat_map(|row| row[broken].split(' ')).map(length).max().unwrap_or(0);
        let room = WIDTH.saturating_sub(others).max(longest_word).max(length(columns[broken].0));
        widths[broken] = widths[broken].min(room);
    }
    let heads = columns.map(|(head, _)| head.to_owned());
    let mut lines: Vec<_> =
        lines(&heads, columns, widths).iter().map(|line| paint.painted(Colour::Strong, line)).collect();
    lines.extend(rows.iter().flat_map(|row| self::lines(row, columns, widths)));
    lines.join("\n")
}

fn lines<const N: usize>(row: &[String; N], columns: [(&str, Side); N], widths: [usize; N]) -> Vec<String> {
    let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, width)| broken(cell, width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(1);
    let line = |index: usize| {
        let mut line = String::new();
        for ((cell, (_, side)), width) in cells.iter().zip(columns).zip(widths) {
            let text = cell.get(index).map_or("", String::as_str);
            let space = " ".repeat(width.saturating_sub(length(text)));
            match side {
                Side::Right => line.extend([space.as_str(), text]),
                Side::Left | Side::Broken => line.extend([text, space.as_str()]),
            }
            line.push_str(&" ".repeat(GAP));
        }
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

/// A text in lines of at most `width` characters; a longer word has a line of its own.
pub(super) fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words(text) {
        let line = lines.last_mut().expect("there is a line from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if length(line) + 1 + length(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A text in so much room, cut where it is too long.
pub(super) fn fitting(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// The words of a text; what stands between backticks is one, so that a command stays whole.
fn words(text: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let ends = |character: char| {
        is_quoted ^= character == '`';
        character == ' ' && !is_quoted
    };
    text.split(ends).filter(|word| !word.is_empty()).collect()
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::{Side, WIDTH, broken, fitting, table};
    use crate::cli::charts::Paint;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [["a".to_owned(), "1,000".to_owned()], ["longer".to_owned(), "5".to_owned()]];
        let text = table([("name", Side::Left), ("size", Side::Right)], &rows, Paint::Plain);
        assert_eq!(text, "name     size\na       1,000\nlonger      5");
    }

    #[test]
    fn no_line_is_longer_than_a_terminal_is_wide() {
        let many = "word ".repeat(40);
        let rows = [["name".to_owned(), many, "end".to_owned()]];
        let text = table([("a", Side::Left), ("b", Side::Broken), ("c", Side::Left)], &rows, Paint::Plain);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.matches("word").count(), 40);
        assert!(text.lines().nth(2).unwrap().starts_with("      word"), "{text}");
    }

    #[test]
    fn what_has_to_fit_is_cut() {
        assert_eq!([fitting("name", 4), fitting("names", 4)], ["name", "nam…"]);
    }

    #[test]
    fn a_command_is_never_broken() {
        assert_eq!(broken("run `one two three` now", 8), ["run", "`one two three`", "now"]);
    }
}
