//! Collects the tools of a request in APIs that have functions and web search only.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::names;
use crate::protocol::codex::request::Tool;

/// A declared tool in the backend's form.
#[derive(Clone, Debug)]
pub enum DeclaredTool<'a> {
    /// A function, with the client's name.
    Function(Cow<'a, str>, Tool<'a>),
    /// Web search.
    WebSearch(Tool<'a>),
}

/// All tools of a request.
#[derive(Clone, Debug, Default)]
pub struct ToolSet<'a> {
    /// The tools in the backend's form.
    pub upstream: Vec<Tool<'a>>,
    /// The client's names by the backend's, where they differ.
    pub renamed: BTreeMap<String, String>,
    /// Whether one of the tools is web search.
    pub has_web_search: bool,
    /// The client's names of the functions.
    pub functions: BTreeSet<Cow<'a, str>>,
}

impl<'a> ToolSet<'a> {
    /// Collects the declared tools. Several web searches become one: the first declaration counts.
    #[must_use]
    pub fn new(declared: Vec<DeclaredTool<'a>>) -> Self {
        let mut tools = Self::default();
        for tool in declared {
            match tool {
                DeclaredTool::Function(name, tool) => {
                    names::note_renamed(&name, &mut tools.renamed);
                    tools.upstream.push(tool);
                    tools.functions.insert(name);
                }
                DeclaredTool::WebSearch(tool) if !tools.has_web_search => {
                    tools.has_web_search = true;
                    tools.upstream.push(tool);
                }
                DeclaredTool::WebSearch(_) => {}
            }
        }
        tools
    }
}
