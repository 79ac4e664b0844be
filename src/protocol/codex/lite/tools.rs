//! The tools of a request in the lite form, and the effect of `tool_choice` on them.
//!
//! Functions and custom tools are put into one namespace. Namespaces of the client and unknown tools stay beside it.
//! The format has no tools that the backend runs itself: the proxy runs some of them, the others are left out. No call
//! can be forced: `tool_choice` can only reduce the list.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::value::RawValue;

use super::ADDITIONAL_TOOLS;
use crate::protocol::codex::proxy_tools::ProxyTool;
use crate::protocol::codex::request::{Item, Request, Tool, ToolChoice};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::to_raw;

/// The official client's name for the namespace of plain tools.
const NAMESPACE: &str = "functions";
/// Tools that the backend runs itself, or that exist in the classic format only.
const HOSTED: [&str; 8] = [
    "web_search",
    "image_generation",
    "tool_search",
    "local_shell",
    "code_interpreter",
    "file_search",
    "computer_use_preview",
    "mcp",
];
const CHOICE_CLAMPED: &str = "clamped:tool_choice";
const CHOICE_IGNORED: &str = "ignored:tool_choice";

/// The tools that a lite request offers.
pub(super) struct LiteTools<'r> {
    /// The name of the added namespace, which differs from the client's namespaces.
    pub(super) namespace: Cow<'static, str>,
    /// Warnings about tools and tool choices that the format can't express.
    pub(super) warnings: Vec<String>,
    /// Tools that the proxy runs, each in a namespace of its own.
    pub(super) proxy_tools: Vec<ProxyTool>,
    /// Functions and custom tools, which the added namespace contains.
    plain: Vec<&'r Tool<'r>>,
    /// Tools that stay beside it.
    others: Vec<&'r Tool<'r>>,
}

#[derive(Serialize)]
struct Namespace<'o> {
    r#type: &'static str,
    name: &'o str,
    description: &'static str,
    tools: &'o [&'o Tool<'o>],
}

/// An entry of the list of tools.
#[derive(Serialize)]
#[serde(untagged)]
enum Offered<'o> {
    Namespace(Namespace<'o>),
    Tool(&'o Tool<'o>),
    Proxy(&'o RawValue),
}

/// A tool of the request.
struct ListedTool<'r> {
    tool: &'r Tool<'r>,
    id: ToolId<'r>,
    /// The proxy tool that replaces this tool.
    replacement: Option<ProxyTool>,
}

/// The identity of a tool, in `tools` and in `tool_choice`.
struct ToolId<'r> {
    kind: Cow<'r, str>,
    name: Option<Cow<'r, str>>,
    /// The tools in a namespace.
    members: Vec<ToolId<'r>>,
}

