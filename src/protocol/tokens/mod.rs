//! Tokens as the models count them (the vocabulary `o200k`), and the limit that a client sets.
//!
//! The vocabulary is part of the program: no file, no network. Unpacking it takes some 70 ms and
//! 40 MB of memory, and is put off until somebody counts. Whoever must not wait that long calls
//! [`load`] where waiting is allowed, before the first count. Counting is a pure function of the text.
//!
//! A word of more than [`STRETCH_BYTES`] (base64, a text without any spaces) is counted in
//! stretches of that length, so that a growing text never costs more than its end. The count is
//! then off by a token or so for each border between two stretches; it is exact otherwise.

mod estimate;
mod meter;

use std::sync::OnceLock;

use bpe_openai::Tokenizer;

pub use estimate::{of_json, of_request};
pub use meter::{Meter, Segment};

/// The longest word that is counted in one piece.
pub const STRETCH_BYTES: usize = 512;

static TOKENIZER: OnceLock<&'static Tokenizer> = OnceLock::new();

/// What is done about a limit that the client sets, which the backend refuses to hear of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenLimit {
    /// The answer is as long as it gets, and the client is told so.
    #[default]
    Ignore,
    /// The answer is cut at the limit.
    Enforce,
    /// The request is refused.
    Reject,
}

/// Unpacks the vocabulary, once; later calls return at once.
pub fn load() {
    tokenizer();
}

/// Whether [`load`] would return at once.
#[must_use]
pub fn is_loaded() -> bool {
    TOKENIZER.get().is_some()
}

/// Tokens of a text.
#[must_use]
pub fn count(text: &str) -> usize {
    pieces(text).map(tokens_of).sum()
}

fn tokenizer() -> &'static Tokenizer {
    TOKENIZER.get_or_init(bpe_openai::o200k_base)
}

/// The words of a text in the tokenizer's sense, long ones in stretches.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    tokenizer().split(text).flat_map(stretches)
}

fn stretches(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let end = boundary_before(rest, STRETCH_BYTES);
        let (stretch, tail) = rest.split_at_checked(end)?;
        rest = tail;
        (!stretch.is_empty()).then_some(stretch)
    })
}

fn tokens_of(piece: &str) -> usize {
    tokenizer().bpe.count(piece.as_bytes())
}

/// The longest beginnings of a piece that have at most `tokens` tokens, longest first, each ending
/// between two characters.
fn beginnings(piece: &str, tokens: usize) -> impl Iterator<Item = usize> {
    let bpe = &tokenizer().bpe;
    let mut ends = vec![0];
    for token in bpe.encode_via_backtracking(piece.as_bytes()).into_iter().take(tokens) {
        ends.push(ends.last().map_or(0, |end| end + bpe.token_len(token)));
    }
    ends.into_iter().rev().map(|end| boundary_before(piece, end))
}

/// The last place between two characters that is not after `at`.
fn boundary_before(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{STRETCH_BYTES, count, is_loaded, load};

    #[test]
    fn known_texts_have_their_known_counts() {
        load();
        assert!(is_loaded());
        // From the published examples of the vocabulary.
        for (text, tokens) in [("", 0), ("hello world", 2), ("tiktoken is great!", 6), ("お誕生日おめでとう", 8)]
        {
            assert_eq!(count(text), tokens, "{text}");
        }
    }

    #[test]
    fn a_long_word_is_counted_in_stretches() {
        let word = "日本語".repeat(1000);
        let exact = super::tokenizer().count(word.as_str());
        let borders = word.len() / STRETCH_BYTES;
        assert!(count(&word).abs_diff(exact) <= 2 * borders, "{} {exact}", count(&word));
    }

    proptest! {
        #[test]
        fn short_words_are_counted_exactly(text in "\\PC{0,200}") {
            prop_assert_eq!(count(&text), super::tokenizer().count(text.as_str()));
        }
    }
}
