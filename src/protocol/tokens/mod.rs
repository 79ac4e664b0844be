//! Counts tokens with the models' vocabulary (`o200k`), and enforces a client's token limit.
//!
//! The vocabulary is part of the program. Unpacking it takes about 70 ms and 40 MB of memory, so it happens on first
//! use; call [`load`] beforehand where that delay isn't acceptable. Counting is a pure function of the text.
//!
//! A word longer than [`MAX_PIECE_BYTES`] (base64, text without spaces) is counted in pieces of that length, so that
//! recounting the end of a growing text takes bounded time. Each border between the pieces of a word can change the
//! count by about one token; otherwise it's exact.

mod estimate;
mod meter;

use std::sync::OnceLock;

use bpe_openai::Tokenizer;

pub use estimate::{of_json, of_request};
pub use meter::{Meter, Segment};

/// Maximum length of a piece, the unit of counting: a word of the tokenizer, or a part of a longer word.
pub const MAX_PIECE_BYTES: usize = 512;

static TOKENIZER: OnceLock<&'static Tokenizer> = OnceLock::new();

/// Treatment of a client's token limit, which the backend doesn't accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenLimit {
    /// Ignore it, and warn the client.
    #[default]
    Ignore,
    /// Cut the output at the limit.
    Enforce,
    /// Reject the request.
    Reject,
}

/// Unpacks the vocabulary, unless that has been done.
pub fn load() {
    tokenizer();
}

/// Whether the vocabulary has been unpacked.
#[must_use]
pub fn is_loaded() -> bool {
    TOKENIZER.get().is_some()
}

/// Counts the tokens of a text. Unpacks the vocabulary on first use.
#[must_use]
pub fn count(text: &str) -> usize {
    pieces(text).map(tokens_of).sum()
}

fn tokenizer() -> &'static Tokenizer {
    TOKENIZER.get_or_init(bpe_openai::o200k_base)
}

/// Splits a text into the tokenizer's words, and long words into several pieces.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    tokenizer().split(text).flat_map(pieces_of_word)
}

fn pieces_of_word(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let end = boundary_before(rest, MAX_PIECE_BYTES);
        let (piece, tail) = rest.split_at_checked(end)?;
        rest = tail;
        (!piece.is_empty()).then_some(piece)
    })
}

fn tokens_of(piece: &str) -> usize {
    tokenizer().bpe.count(piece.as_bytes())
}

/// The lengths of the prefixes of a piece that have at most `tokens` tokens, longest first, each at a character
/// boundary.
fn prefixes(piece: &str, tokens: usize) -> impl Iterator<Item = usize> {
    let bpe = &tokenizer().bpe;
    let mut ends = vec![0];
    for token in bpe.encode_via_backtracking(piece.as_bytes()).into_iter().take(tokens) {
        ends.push(ends.last().map_or(0, |end| end + bpe.token_len(token)));
    }
    ends.into_iter().rev().map(|end| boundary_before(piece, end))
}

/// The last character boundary at or before the byte `at`.
fn boundary_before(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MAX_PIECE_BYTES, count, is_loaded, load, pieces};

    #[test]
    fn published_examples_have_their_counts() {
        load();
        assert!(is_loaded());
        // From the published examples of the vocabulary.
        for (text, tokens) in [("", 0), ("hello world", 2), ("tiktoken is great!", 6), ("お誕生日おめでとう", 8)]
        {
            assert_eq!(count(text), tokens, "{text}");
        }
    }

    #[test]
    fn a_long_word_is_counted_in_pieces() {
        let word = "日本語".repeat(1000);
        assert!(pieces(&word).count() > 1 && pieces(&word).all(|piece| piece.len() <= MAX_PIECE_BYTES));
        let exact = super::tokenizer().count(word.as_str());
        let borders = word.len() / MAX_PIECE_BYTES;
        assert!(count(&word).abs_diff(exact) <= 2 * borders, "{} {exact}", count(&word));
    }

    proptest! {
        #[test]
        fn short_words_are_counted_exactly(text in "\\PC{0,200}") {
            prop_assert_eq!(count(&text), super::tokenizer().count(text.as_str()));
        }
    }
}
