//! Tools that the proxy runs for the model.
//!
//! In the lite form, the backend runs no hosted tools. The proxy replaces such a tool with a function ([`ProxyTool`]),
//! runs its calls through another endpoint of the backend, and sends a further request with their outputs. Each request
//! with its response is a round: [`next_round`] writes the requests after the first one, [`RoundMerger`] joins the
//! responses to one that has the items of the hosted tool.

mod call;
mod citations;
mod image_generation;
pub mod next_round;
mod round_merger;
#[cfg(test)]
mod tests;
mod web_search;

use serde_json::value::RawValue;

use crate::protocol::json::raw_object::RawObject;

pub use call::{CallContext, CallKind, HiddenItems, OutputPlace, ProxyCall, ToolOutcome, ToolRequest};
pub use image_generation::GeneratedImage;
use image_generation::ImageSettings;
pub use round_merger::{Merged, RoundMerger};
use web_search::SearchSettings;

/// A tool that the proxy runs.
#[derive(Clone, Debug)]
pub enum ProxyTool {
    /// `web.run`: searches the web and opens pages.
    WebSearch(SearchSettings),
    /// `image_gen.imagegen`: generates images.
    ImageGeneration(ImageSettings),
}

/// The proxy tool that replaces a hosted tool.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) tool: ProxyTool,
    /// Members of the hosted tool that the proxy doesn't support.
    pub(super) ignored: Vec<String>,
}

impl ProxyTool {
    /// Returns the tool that replaces a hosted tool of the client; `None` if the proxy has none.
    pub(super) fn replacing(hosted: &RawValue) -> Option<Replacement> {
        let members = RawObject::parse(hosted.get()).ok()?;
        let (tool, known): (_, &[&str]) = match &*members.text("type")? {
            "web_search" => (Self::WebSearch(SearchSettings::read(&members)), &web_search::SETTINGS),
            "image_generation" => (Self::ImageGeneration(ImageSettings::read(&members)), &image_generation::SETTINGS),
            _ => return None,
        };
        let is_ignored = |name: &str| name != "type" && !known.contains(&name);
        let sent = members.members().iter().filter(|(name, value)| is_ignored(name) && !value.is_null());
        Some(Replacement { tool, ignored: sent.map(|(name, _)| name.to_string()).collect() })
    }

    /// The namespace that the model calls.
    #[must_use]
    pub fn namespace(&self) -> &'static str {
        match self {
            Self::WebSearch(_) => web_search::NAMESPACE,
            Self::ImageGeneration(_) => image_generation::NAMESPACE,
        }
    }

    /// The only function in the namespace.
    fn function(&self) -> &'static str {
        match self {
            Self::WebSearch(_) => web_search::FUNCTION,
            Self::ImageGeneration(_) => image_generation::FUNCTION,
        }
    }

    /// The tool as offered to the model: a namespace with one function.
    pub(super) fn definition(&self) -> &'static RawValue {
        match self {
            Self::WebSearch(_) => web_search::definition(),
            Self::ImageGeneration(_) => image_generation::definition(),
        }
    }

    /// The item type of the hosted tool, and the last part of the type of the event that reports a running call.
    fn item_type(&self) -> (&'static str, &'static str) {
        match self {
            Self::WebSearch(_) => ("web_search_call", "searching"),
            Self::ImageGeneration(_) => ("image_generation_call", "generating"),
        }
    }

    /// Whether an item calls any function in the namespace, even an unknown one: the client has no tools in it.
    fn is_called_by(&self, item: &RawObject<'_>) -> bool {
        item.text("type").is_some_and(|kind| kind == "function_call")
            && item.text("namespace").is_some_and(|namespace| namespace == self.namespace())
    }
}
