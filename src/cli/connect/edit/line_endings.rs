//! Edits a text with mixed or CRLF line endings.
//!
//! The editors of the three formats write LF. [`preserving`] restores the ending of each line that the edit kept, and
//! gives new lines the ending that most lines of the text have.

const CRLF: &str = "\r\n";
const LF: &str = "\n";

/// Texts of up to this many pairs of changed lines are compared exactly; in longer ones, changed regions get the
/// prevailing ending.
const MAX_PAIRS: usize = 4_000_000;

/// Applies `edit` to the text with LF line endings, and restores the endings in its result.
pub(super) fn preserving<E>(text: &str, edit: impl FnOnce(&str) -> Result<String, E>) -> Result<String, E> {
    if !text.contains(CRLF) {
        return edit(text);
    }
    let unified = text.replace(CRLF, LF);
    let edited = edit(&unified)?;
    Ok(if edited == unified { text.to_owned() } else { restored(text, &edited) })
}

/// Returns the edited text with the endings of the original one.
fn restored(original: &str, edited: &str) -> String {
    let before: Vec<(&str, &str)> = original.split_inclusive(LF).map(split).collect();
    let after: Vec<&str> = edited.split_inclusive(LF).collect();
    let crlf_count = before.iter().filter(|(_, ending)| *ending == CRLF).count();
    let lf_count = before.iter().filter(|(_, ending)| *ending == LF).count();
    let prevailing = if crlf_count >= lf_count { CRLF } else { LF };
    let mut out = String::with_capacity(edited.len() + after.len());
    let kept = kept_lines(&before, &after);
    for (line, kept) in after.iter().zip(kept) {
        let Some(content) = line.strip_suffix(LF) else {
            out.push_str(line);
            continue;
        };
        let ending = kept.and_then(|index| before.get(index)).map_or("", |(_, ending)| ending);
        out.push_str(content);
        out.push_str(if ending.is_empty() { prevailing } else { ending });
    }
    out
}

/// Splits a line into its content and its ending.
fn split(line: &str) -> (&str, &str) {
    let content = line.strip_suffix(CRLF).or_else(|| line.strip_suffix(LF)).unwrap_or(line);
    line.split_at(content.len())
}

/// Returns for each line after the edit the index of the same line before it: a longest common subsequence.
fn kept_lines(before: &[(&str, &str)], after: &[&str]) -> Vec<Option<usize>> {
    let is_same = |a: usize, b: usize| before[a].0 == split(after[b]).0;
    let shorter = before.len().min(after.len());
    let head = (0..shorter).take_while(|&at| is_same(at, at)).count();
    let tail = (1..=shorter - head).take_while(|&back| is_same(before.len() - back, after.len() - back)).count();
    let (rows, columns) = (before.len() - head - tail, after.len() - head - tail);
    let mut kept = vec![None; after.len()];
    for (at, kept) in kept.iter_mut().enumerate().take(head) {
        *kept = Some(at);
    }
    for back in 1..=tail {
        kept[after.len() - back] = Some(before.len() - back);
    }
    if rows.saturating_mul(columns) <= MAX_PAIRS {
        for (row, column) in common(rows, columns, |row, column| is_same(head + row, head + column)) {
            kept[head + column] = Some(head + row);
        }
    }
    kept
}

/// Returns the pairs of a longest common subsequence, in order.
fn common(rows: usize, columns: usize, is_same: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
    // lengths[row][column]: the length for what begins at row and column.
    let mut lengths = vec![vec![0_u32; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            lengths[row][column] = if is_same(row, column) {
                lengths[row + 1][column + 1] + 1
            } else {
                lengths[row + 1][column].max(lengths[row][column + 1])
            };
        }
    }
    let (mut row, mut column, mut pairs) = (0, 0, Vec::new());
    while row < rows && column < columns {
        if is_same(row, column) {
            pairs.push((row, column));
            (row, column) = (row + 1, column + 1);
        } else if lengths[row + 1][column] >= lengths[row][column + 1] {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::preserving;

    fn edited(text: &str, from: &str, to: &str) -> String {
        preserving(text, |text| Ok::<_, ()>(text.replacen(from, to, 1))).unwrap()
    }

    #[test]
    fn new_lines_get_the_ending_that_prevails() {
        assert_eq!(edited("a\r\nb\r\n", "a\n", "a\nx\ny\n"), "a\r\nx\r\ny\r\nb\r\n");
        assert_eq!(edited("a\nb\nc\r\n", "a\n", "a\nx\n"), "a\nx\nb\nc\r\n");
    }

    #[test]
    fn lines_that_stay_keep_their_endings_in_a_mixed_file() {
        let text = "one\r\n\ntwo\n\r\nthree\r\nfour";
        assert_eq!(edited(text, "two\n", "two\nnew\n"), "one\r\n\ntwo\nnew\r\n\r\nthree\r\nfour");
        assert_eq!(edited(text, "four", "four\nnew\n"), "one\r\n\ntwo\n\r\nthree\r\nfour\r\nnew\r\n");
        assert_eq!(edited(text, "one\n\n", ""), "two\n\r\nthree\r\nfour");
    }

    #[test]
    fn a_text_that_is_not_edited_keeps_every_byte() {
        let text = "a\r\nb\nc\r";
        assert_eq!(preserving(text, |text| Ok::<_, ()>(text.to_owned())).unwrap(), text);
        assert_eq!(preserving("a\n", |text| Err::<String, _>(text.len())), Err(2));
    }
}
