//! Tables of at most 80 columns.
//!
//! Columns are as wide as their content. One column may wrap between words, so that lines fit. Words and commands in
//! backticks are never cut, so that a path or a command can be copied.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr};

use super::color::{BOLD, Coloring};

/// The width that output is made for, in terminal columns.
pub(super) const WIDTH: usize = 80;
/// Width of the space between two columns.
const GAP: usize = 2;

/// How the text of a column is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
    /// On the left, and wrapped if the line would be too long. At most one column of a table.
    Wrap,
}

/// Returns the lines of a table, with a header line.
pub(super) fn table<const N: usize>(columns: [(&str, Align); N], rows: &[[String; N]], coloring: Coloring) -> String {
    let mut widths = columns.map(|(header, _)| header.width());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    if let Some(wrapped) = columns.iter().position(|(_, align)| *align == Align::Wrap) {
        let others: usize = widths.iter().sum::<usize>() - widths[wrapped] + GAP * (N - 1);
        let longest_word = rows.iter().flat_map(|row| row[wrapped].split(' ')).map(UnicodeWidthStr::width).max();
        let room = WIDTH.saturating_sub(others).max(longest_word.unwrap_or(0)).max(columns[wrapped].0.width());
        widths[wrapped] = widths[wrapped].min(room);
    }
    let headers = columns.map(|(header, _)| header.to_owned());
    let mut lines: Vec<_> =
        row_lines(&headers, columns, widths).iter().map(|line| coloring.paint(BOLD, line)).collect();
    lines.extend(rows.iter().flat_map(|row| row_lines(row, columns, widths)));
    lines.join("\n")
}

fn row_lines<const N: usize>(row: &[String; N], columns: [(&str, Align); N], widths: [usize; N]) -> Vec<String> {
    let cells: Vec<Vec<String>> = row.iter().zip(widths).map(|(cell, width)| wrap(cell, width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(1);
    let line = |index: usize| {
        let mut line = String::new();
        for ((cell, (_, align)), width) in cells.iter().zip(columns).zip(widths) {
            let text = cell.get(index).map_or("", String::as_str);
            if align == Align::Right {
                line.push_str(&" ".repeat(width.saturating_sub(text.width())));
                line.push_str(text);
            } else {
                line.push_str(&padded(text, width));
            }
            line.push_str(&" ".repeat(GAP));
        }
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

/// Breaks a text into lines of at most `width` columns; a longer word gets a line of its own.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words(text) {
        let line = lines.last_mut().expect("there is a line from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if line.width() + 1 + word.width() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Cuts a text that is wider than `width` columns, and ends it with `…`.
pub(super) fn truncate(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let fits = |c: &char| {
        let left = room.checked_sub(c.width().unwrap_or(0));
        room = left.unwrap_or(0);
        left.is_some()
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// Fills a text with spaces on the right, up to `width` columns.
pub(super) fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Returns the words of a text; a command in backticks is one word.
fn words(text: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let is_separator = |character: char| {
        is_quoted ^= character == '`';
        character == ' ' && !is_quoted
    };
    text.split(is_separator).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Align, WIDTH, table, truncate, wrap};
    use crate::cli::color::Coloring;

    #[test]
    fn columns_are_as_wide_as_their_content() {
        let rows = [["a".to_owned(), "1,000".to_owned()], ["longer".to_owned(), "5".to_owned()]];
        let text = table([("name", Align::Left), ("size", Align::Right)], &rows, Coloring::Off);
        assert_eq!(text, "name     size\na       1,000\nlonger      5");
    }

    #[test]
    fn wide_characters_count_as_two_columns() {
        let rows = [["日本".to_owned(), "1".to_owned()], ["name".to_owned(), "2".to_owned()]];
        let text = table([("key", Align::Left), ("n", Align::Left)], &rows, Coloring::Off);
        assert_eq!(text, "key   n\n日本  1\nname  2");
        assert_eq!([truncate("日本語", 6), truncate("日本語", 5), truncate("日本語", 4)], ["日本語", "日本…", "日…"]);
        assert_eq!(wrap("日本 日本", 8), ["日本", "日本"]);
    }

    #[test]
    fn no_line_is_wider_than_80_columns() {
        let many = "word ".repeat(40);
        let rows = [["name".to_owned(), many, "end".to_owned()]];
        let text = table([("a", Align::Left), ("b", Align::Wrap), ("c", Align::Left)], &rows, Coloring::Off);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.matches("word").count(), 40);
        assert!(text.lines().nth(2).unwrap().starts_with("      word"), "{text}");
    }

    #[test]
    fn a_text_that_is_too_wide_is_cut() {
        assert_eq!([truncate("name", 4), truncate("names", 4)], ["name", "nam…"]);
    }

    #[test]
    fn a_command_is_never_broken() {
        assert_eq!(wrap("run `one two three` now", 8), ["run", "`one two three`", "now"]);
    }
}
