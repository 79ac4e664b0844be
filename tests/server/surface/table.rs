//! Reads the tables of `docs/surface.md`.

use serde_json::{Map, Value, json};

/// An endpoint of an official API, or of this program.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Empty: every method.
    pub(crate) methods: Vec<String>,
    /// With parameters in braces. Ends in `/…` if it includes everything below it.
    pub(crate) path: String,
    pub(crate) outcome: String,
}

/// The parameters of an endpoint.
#[derive(Debug)]
pub(crate) struct Section {
    /// Such as `POST /v1/messages`.
    pub(crate) endpoint: String,
    /// The request that each parameter is added to.
    pub(crate) request: Value,
    pub(crate) rows: Vec<Parameter>,
}

/// A parameter with a typical value.
#[derive(Debug)]
pub(crate) struct Parameter {
    /// With a dot for a member of an object.
    pub(crate) name: String,
    pub(crate) value: Value,
    /// Members that the request needs besides.
    pub(crate) others: Map<String, Value>,
    pub(crate) outcome: String,
}

/// The page.
pub(crate) const PAGE: &str = include_str!("../../../docs/surface.md");

impl Section {
    /// The method and the path.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.endpoint.split_once(' ').unwrap()
    }
}

/// The rows of the tables with two columns.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    let rows = PAGE.lines().filter_map(cells).filter(|cells| cells.len() == 2);
    rows.filter(|cells| cells[0].starts_with('`'))
        .flat_map(|cells| {
            let outcome = cells[1].clone();
            code_spans(&cells[0]).into_iter().map(move |name| {
                let (methods, path) = name.rsplit_once(' ').unwrap_or(("", &name));
                let methods = methods.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
                Endpoint { methods, path: path.to_owned(), outcome: outcome.clone() }
            })
        })
        .collect()
}

/// The start of the sentence that names the request to add parameters to.
const REQUEST: &str = "The examples are added to `";

/// The tables with three columns, each below the heading that names its endpoints.
pub(crate) fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in PAGE.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            let named = code_spans(heading).into_iter();
            sections.extend(named.map(|endpoint| Section { endpoint, request: json!({}), rows: Vec::new() }));
        } else if line.starts_with(REQUEST) {
            sections.last_mut().unwrap().request = parsed(&code_spans(line)[0]);
        } else if let Some([name, value, outcome]) = cells(line).as_deref()
            && name.starts_with('`')
        {
            sections.last_mut().unwrap().rows.extend(parameters(name, value, outcome));
        }
    }
    sections
}

fn parameters(names: &str, value: &str, outcome: &str) -> Vec<Parameter> {
    let values = code_spans(value);
    let others = values.get(1).map(|others| parsed(others).as_object().unwrap().clone()).unwrap_or_default();
    let parameter = |name: String| Parameter {
        name,
        value: parsed(values.first().unwrap_or_else(|| panic!("{names} has no value"))),
        others: others.clone(),
        outcome: outcome.to_owned(),
    };
    code_spans(names).into_iter().map(parameter).collect()
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The cells of a table row.
fn cells(line: &str) -> Option<Vec<String>> {
    let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
    Some(row.split(" | ").map(str::to_owned).collect())
}

/// The texts in backquotes.
pub(crate) fn code_spans(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
