//! Enforces stop sequences, which the backend does not accept.
//!
//! Text that may be the beginning of a stop sequence is held back until more text decides that. Matching works on
//! Unicode scalar values; the returned text keeps its escaped form. A surrogate pair that is split between two deltas
//! is joined first.

use std::ops::ControlFlow;

use crate::protocol::json::string::RawText;

/// Finds stop sequences in the text of a reply.
#[derive(Debug, Default)]
pub(in crate::protocol) struct StopMatcher {
    stops: Vec<String>,
    /// Text that is held back, escaped.
    held: String,
    /// Index of the stop sequence that was found.
    found: Option<usize>,
}

impl StopMatcher {
    pub(in crate::protocol) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, held: String::new(), found: None }
    }

    /// Whether there are no stop sequences, so that text doesn't have to be pushed.
    pub(in crate::protocol) fn is_idle(&self) -> bool {
        self.stops.is_empty()
    }

    /// Whether text is held back.
    pub(in crate::protocol) fn holds_text(&self) -> bool {
        !self.held.is_empty()
    }

    /// Accepts the next text, escaped, and returns the text that can be shown. Breaks if a stop sequence follows it.
    ///
    /// A match is held back while one that begins earlier is still possible: the earliest counts, however the text is
    /// split.
    pub(in crate::protocol) fn push(&mut self, escaped: &str) -> ControlFlow<String, String> {
        let mut text = std::mem::take(&mut self.held);
        text.push_str(escaped);
        let (decoded, starts) = decode(&text);
        let partial = self.partial_match(&decoded);
        let found = self.first_match(&decoded).filter(|(at, _)| partial.is_none_or(|partial| partial >= *at));
        let shown = found.map(|(at, _)| at).or(partial).unwrap_or(decoded.len());
        let mut shown_bytes = starts.iter().find(|(at, _)| *at == shown).map_or(text.len(), |(_, start)| *start);
        if found.is_none() && RawText::from_escaped(&text).ends_in_high_surrogate() {
            // Hold back half a surrogate pair, an escape of six bytes.
            shown_bytes = shown_bytes.min(text.len() - 6);
        }
        let rest = text.split_off(shown_bytes);
        if let Some((_, stop)) = found {
            self.found = Some(stop);
            return ControlFlow::Break(text);
        }
        self.held = rest;
        ControlFlow::Continue(text)
    }

    /// Ends the text, and returns what was held back of it. Breaks if a stop sequence follows that.
    pub(in crate::protocol) fn flush(&mut self) -> ControlFlow<String, String> {
        let mut text = std::mem::take(&mut self.held);
        let (decoded, starts) = decode(&text);
        let Some((found, stop)) = self.first_match(&decoded) else { return ControlFlow::Continue(text) };
        self.found = Some(stop);
        text.truncate(starts.iter().find(|(at, _)| *at == found).map_or(text.len(), |(_, start)| *start));
        ControlFlow::Break(text)
    }

    /// The stop sequence that ended the text.
    pub(in crate::protocol) fn found(&self) -> Option<&str> {
        self.found.and_then(|stop| self.stops.get(stop)).map(String::as_str)
    }

    /// Where the first match begins, and its index. Of several matches at one position, the shortest counts, since it
    /// is complete first.
    fn first_match(&self, decoded: &str) -> Option<(usize, usize)> {
        let matches =
            (0..).zip(&self.stops).filter_map(|(stop, text)| Some((decoded.find(text.as_str())?, stop, text)));
        matches.min_by_key(|(at, _, text)| (*at, text.len())).map(|(at, stop, _)| (at, stop))
    }

    /// Where a stop sequence may begin that later text completes: the longest suffix that is a proper prefix of one.
    fn partial_match(&self, decoded: &str) -> Option<usize> {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = decoded.len().saturating_sub(longest.saturating_sub(1));
        let mut suffixes = decoded.char_indices().map(|(at, _)| at).skip_while(|at| *at < from);
        suffixes.find(|at| {
            let suffix = decoded.get(*at..).unwrap_or_default();
            self.stops.iter().any(|stop| stop.len() > suffix.len() && stop.starts_with(suffix))
        })
    }
}

