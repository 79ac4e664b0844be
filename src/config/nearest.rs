//! The known name that a mistyped one probably meant.

/// `; did you mean 'x'?` for the nearest of the known names, or nothing when none is near.
pub(super) fn suggestion<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(name, known).map(|known| format!("; did you mean '{known}'?")).unwrap_or_default()
}

/// The known name with the fewest typing slips, where the last part of a path may stand for the whole.
pub(super) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let slips = |known: &str| {
        let last = known.rsplit('.').next().unwrap_or(known);
        strsim::damerau_levenshtein(name, known).min(strsim::damerau_levenshtein(name, last))
    };
    let (count, known) = known.into_iter().map(|known| (slips(known), known)).min_by_key(|(count, _)| *count)?;
    (count <= 1 + name.chars().count() / 4).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_the_name_and_nonsense_finds_none() {
        let known = ["listen", "upstream.idle_timeout", "upstream.url"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("upstrem.idle_timeuot", known), Some("upstream.idle_timeout"));
        assert_eq!(nearest("idle_timeout", known), Some("upstream.idle_timeout"));
        assert_eq!(nearest("colour", known), None);
    }
}
