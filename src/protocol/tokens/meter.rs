//! Counts text as it arrives and cuts it at a token limit.
//!
//! When text is added, only the tokens of the last two pieces can still change (`they` and `'r` become one word when an
//! `e` follows). Everything before is final and dropped, so a delta takes time linear in its own length. The accepted
//! texts never have more tokens than the limit, if [`super::count`] counts each segment on its own.
//!
//! Texts stay escaped, as in the backend's JSON, and are cut between characters. If a delta ends with the first half of
//! a surrogate pair, the maximum cost of a character is charged for it, so that the second half always fits.

use std::ops::ControlFlow;

use super::{pieces, prefixes, tokens_of};
use crate::protocol::json::string::RawText;

/// Counted in place of a character whose second half is missing: no character has more tokens.
const MOST_EXPENSIVE: char = '\u{10FFFF}';
/// Length of the escape of one surrogate (`\ud83d`).
const HALF_BYTES: usize = 6;

/// A text of a response that is counted separately from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Visible text of the item with this index.
    Text(usize),
    /// Refusal of the item with this index.
    Refusal(usize),
    /// Arguments or input of the call with this index.
    Call(usize),
}

/// Counts the tokens of a response up to a limit.
#[derive(Debug)]
pub struct Meter {
    limit: usize,
    /// Tokens of text that is final.
    settled: usize,
    /// The end of the current segment, whose tokens may change.
    tail: String,
    tail_tokens: usize,
    segment: Option<Segment>,
    /// The escape of a high surrogate at the end of the text, whose low surrogate hasn't arrived. The tail has
    /// [`MOST_EXPENSIVE`] in its place.
    half: Option<String>,
}

/// Text to add, preceded by the first half of a surrogate pair if the text before ended with one.
struct Addition {
    decoded: String,
    /// Start of each character, then the end of the text: byte offsets in the decoded and in the escaped text.
    starts: Vec<(usize, usize)>,
    /// Bytes of the decoded and of the escaped text that were accepted before: those of a completed surrogate pair.
    accepted: (usize, usize),
}

impl Meter {
    /// A meter that accepts up to `limit` tokens.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { limit, settled: 0, tail: String::new(), tail_tokens: 0, segment: None, half: None }
    }

    /// Number of accepted tokens.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        u64::try_from(self.settled + self.tail_tokens).unwrap_or(u64::MAX)
    }

    /// Adds escaped text and returns the part within the limit; `Break` if that isn't all of it.
    pub fn push<'t>(&mut self, segment: Segment, escaped: &'t str) -> ControlFlow<&'t str, &'t str> {
        if escaped.is_empty() {
            return ControlFlow::Continue(escaped);
        }
        if self.segment.replace(segment) != Some(segment) {
            self.settle_all();
        }
        let half = self.half.take();
        if half.is_some() {
            self.tail.pop();
        }
        let half = half.unwrap_or_default();
        let mut addition = Addition::read(&half, escaped);
        self.half = addition.take_half(escaped);
        let before = self.tail.len();
        self.tail.push_str(&addition.decoded);
        let Some(end) = self.first_excess(before + addition.accepted.0) else {
            self.settle();
            return ControlFlow::Continue(escaped);
        };
        self.half = None;
        self.tail.truncate(end);
        self.tail_tokens = pieces(&self.tail).map(tokens_of).sum();
        let accepted = addition.escaped_end(end - before) - half.len();
        ControlFlow::Break(escaped.get(..accepted).unwrap_or_default())
    }

    /// Where to cut the tail if it exceeds the limit: a byte offset of at least `min_end`. `None` if it fits.
    fn first_excess(&self, min_end: usize) -> Option<usize> {
        let left = self.limit.saturating_sub(self.settled);
        let (mut begin, mut tokens) = (0, 0);
        for piece in pieces(&self.tail) {
            let in_piece = tokens_of(piece);
            if tokens + in_piece > left {
                let ends = prefixes(piece, left - tokens).map(|end| begin + end);
                // The cut can change how the text is split into words.
                let fits = |end: &usize| self.tail.get(..*end).is_some_and(|text| super::count(text) <= left);
                return Some(ends.filter(|end| *end > min_end).find(fits).unwrap_or(min_end));
            }
            begin += piece.len();
            tokens += in_piece;
        }
        None
    }

    /// Drops all pieces except the last two.
    fn settle(&mut self) {
        let counted: Vec<(usize, usize)> = pieces(&self.tail).map(|piece| (piece.len(), tokens_of(piece))).collect();
        let (settled, open) = counted.split_at(counted.len().saturating_sub(2));
        self.settled += settled.iter().map(|(_, tokens)| tokens).sum::<usize>();
        self.tail_tokens = open.iter().map(|(_, tokens)| tokens).sum();
        let settled_bytes: usize = settled.iter().map(|(bytes, _)| bytes).sum();
        self.tail.drain(..settled_bytes);
    }

    /// Ends the segment: its tokens are final.
    fn settle_all(&mut self) {
        self.settled += std::mem::take(&mut self.tail_tokens);
        self.tail.clear();
        self.half = None;
    }
}

