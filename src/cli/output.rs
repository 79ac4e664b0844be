//! Output: results go to stdout, diagnostics to stderr.
//!
//! Names, messages and file contents from outside can contain control characters, which a terminal would execute.
//! All text is escaped here, at the last step, so that no caller can forget it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use super::exit::Failure;

/// Prints a part of the result and a newline to stdout.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", printable(text)).and_then(|()| stdout.flush()).map_err(Failure::Output)
}

/// Prints the result as JSON. Characters that a terminal would execute and that JSON allows become `\u` escapes.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value).expect("texts and numbers are valid JSON");
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    print(&out)
}

/// Writes a part of the result to stdout without escaping. Only for text that this program generates.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(Failure::Output)
}

/// Prints a diagnostic line to stderr. If stderr is closed, the line is dropped.
pub(super) fn eprint(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// Replaces control characters, and characters that change the direction of text, by their escapes. Line breaks, tabs
/// and color codes stay: colors are applied before this step, and can't do more than change the color.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let color_length = color_code(rest);
        let (part, after) = rest.split_at(color_length.unwrap_or(next.len_utf8()));
        if color_length.is_none() && is_unsafe(next) {
            out.extend(next.escape_default());
        } else {
            out.push_str(part);
        }
        rest = after;
    }
    Cow::Owned(out)
}

fn is_unsafe(c: char) -> bool {
    let changes_direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    changes_direction || (c.is_control() && !matches!(c, '\n' | '\t'))
}

/// Returns the length of a color code (`ESC [ numbers m`) at the start of the text.
fn color_code(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\u{1b}[")?;
    let length = numbers.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    (length <= 8 && numbers.as_bytes().get(length) == Some(&b'm')).then_some(length + 3)
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn text_without_control_characters_is_not_copied() {
        for text in ["", "plain", "Zoë\tünï\n", "日本"] {
            assert!(matches!(printable(text), std::borrow::Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn control_characters_are_escaped_and_colors_stay() {
        for (text, shown) in [
            ("a\u{1b}]0;title\u{7}b", r"a\u{1b}]0;title\u{7}b"),
            ("a\u{1b}[2Jb", r"a\u{1b}[2Jb"),
            ("a\rb\u{8}\u{7f}\u{9b}31m", r"a\rb\u{8}\u{7f}\u{9b}31m"),
            ("\u{202e}moc", r"\u{202e}moc"),
            ("\u{1b}[30;107mred\u{1b}[0m\u{1b}", "\u{1b}[30;107mred\u{1b}[0m\\u{1b}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
