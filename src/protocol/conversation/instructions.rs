//! The system prompt: texts that open a conversation become `instructions`.

use std::borrow::Cow;

const BLANK_LINE: &str = "\n\n";

/// Joins system texts by a blank line; those with nothing but white space are passed over. `None`
/// where nothing is left. A single text is not copied.
#[must_use]
pub fn join<'a>(texts: impl IntoIterator<Item = Cow<'a, str>>) -> Option<Cow<'a, str>> {
    let mut texts = texts.into_iter().filter(|text| !text.trim().is_empty());
    let first = texts.next()?;
    Some(texts.fold(first, |mut joined, text| {
        let whole = joined.to_mut();
        whole.push_str(BLANK_LINE);
        whole.push_str(&text);
        joined
    }))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::join;

    #[test]
    fn texts_are_joined_by_a_blank_line_and_empty_ones_skipped() {
        let texts = ["a", " \n", "b", ""].map(Cow::Borrowed);
        assert_eq!(join(texts).as_deref(), Some("a\n\nb"));
        assert!(matches!(join([Cow::Borrowed("only")]), Some(Cow::Borrowed("only"))));
        assert_eq!(join(["", "\t"].map(Cow::Borrowed)), None);
    }
}