impl Addition {
    fn read(half: &str, escaped: &str) -> Self {
        let joined = [half, escaped].concat();
        let mut decoded = String::with_capacity(joined.len());
        let mut starts = Vec::with_capacity(joined.len());
        let mut at = 0;
        for (piece, scalar) in RawText::from_escaped(&joined).scalars() {
            starts.push((decoded.len(), at));
            decoded.push(scalar);
            at += piece.len();
        }
        starts.push((decoded.len(), at));
        let accepted = if half.is_empty() { None } else { starts.get(1).copied() };
        Self { decoded, starts, accepted: accepted.unwrap_or_default() }
    }

    /// Removes half a surrogate pair from the end and returns it. [`MOST_EXPENSIVE`] takes its place.
    fn take_half(&mut self, escaped: &str) -> Option<String> {
        if !RawText::from_escaped(escaped).ends_in_high_surrogate() {
            return None;
        }
        self.decoded.pop();
        self.decoded.push(MOST_EXPENSIVE);
        let start = escaped.len().checked_sub(HALF_BYTES)?;
        escaped.get(start..).map(str::to_owned)
    }

    /// Maps a character boundary in the decoded text to the escaped text.
    fn escaped_end(&self, decoded_end: usize) -> usize {
        let found = self.starts.binary_search_by_key(&decoded_end, |(decoded, _)| *decoded);
        found.ok().and_then(|at| self.starts.get(at)).map_or(self.accepted.1, |(_, escaped)| *escaped)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use proptest::prelude::*;

    use super::super::{MAX_PIECE_BYTES, count};
    use super::{Meter, Segment};
    use crate::protocol::json::string::RawText;

    const TEXT: Segment = Segment::Text(0);

    /// The accepted part of a text in pieces, its tokens, and whether it was cut.
    fn run<'a>(limit: u64, pieces: impl IntoIterator<Item = &'a str>) -> (String, u64, bool) {
        let mut meter = Meter::new(limit);
        let mut accepted = String::new();
        for piece in pieces {
            match meter.push(TEXT, piece) {
                ControlFlow::Continue(text) => accepted.push_str(text),
                ControlFlow::Break(text) => return (accepted + text, meter.tokens(), true),
            }
        }
        (accepted, meter.tokens(), false)
    }

    #[test]
    fn the_text_is_cut_after_the_last_token_that_fits() {
        let text = "The quick brown fox jumps over the lazy dog.";
        assert_eq!(run(4, [text]), ("The quick brown fox".to_owned(), 4, true));
        assert_eq!(run(4, ["The quick", " brown fox", " jumps"]), ("The quick brown fox".to_owned(), 4, true));
        assert_eq!(run(10, [text]), (text.to_owned(), 10, false), "a text with exactly the limit is not cut");
        assert_eq!(run(9, [text]).0, text.trim_end_matches('.'));
    }

    #[test]
    fn segments_are_counted_separately_and_share_the_limit() {
        let mut meter = Meter::new(3);
        assert_eq!(meter.push(TEXT, "hello"), ControlFlow::Continue("hello"));
        assert_eq!(meter.push(Segment::Call(0), " world"), ControlFlow::Continue(" world"));
        assert_eq!(meter.push(Segment::Call(1), " again and again"), ControlFlow::Break(" again"));
        assert_eq!(meter.tokens(), 3);
    }

