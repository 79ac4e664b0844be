//! The ignored members of a request, for the response header `x-proxy-warnings`.

/// Maximum number of names per request; a hostile body could contain millions.
const MAX_NAMES: usize = 64;
/// Longer names are truncated. The maximum length of a warning token, which begins with `ignored:`, is the same.
const MAX_CHARACTERS: usize = 100;

/// The names of ignored members, without duplicates.
///
/// Dialects note a member while they read the request, unless it can't change the response. They remove it again if it
/// turns out to be used, such as an enforced token limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignored(Vec<String>);

impl Ignored {
    /// Adds a name.
    pub fn note(&mut self, name: &str) {
        let name: String = name.chars().take(MAX_CHARACTERS).collect();
        if self.0.len() < MAX_NAMES && !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// Keeps only the names for which `is_kept` returns true.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.0.retain(|name| is_kept(name));
    }

    /// The names, in the order in which they were noted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ignored, MAX_CHARACTERS, MAX_NAMES};

    #[test]
    fn names_are_unique_and_bounded() {
        let mut ignored = Ignored::default();
        for number in 0..1000 {
            ignored.note("top_k");
            ignored.note(&format!("{number} {}", "x".repeat(1000)));
        }
        assert_eq!(ignored.names().count(), MAX_NAMES);
        assert_eq!(ignored.names().next(), Some("top_k"));
        assert!(ignored.names().all(|name| name.len() <= MAX_CHARACTERS));
    }
}