impl<'r> LiteTools<'r> {
    pub(super) fn of(request: &'r Request<'r>) -> Self {
        let mut warnings = Vec::new();
        let ids: Vec<_> = request.tools.iter().map(|tool| (tool, ToolId::read(tool.json()))).collect();
        let used = used_namespaces(ids.iter().map(|(_, id)| id), &request.input);
        let mut tools = Vec::with_capacity(ids.len());
        for (tool, id) in ids {
            let is_hosted = HOSTED.contains(&&*id.kind);
            let replacement = if is_hosted { ProxyTool::replacing(tool.json()) } else { None };
            let replacement = replacement.filter(|replacement| !used.contains(replacement.tool.namespace()));
            let ignored = match &replacement {
                Some(replacement) => {
                    replacement.ignored.iter().map(|name| format!("ignored:tools.{}.{name}", id.kind)).collect()
                }
                None if is_hosted => vec![format!("ignored:tools.{}", id.kind)],
                None => Vec::new(),
            };
            for warning in ignored {
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
            if !is_hosted || replacement.is_some() {
                tools.push(ListedTool { tool, id, replacement: replacement.map(|replacement| replacement.tool) });
            }
        }
        apply_choice(&request.tool_choice, &mut tools, &mut warnings);
        let (mut plain, mut others, mut proxy_tools) = (Vec::new(), Vec::new(), Vec::<ProxyTool>::new());
        for ListedTool { tool, id, replacement } in tools {
            match replacement {
                // Several declarations of a hosted tool are one: the first counts.
                Some(tool) if proxy_tools.iter().all(|other| other.namespace() != tool.namespace()) => {
                    proxy_tools.push(tool);
                }
                Some(_) => {}
                None if id.is_plain() => plain.push(tool),
                None => others.push(tool),
            }
        }
        Self { namespace: unused_name(&used), warnings, proxy_tools, plain, others }
    }

    /// The JSON array of tools; `None` if there are none.
    pub(super) fn list(&self) -> Option<Box<RawValue>> {
        let namespace = Namespace { r#type: "namespace", name: &self.namespace, description: "", tools: &self.plain };
        let namespace = (!self.plain.is_empty()).then_some(Offered::Namespace(namespace));
        let others = self.others.iter().map(|tool| Offered::Tool(tool));
        let proxy_tools = self.proxy_tools.iter().map(|tool| Offered::Proxy(tool.definition()));
        let tools: Vec<_> = namespace.into_iter().chain(others).chain(proxy_tools).collect();
        (!tools.is_empty()).then(|| to_raw(&tools))
    }
}

impl<'r> ToolId<'r> {
    fn read(json: &'r RawValue) -> Self {
        let members = RawObject::parse(json.get()).unwrap_or_default();
        let kind = members.text("type").unwrap_or_default();
        let tools = if kind == "namespace" { members.list("tools") } else { Vec::new() };
        Self { kind, name: members.text("name"), members: tools.into_iter().map(Self::read).collect() }
    }

    fn is_plain(&self) -> bool {
        matches!(&*self.kind, "function" | "custom")
    }

    /// Whether an entry of `tool_choice` selects this tool or one in it.
    fn is_selected_by(&self, entry: &ToolId<'_>) -> bool {
        let is_same = self.kind == entry.kind && (entry.name.is_none() || self.name == entry.name);
        is_same || self.members.iter().any(|member| member.is_selected_by(entry))
    }
}

/// The names of the client's namespaces, in `tools` and in `input`.
fn used_namespaces<'l, 'r: 'l>(tools: impl Iterator<Item = &'l ToolId<'r>>, input: &[Item<'_>]) -> BTreeSet<String> {
    let named = tools.filter(|id| id.kind == "namespace").filter_map(|id| id.name.as_deref());
    let mut used: BTreeSet<String> = named.map(str::to_owned).collect();
    for item in input {
        if let Item::Raw { kind, json } = item
            && kind == ADDITIONAL_TOOLS
        {
            let members = RawObject::parse(json.get()).unwrap_or_default();
            used.extend(members.list("tools").into_iter().map(ToolId::read).filter_map(|id| {
                let name = id.name.filter(|_| id.kind == "namespace");
                name.map(Cow::into_owned)
            }));
        }
    }
    used
}

/// A name for the added namespace that the client doesn't use.
fn unused_name(used: &BTreeSet<String>) -> Cow<'static, str> {
    let mut name = Cow::Borrowed(NAMESPACE);
    for number in 2.. {
        if !used.contains(&*name) {
            break;
        }
        name = Cow::Owned(format!("{NAMESPACE}_{number}"));
    }
    name
}

/// Removes the tools that `tool_choice` excludes, and warns about what can't be expressed.
fn apply_choice(choice: &ToolChoice<'_>, tools: &mut Vec<ListedTool<'_>>, warnings: &mut Vec<String>) {
    let json = match choice {
        ToolChoice::Auto => return,
        ToolChoice::None => return tools.clear(),
        ToolChoice::Required => return warnings.push(CHOICE_CLAMPED.to_owned()),
        ToolChoice::Raw(json) => json,
    };
    let members = RawObject::parse(json.get()).unwrap_or_default();
    let is_list = members.text("type").as_deref() == Some("allowed_tools");
    let entries =
        if is_list { members.list("tools").into_iter().map(ToolId::read).collect() } else { vec![ToolId::read(json)] };
    let is_selected = |id: &ToolId<'_>| entries.iter().any(|entry| id.is_selected_by(entry));
    if !is_list && !tools.iter().any(|tool| is_selected(&tool.id)) {
        return warnings.push(CHOICE_IGNORED.to_owned());
    }
    tools.retain(|tool| is_selected(&tool.id));
    if !is_list || members.text("mode").as_deref() == Some("required") {
        warnings.push(CHOICE_CLAMPED.to_owned());
    }
}