/// The decoded text, and for each scalar value its byte offsets in the decoded and in the escaped text.
fn decode(escaped: &str) -> (String, Vec<(usize, usize)>) {
    let mut decoded = String::with_capacity(escaped.len());
    let mut starts = Vec::with_capacity(escaped.len());
    let mut at = 0;
    for (piece, scalar) in RawText::from_escaped(escaped).scalars() {
        starts.push((decoded.len(), at));
        decoded.push(scalar);
        at += piece.len();
    }
    (decoded, starts)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use proptest::prelude::*;

    use super::StopMatcher;

    /// The shown part of a text that is pushed in pieces, and whether a stop sequence ended it.
    fn run<'a>(stops: &[&str], pieces: impl IntoIterator<Item = &'a str>) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut matcher = StopMatcher::new(&stops);
        let mut shown = String::new();
        for piece in pieces {
            match matcher.push(piece) {
                ControlFlow::Continue(text) => shown.push_str(&text),
                ControlFlow::Break(text) => return (shown + &text, true),
            }
        }
        match matcher.flush() {
            ControlFlow::Continue(text) => (shown + &text, false),
            ControlFlow::Break(text) => (shown + &text, true),
        }
    }

    #[test]
    fn the_earliest_match_ends_the_text() {
        assert_eq!(run(&["END", "N"], ["one E", "two EN", "D"]), ("one Etwo ".to_owned(), true));
        assert_eq!(run(&["END", "N"], ["one E", "two EN", "E"]), ("one Etwo E".to_owned(), true));
        assert_eq!(run(&["END", "N"], ["one E", "two EN"]), ("one Etwo E".to_owned(), true));
        assert_eq!(run(&["a", "éaé"], ["éa", "é"]), (String::new(), true));
        assert_eq!(run(&["END", "two"], ["one E", "two EN", "D"]), ("one E".to_owned(), true));
        assert_eq!(run(&["END"], ["EN", "EN", "D!"]), ("EN".to_owned(), true));
        assert_eq!(run(&["END"], ["the EN"]), ("the EN".to_owned(), false));
    }

    #[test]
    fn escapes_are_read_and_kept() {
        assert_eq!(run(&["\n\n"], [r"a\n", r"b\u000a", r"\nc"]), (r"a\nb".to_owned(), true));
        assert_eq!(run(&["😀"], [r"x\u00e9\ud83d", r"\ude00"]), (r"x\u00e9".to_owned(), true));
        assert_eq!(run(&["😀"], [r"x\ud83d", r"\ude01\ud83d"]), (r"x\ud83d\ude01\ud83d".to_owned(), false));
    }

    #[test]
    fn no_more_is_held_back_than_may_become_a_match() {
        let mut matcher = StopMatcher::new(&["abcabd".to_owned()]);
        assert_eq!(matcher.push("xabcab"), ControlFlow::Continue("x".to_owned()));
        assert_eq!(matcher.push("cab"), ControlFlow::Continue("abc".to_owned()));
        assert_eq!(matcher.push("d"), ControlFlow::Break(String::new()));
    }

    #[test]
    fn the_shortest_of_two_at_one_place_is_named_however_the_text_is_cut() {
        for pieces in [&["aENDx"][..], &["aEN", "Dx"], &["aE", "N"]] {
            let mut matcher = StopMatcher::new(&["END", "EN", "x"].map(str::to_owned));
            assert_eq!(matcher.found(), None);
            assert!(pieces.iter().any(|piece| matcher.push(piece).is_break()));
            assert_eq!(matcher.found(), Some("EN"), "{pieces:?}");
        }
    }

    #[test]
    fn a_match_that_waited_for_the_end_is_named() {
        let mut matcher = StopMatcher::new(&["END", "N"].map(str::to_owned));
        assert_eq!(matcher.push("two EN"), ControlFlow::Continue("two ".to_owned()));
        assert_eq!(matcher.flush(), ControlFlow::Break("E".to_owned()));
        assert_eq!(matcher.found(), Some("N"));
    }

    proptest! {
        #[test]
        fn the_cut_is_where_the_whole_text_has_it(
            pieces in prop::collection::vec("[ab😀é]{0,4}", 0..8),
            stops in prop::collection::vec("[ab😀é]{1,3}", 1..4),
        ) {
            let whole = pieces.concat();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let first = stops.iter().filter_map(|stop| whole.find(stop)).min();
            let expected = (whole.chars().as_str().get(..first.unwrap_or(whole.len())).unwrap().to_owned(), first.is_some());
            prop_assert_eq!(run(&stops, pieces.iter().map(String::as_str)), expected);
        }
    }
}
