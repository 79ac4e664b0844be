//! Tools that the proxy runs for the model.
//!
//! The lite form has no tools that the backend runs. Instead of dropping such a tool of the client, the proxy offers
//! the model a function ([`ProxyTool`]), runs its calls through another endpoint of the backend, and continues the
//! response with their outputs. The client sees one response of the Responses API with the items of the hosted tool:
//! [`RoundMerger`] joins the rounds, [`next_round`] writes the requests after the first one.

mod call;
mod citations;
pub mod next_round;
mod round_merger;
#[cfg(test)]
mod tests;
mod usage_sum;
mod web_search;

use serde_json::value::RawValue;

use crate::protocol::json::raw_object::RawObject;

pub use call::{HiddenItems, ProxyCall, SideRequest, ToolOutcome};
pub use round_merger::{Merged, RoundMerger};
use web_search::SearchSettings;

/// A tool that the proxy runs.
#[derive(Clone, Debug)]
pub enum ProxyTool {
    /// `web.run`: searches the web and opens pages.
    WebSearch(SearchSettings),
}

impl ProxyTool {
    /// Returns the tool that replaces a hosted tool of the client; `None` if the proxy has none.
    pub(super) fn replacing(hosted: &RawValue) -> Option<Self> {
        let members = RawObject::parse(hosted.get()).ok()?;
        match &*members.text("type")? {
            "web_search" => Some(Self::WebSearch(SearchSettings::read(&members))),
            _ => None,
        }
    }

    /// The namespace that the model calls.
    #[must_use]
    pub fn namespace(&self) -> &'static str {
        match self {
            Self::WebSearch(_) => web_search::NAMESPACE,
        }
    }

    /// The only function in the namespace.
    fn function(&self) -> &'static str {
        match self {
            Self::WebSearch(_) => web_search::FUNCTION,
        }
    }

    /// The tool as offered to the model: a namespace with one function.
    pub(super) fn definition(&self) -> &'static RawValue {
        match self {
            Self::WebSearch(_) => web_search::definition(),
        }
    }

    fn is_called_by(&self, item: &RawObject<'_>) -> bool {
        item.text("type").is_some_and(|kind| kind == "function_call")
            && item.text("namespace").is_some_and(|namespace| namespace == self.namespace())
            && item.text("name").is_some_and(|name| name == self.function())
    }
}
