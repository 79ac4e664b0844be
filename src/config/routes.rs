//! Model routes (`[[routes]]`): an ordered list of patterns for requested models, each with the model that is used
//! instead.
//!
//! Only parses them; `protocol::models` applies the first route that matches. All errors of all routes in the config
//! file are reported at once, each with the index of its route in the list, starting at 0.

use std::borrow::Cow;

use toml::de::{DeTable, DeValue};

use super::list::quoted;
use super::suggestion::suggestion;
use super::value::{Setting, invalid_value, wrong_type};
use crate::protocol::models::Route;

/// The members of a `[[routes]]` table.
const MEMBERS: [&str; 4] = ["match", "model", "effort", "when"];

/// The routes of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Routes(pub(super) Vec<Route>);

impl Setting for Routes {
    fn expected() -> Cow<'static, str> {
        "[[routes]] with match, model, effort and when (in a variable: pattern=model, comma separated)".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let read = |pair: &str| {
            let (pattern, model) = pair.split_once('=').map(|(pattern, model)| (pattern.trim(), model.trim()))?;
            let is_complete = !pattern.is_empty() && !model.is_empty();
            is_complete.then(|| route(pattern, model))
        };
        pairs.map(|pair| read(pair).ok_or_else(|| invalid_value::<Self>(pair))).collect::<Result<_, _>>().map(Self)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let tables = value.as_array().ok_or_else(|| wrong_type::<Self>(value))?;
        let (mut routes, mut errors) = (Vec::new(), Vec::new());
        for (index, table) in tables.iter().enumerate() {
            match table.get_ref().as_table().ok_or_else(|| vec!["must be a table".to_owned()]).and_then(read) {
                Ok(route) => routes.push(route),
                Err(messages) => {
                    errors.extend(messages.iter().map(|message| format!("routes[{index}]: {message}")));
                }
            }
        }
        if errors.is_empty() { Ok(Self(routes)) } else { Err(errors.join("; ")) }
    }

    fn show(&self) -> String {
        let routes: Vec<_> = self.0.iter().map(show).collect();
        format!("[{}]", routes.join(", "))
    }
}

fn route(pattern: &str, model: &str) -> Route {
    Route { pattern: pattern.to_owned(), model: model.to_owned(), ..Default::default() }
}

/// Parses one `[[routes]]` table, or returns all of its errors.
fn read(table: &DeTable<'_>) -> Result<Route, Vec<String>> {
    let mut errors = Vec::new();
    for (member, value) in table {
        let member = member.get_ref().as_ref();
        if !MEMBERS.contains(&member) {
            errors.push(format!("unknown member '{member}'{}", suggestion(member, MEMBERS)));
        } else if value.get_ref().as_str().is_none() {
            errors.push(format!("{member} must be a string"));
        }
    }
    let text = |member: &str| table.get(member).and_then(|value| value.get_ref().as_str()).map(str::trim);
    for member in ["match", "model"] {
        let is_missing = table.get(member).is_none() || text(member) == Some("");
        errors.extend(is_missing.then(|| format!("{member} is missing")));
    }
    let mut read = route(text("match").unwrap_or_default(), text("model").unwrap_or_default());
    read.effort = choice("effort", text("effort"), &mut errors);
    read.when = choice("when", text("when"), &mut errors).unwrap_or_default();
    if errors.is_empty() { Ok(read) } else { Err(errors) }
}

/// Parses an optional member that is a named choice.
fn choice<T: Setting>(member: &str, text: Option<&str>, errors: &mut Vec<String>) -> Option<T> {
    T::from_text(text?).map_err(|message| errors.push(format!("{member}: {message}"))).ok()
}

/// Formats a route as TOML.
fn show(route: &Route) -> String {
    let mut members = vec![format!("match = {}", quoted(&route.pattern)), format!("model = {}", quoted(&route.model))];
    members.extend(route.effort.map(|effort| format!("effort = {}", effort.show())));
    let when = route.when.show();
    members.extend((when != quoted("always")).then(|| format!("when = {when}")));
    format!("{{ {} }}", members.join(", "))
}

#[cfg(test)]
mod tests {
    use super::{Routes, Setting};
    use crate::protocol::models::{Effort, Route, RouteCondition};

    fn from_file(text: &str) -> Result<Routes, String> {
        let table = toml::de::DeTable::parse(text).unwrap();
        Routes::from_toml(table.get_ref().get("routes").unwrap().get_ref())
    }

    fn route(pattern: &str, model: &str, effort: Option<Effort>, when: RouteCondition) -> Route {
        Route { pattern: pattern.to_owned(), model: model.to_owned(), effort, when }
    }

    #[test]
    fn routes_keep_their_order_and_all_their_members() {
        let Routes(routes) = from_file(
            "[[routes]]\nmatch = 'claude-*'\nmodel = 'small'\nwhen = 'web_search'\n\
             [[routes]]\nmatch = 'claude-*'\nmodel = 'main'\neffort = 'ultra'\nwhen = 'think'\n\
             [[routes]]\nmatch = '*'\nmodel = 'main-fast'",
        )
        .unwrap();
        let expected = [
            route("claude-*", "small", None, RouteCondition::WebSearch),
            route("claude-*", "main", Some(Effort::Xhigh), RouteCondition::Think),
            route("*", "main-fast", None, RouteCondition::Always),
        ];
        assert_eq!(routes, expected);
    }

    #[test]
    fn shown_routes_parse_to_the_same_routes() {
        let text =
            "routes = [{ match = 'a*', model = 'b', effort = 'high', when = 'think' }, { match = \"'\", model = 'c' }]";
        let routes = from_file(text).unwrap();
        assert_eq!(from_file(&format!("routes = {}", routes.show())).unwrap(), routes);
    }

    #[test]
    fn a_variable_holds_patterns_and_models() {
        let Routes(routes) = Routes::from_text("*haiku* = gpt-6-mini, claude-*=gpt-6-high,").unwrap();
        let expected = [
            route("*haiku*", "gpt-6-mini", None, RouteCondition::Always),
            route("claude-*", "gpt-6-high", None, RouteCondition::Always),
        ];
        assert_eq!(routes, expected);
        assert!(Routes::from_text("claude-*").is_err() && Routes::from_text("=x").is_err());
    }

    #[test]
    fn all_errors_are_reported_with_the_index_of_their_route() {
        let message = from_file(
            "[[routes]]\nmodel = 'm'\n[[routes]]\nmatch = 'a'\nmodel = ' '\neffort = 'loud'\nwhen = 'later'\n\
             [[routes]]\nmatch = 7\nmodle = 'm'",
        )
        .unwrap_err();
        for part in [
            "routes[0]: match is missing",
            "routes[1]: model is missing",
            "routes[1]: effort: must be one of none, minimal, low, medium, high, xhigh, max, not 'loud'",
            "routes[1]: when: must be one of always, think, web_search, not 'later'",
            "routes[2]: match must be a string",
            "routes[2]: unknown member 'modle'; did you mean 'model'?",
            "routes[2]: model is missing",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(message.split("; routes").count(), 7, "{message}");
        assert!(from_file("routes = ['a']").unwrap_err().contains("routes[0]: must be a table"));
    }
}
