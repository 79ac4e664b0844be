//! The routes of model names (`[[routes]]`): ordered patterns, each with the model that it means.
//!
//! Order is all that decides between two routes, so that they are a list and no table. Every fault
//! of every route is told at once, each with the route's place in the list, from 0.

use toml::de::{DeTable, DeValue};

use super::list::quoted;
use super::nearest::suggestion;
use super::value::{Setting, not_expected, wrong_type};
use crate::protocol::models::Route;

const MEMBERS: [&str; 4] = ["match", "model", "effort", "when"];

/// The routes of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Routes(pub(super) Vec<Route>);

impl Setting for Routes {
    const EXPECTED: &'static str =
        "[[routes]] with match, model, effort and when (in a variable: pattern=model, comma separated)";

    fn from_text(text: &str) -> Result<Self, String> {
        let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let read = |pair: &str| {
            let (pattern, model) = pair.split_once('=').map(|(pattern, model)| (pattern.trim(), model.trim()))?;
            let is_whole = !pattern.is_empty() && !model.is_empty();
            is_whole.then(|| route(pattern, model))
        };
        pairs.map(|pair| read(pair).ok_or_else(|| not_expected::<Self>(pair))).collect::<Result<_, _>>().map(Self)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let tables = value.as_array().ok_or_else(|| wrong_type::<Self>(value))?;
        let (mut routes, mut faults) = (Vec::new(), Vec::new());
        for (index, table) in tables.iter().enumerate() {
            match table.get_ref().as_table().ok_or_else(|| vec!["a table is expected".to_owned()]).and_then(read) {
                Ok(route) => routes.push(route),
                Err(complaints) => {
                    faults.extend(complaints.iter().map(|complaint| format!("routes[{index}]: {complaint}")));
                }
            }
        }
        if faults.is_empty() { Ok(Self(routes)) } else { Err(faults.join("; ")) }
    }

    fn show(&self) -> String {
        let routes: Vec<_> = self.0.iter().map(show).collect();
        format!("[{}]", routes.join(", "))
    }
}

fn route(pattern: &str, model: &str) -> Route {
    Route { pattern: pattern.to_owned(), model: model.to_owned(), ..Default::default() }
}

/// Reads one `[[routes]]`; everything that is wrong with it at once.
fn read(table: &DeTable<'_>) -> Result<Route, Vec<String>> {
    let mut faults = Vec::new();
    for (member, value) in table {
        let member = member.get_ref().as_ref();
        if !MEMBERS.contains(&member) {
            faults.push(format!("unknown member '{member}'{}", suggestion(member, MEMBERS)));
        } else if value.get_ref().as_str().is_none() {
            faults.push(format!("{member} has to be a text"));
        }
    }
    let text = |member: &str| table.get(member).and_then(|value| value.get_ref().as_str()).map(str::trim);
    for member in ["match", "model"] {
        let is_missing = table.get(member).is_none() || text(member) == Some("");
        faults.extend(is_missing.then(|| format!("{member} is missing")));
    }
    let mut read = route(text("match").unwrap_or_default(), text("model").unwrap_or_default());
    read.effort = word("effort", text("effort"), &mut faults);
    read.when = word("when", text("when"), &mut faults).unwrap_or_default();
    if faults.is_empty() { Ok(read) } else { Err(faults) }
}

/// Reads a member that is one of a few words.
fn word<T: Setting>(member: &str, text: Option<&str>, faults: &mut Vec<String>) -> Option<T> {
    T::from_text(text?).map_err(|complaint| faults.push(format!("{member}: {complaint}"))).ok()
}

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
    fn what_is_shown_reads_back() {
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
    fn every_fault_of_every_route_is_told_with_its_place() {
        let complaint = from_file(
            "[[routes]]\nmodel = 'm'\n[[routes]]\nmatch = 'a'\nmodel = ' '\neffort = 'loud'\nwhen = 'later'\n\
             [[routes]]\nmatch = 7\nmodle = 'm'",
        )
        .unwrap_err();
        for part in [
            "routes[0]: match is missing",
            "routes[1]: model is missing",
            "routes[1]: effort: one of none, minimal, low, medium, high, xhigh, max is expected, not 'loud'",
            "routes[1]: when: one of always, think, web_search is expected, not 'later'",
            "routes[2]: match has to be a text",
            "routes[2]: unknown member 'modle'; did you mean 'model'?",
            "routes[2]: model is missing",
        ] {
            assert!(complaint.contains(part), "{part}: {complaint}");
        }
        assert_eq!(complaint.split("; routes").count(), 7, "{complaint}");
        assert!(from_file("routes = ['a']").unwrap_err().contains("routes[0]: a table"));
    }
}
