//! The members of a request that are ignored and could have mattered, for the header `x-proxy-warnings`.

/// The names that are kept: they go into a header, and a hostile body can contain millions.
const MAX_NAMES: usize = 64;
/// The longest name that is kept whole; a warning is not longer.
const MAX_CHARACTERS: usize = 100;

/// Names of ignored members: each once, in the order of the request, and a bounded number.
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

    /// Removes the names for which this is false.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.0.retain(|name| is_kept(name));
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ignored, MAX_CHARACTERS, MAX_NAMES};

    #[test]
    fn names_are_kept_once_and_bounded() {
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
