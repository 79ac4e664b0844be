//! The owner's routes (`[[routes]]`): ordered patterns over the names that clients use.

use super::Effort;

/// A pattern, and the model that a name of that form means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The name as a client sends it; `*` stands for any characters.
    pub pattern: String,
    /// The model (with suffixes, if wanted) or alias that it means.
    pub model: String,
    /// The effort to think with, whatever the client asks for.
    pub effort: Option<Effort>,
    /// The requests that it holds for.
    pub when: RouteCondition,
}

/// The requests that a route holds for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum RouteCondition {
    /// All of them.
    #[default]
    Always,
    /// Those that ask for thinking.
    Think,
    /// Those that offer the web search.
    WebSearch,
}

/// What a request is about, as far as routes care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestTraits {
    /// It asks for thinking: in Messages by `thinking`, elsewhere by an effort.
    pub thinks: bool,
    /// It offers the web search.
    pub searches: bool,
}

impl RequestTraits {
    /// The occasion of a request whose thinking is asked for by an effort.
    #[must_use]
    pub fn asking(effort: Option<Effort>, searches: bool) -> Self {
        Self { thinks: effort.is_some_and(|effort| effort != Effort::None), searches }
    }
}

impl Route {
    pub(super) fn matches(&self, name: &str, occasion: RequestTraits) -> bool {
        let is_occasion = match self.when {
            RouteCondition::Always => true,
            RouteCondition::Think => occasion.thinks,
            RouteCondition::WebSearch => occasion.searches,
        };
        is_occasion && fits(&self.pattern, name)
    }
}

/// Whether a name has the form of a pattern. Linear in the name for each `*`.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let mut pieces = rest.split('*');
    let tail = pieces.next_back().unwrap_or_default();
    for piece in pieces {
        let Some((_, after)) = name.split_once(piece) else { return false };
        name = after;
    }
    name.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::{RequestTraits, Route, RouteCondition, fits};

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("claude-*", "claude-opus", true),
            ("claude-*", "claude-", true),
            ("claude-*", "claude", false),
            ("claude-*haiku*", "claude-3-5-haiku-latest", true),
            ("claude-*haiku*", "claude-haiku", true),
            ("claude-*haiku*", "claude-opus", false),
            ("*-mini", "a-mini", true),
            ("*-mini", "a-mini-b", false),
            ("a*a", "a", false),
            ("a*b*b", "ab", false),
            ("a*b*b", "abxb", true),
            ("*", "", true),
            ("**", "x", true),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("é*", "éa", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn an_occasion_has_to_be_there() {
        let route = |when| Route { pattern: "*".to_owned(), model: "m".to_owned(), effort: None, when };
        let thinks = RequestTraits { thinks: true, searches: false };
        assert!(route(RouteCondition::Think).matches("a", thinks));
        assert!(!route(RouteCondition::WebSearch).matches("a", thinks));
        assert!(!route(RouteCondition::Think).matches("a", RequestTraits::default()));
        assert!(route(RouteCondition::Always).matches("a", RequestTraits::default()));
    }
}
