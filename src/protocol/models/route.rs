//! Routes (`[[routes]]`): ordered patterns over clients' model names.

use super::Effort;

/// A pattern and the model that replaces matching names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The pattern; `*` matches any characters.
    pub pattern: String,
    /// The model, alias or name with suffixes that replaces the name.
    pub model: String,
    /// The reasoning effort, which takes precedence over the client's; `None` leaves that as it is.
    pub effort: Option<Effort>,
    /// The requests that the route applies to.
    pub when: RouteCondition,
}

/// The requests that a route applies to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum RouteCondition {
    /// All requests.
    #[default]
    Always,
    /// Requests with thinking ([`RequestTraits::thinks`]).
    Think,
    /// Requests with the web search tool.
    WebSearch,
}

/// The properties of a request that routes and efforts depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestTraits {
    /// Whether it requests thinking: in Messages with `thinking`, elsewhere with an effort.
    pub thinks: bool,
    /// Whether it has the web search tool.
    pub searches: bool,
}

impl RequestTraits {
    /// The properties of a request in an API where an effort other than `none` requests thinking.
    #[must_use]
    pub fn with_effort(effort: Option<Effort>, searches: bool) -> Self {
        Self { thinks: effort.is_some_and(|effort| effort != Effort::None), searches }
    }
}

impl Route {
    pub(super) fn matches(&self, name: &str, traits: RequestTraits) -> bool {
        let applies = match self.when {
            RouteCondition::Always => true,
            RouteCondition::Think => traits.thinks,
            RouteCondition::WebSearch => traits.searches,
        };
        applies && matches_pattern(&self.pattern, name)
    }
}

/// Whether a name matches a pattern. Takes time linear in the name for each `*`.
fn matches_pattern(pattern: &str, name: &str) -> bool {
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
    use super::{RequestTraits, Route, RouteCondition, matches_pattern};

    #[test]
    fn a_star_matches_any_characters() {
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
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_route_applies_only_if_its_condition_holds() {
        let route = |when| Route { pattern: "*".to_owned(), model: "m".to_owned(), effort: None, when };
        let thinks = RequestTraits { thinks: true, searches: false };
        assert!(route(RouteCondition::Think).matches("a", thinks));
        assert!(!route(RouteCondition::WebSearch).matches("a", thinks));
        assert!(!route(RouteCondition::Think).matches("a", RequestTraits::default()));
        assert!(route(RouteCondition::Always).matches("a", RequestTraits::default()));
    }
}
