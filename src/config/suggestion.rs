//! Suggests the known name that a mistyped one resembles.

/// Returns `; did you mean 'x'?` for the most similar known name, or an empty string if none is similar.
pub(super) fn suggestion<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(name, known).map(|known| format!("; did you mean '{known}'?")).unwrap_or_default()
}

/// Returns the known name with the smallest edit distance, if that is small enough to be a typing error. A dotted name
/// is also found by its last segment.
pub(super) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let distance = |known: &str| {
        let last = known.rsplit('.').next().unwrap_or(known);
        strsim::damerau_levenshtein(name, known).min(strsim::damerau_levenshtein(name, last))
    };
    let (distance, known) =
        known.into_iter().map(|known| (distance(known), known)).min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name.chars().count() / 4).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typing_error_finds_the_name_and_an_unrelated_word_finds_none() {
        let known = ["listen", "upstream.idle_timeout", "upstream.url"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("upstrem.idle_timeuot", known), Some("upstream.idle_timeout"));
        assert_eq!(nearest("idle_timeout", known), Some("upstream.idle_timeout"));
        assert_eq!(nearest("colour", known), None);
    }
}