    #[test]
    fn escapes_and_surrogate_pairs_stay_whole() {
        let pieces = [r"a\n\u00e9\ud83d", r"\ude00\ud83d", r"\ude00"];
        for limit in 1..12 {
            let (accepted, tokens, _) = run(limit, pieces);
            assert!(!RawText::from_escaped(&accepted).ends_in_high_surrogate(), "{accepted}");
            assert!(pieces.concat().starts_with(&accepted) && tokens <= limit);
            serde_json::from_str::<String>(&format!("\"{accepted}\"")).unwrap();
        }
        // The second half always fits, and the reserved tokens are released.
        assert_eq!(run(9, [r"a\ud83d", r"\ude00"]), (r"a\ud83d\ude00".to_owned(), 2, false));
        assert_eq!(run(3, [r"a\ud83d", r"\ude00"]), ("a".to_owned(), 1, true));
        assert_eq!(run(20, [r"\ud83d", r"\ud83d", "b"]).0, r"\ud83d\ud83db");
    }

    #[test]
    fn a_long_word_costs_no_more_than_its_end() {
        let mut meter = Meter::new(u64::MAX);
        for _ in 0..5000 {
            assert!(meter.push(TEXT, "日本").is_continue());
            assert!(meter.tail.len() <= 2 * MAX_PIECE_BYTES, "{}", meter.tail.len());
        }
        let exact = count(&"日本".repeat(5000)) as u64;
        assert!(meter.tokens().abs_diff(exact) <= 2 * 30_000 / MAX_PIECE_BYTES as u64, "{} {exact}", meter.tokens());
    }

    /// Pieces of text in which words run into each other in every way that the tokenizer knows.
    fn any_piece() -> impl Strategy<Value = String> {
        prop_oneof!["[aAbZ'sreltvdmMé日本い0-9 /!.{}\":\\\\\n\t\r😀\u{301}]{0,5}", "\\PC{0,4}", " {0,4}\n?"]
    }

    fn escape(text: &str) -> String {
        serde_json::to_string(text).unwrap().trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned()
    }

    /// The same with every character outside ASCII as `\u` escapes.
    fn escape_all(text: &str) -> String {
        let unit = |unit: u16| match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
            _ => format!("\\u{unit:04x}"),
        };
        escape(text).encode_utf16().map(unit).collect()
    }

    fn is_whole(escaped: &str) -> bool {
        match escaped.as_bytes() {
            [b'\\', b'u', digits @ ..] => matches!(digits.len(), 4 | 10),
            [b'\\', rest @ ..] => !rest.is_empty(),
            _ => true,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn counting_pieces_equals_counting_the_whole(texts in prop::collection::vec(any_piece(), 0..12)) {
            let mut meter = Meter::new(u64::MAX);
            let mut whole = String::new();
            for text in &texts {
                let _ = meter.push(TEXT, &escape(text));
                whole.push_str(text);
                prop_assert_eq!(meter.tokens(), count(&whole) as u64, "{:?}", whole);
            }
        }

        #[test]
        fn no_more_than_the_limit_is_accepted(
            texts in prop::collection::vec(any_piece(), 0..12),
            limit in 1_u64..20,
            splits in prop::collection::vec(any::<prop::sample::Index>(), 3),
        ) {
            let whole = escape_all(&texts.concat());
            let mut ends: Vec<usize> = splits.iter().map(|split| split.index(whole.len() + 1)).collect();
            // An escape is never split, only a pair of them.
            ends.retain(|end| RawText::from_escaped(whole.get(..*end).unwrap()).scalars().all(|(escaped, _)| is_whole(escaped)));
            ends.extend([0, whole.len()]);
            ends.sort_unstable();
            let pieces: Vec<&str> = ends.windows(2).map(|pair| whole.get(pair[0]..pair[1]).unwrap()).collect();
            let (accepted, tokens, is_cut) = run(limit, pieces);
            prop_assert!(whole.starts_with(&accepted));
            prop_assert_eq!(is_cut, accepted != whole);
            let text: String = serde_json::from_str(&format!("\"{accepted}\"")).unwrap();
            prop_assert_eq!(tokens, count(&text) as u64);
            prop_assert!(tokens <= limit);
            let is_too_long = count(&texts.concat()) as u64 > limit;
            prop_assert_eq!(run(limit, [whole.as_str()]).2, is_too_long);
        }
    }
}
