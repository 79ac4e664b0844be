//! The tools of a request in the lite form, and what becomes of the choice among them.
//!
//! Plain tools stand in one namespace of ours, those that the client put into namespaces beside it,
//! as does whatever we don't know. Tools that the backend runs itself don't exist here, and no call
//! can be forced: a choice can only narrow what is on offer.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{list, text};
use crate::protocol::codex::request::{Item, Request, Tool, ToolChoice};
use crate::protocol::json::raw_object::RawObject;

/// What the official client calls the namespace of its plain tools.
const WRAPPER: &str = "functions";
/// Tools that the backend runs itself, or that belong to the classic form.
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

/// What is on offer.
pub(super) struct Offer<'r> {
    /// The name of our namespace: one that the client does not use.
    pub(super) wrapper: Cow<'static, str>,
    /// What can't be said, as warnings.
    pub(super) losses: Vec<String>,
    plain: Vec<&'r Tool<'r>>,
    beside: Vec<&'r Tool<'r>>,
}

#[derive(Serialize)]
struct Namespace<'o> {
    r#type: &'static str,
    name: &'o str,
    description: &'static str,
    tools: &'o [&'o Tool<'o>],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Offered<'o> {
    Wrapped(Namespace<'o>),
    Own(&'o Tool<'o>),
}

/// A tool, or the mention of one in a choice.
struct Label<'r> {
    kind: Cow<'r, str>,
    name: Option<Cow<'r, str>>,
    /// The tools inside a namespace.
    inner: Vec<Label<'r>>,
}

impl<'r> Offer<'r> {
    pub(super) fn of(request: &'r Request<'r>) -> Self {
        let mut losses = Vec::new();
        let mut tools: Vec<_> = request.tools.iter().map(|tool| (tool, Label::of(tool))).collect();
        let wrapper = free_name(tools.iter().map(|(_, label)| label), &request.input);
        tools.retain(|(_, label)| {
            let is_hosted = HOSTED.contains(&&*label.kind);
            if is_hosted {
                let loss = format!("ignored:tools.{}", label.kind);
                if !losses.contains(&loss) {
                    losses.push(loss);
                }
            }
            !is_hosted
        });
        narrow(&request.tool_choice, &mut tools, &mut losses);
        let (plain, beside): (Vec<_>, Vec<_>) = tools.into_iter().partition(|(_, label)| label.is_plain());
        let bare = |tools: Vec<(&'r Tool<'r>, Label<'r>)>| tools.into_iter().map(|(tool, _)| tool).collect();
        Self { wrapper, losses, plain: bare(plain), beside: bare(beside) }
    }

    /// The list of tools; `None` where there are none.
    pub(super) fn list(&self) -> Option<Box<RawValue>> {
        let wrapped = Namespace { r#type: "namespace", name: &self.wrapper, description: "", tools: &self.plain };
        let wrapped = (!self.plain.is_empty()).then_some(Offered::Wrapped(wrapped));
        let own = self.beside.iter().map(|tool| Offered::Own(tool));
        let tools: Vec<_> = wrapped.into_iter().chain(own).collect();
        (!tools.is_empty()).then(|| to_raw_value(&tools).expect("strings and raw JSON always serialise"))
    }
}

impl<'r> Label<'r> {
    fn of(tool: &'r Tool<'r>) -> Self {
        match tool {
            Tool::Function { name, .. } => {
                Self { kind: Cow::Borrowed("function"), name: Some(Cow::Borrowed(name)), inner: Vec::new() }
            }
            Tool::Raw(json) => Self::read(json),
        }
    }

    fn read(json: &'r RawValue) -> Self {
        let members = RawObject::parse(json.get()).unwrap_or_default();
        let kind = text(&members, "type").unwrap_or_default();
        let inner = if kind == "namespace" { list(&members, "tools") } else { Vec::new() };
        Self { kind, name: text(&members, "name"), inner: inner.into_iter().map(Self::read).collect() }
    }

    fn is_plain(&self) -> bool {
        matches!(&*self.kind, "function" | "custom")
    }

    /// Whether a mention is one of this tool, or of one inside it.
    fn is_meant_by(&self, mention: &Label<'_>) -> bool {
        let is_same = self.kind == mention.kind && (mention.name.is_none() || self.name == mention.name);
        is_same || self.inner.iter().any(|inner| inner.is_meant_by(mention))
    }
}

/// A name for our namespace that no namespace of the client's has.
fn free_name<'l, 'r: 'l>(tools: impl Iterator<Item = &'l Label<'r>>, input: &[Item<'_>]) -> Cow<'static, str> {
    let named = tools.filter(|label| label.kind == "namespace").filter_map(|label| label.name.as_deref());
    let mut taken: BTreeSet<String> = named.map(str::to_owned).collect();
    for item in input {
        if let Item::Raw { kind, json } = item
            && kind == "additional_tools"
        {
            let members = RawObject::parse(json.get()).unwrap_or_default();
            taken.extend(list(&members, "tools").into_iter().map(Label::read).filter_map(|label| {
                let name = label.name.filter(|_| label.kind == "namespace");
                name.map(Cow::into_owned)
            }));
        }
    }
    let mut name = Cow::Borrowed(WRAPPER);
    for number in 2.. {
        if !taken.contains(&*name) {
            break;
        }
        name = Cow::Owned(format!("{WRAPPER}_{number}"));
    }
    name
}

/// Leaves what may be called, as far as that can be said.
fn narrow(choice: &ToolChoice<'_>, tools: &mut Vec<(&Tool<'_>, Label<'_>)>, losses: &mut Vec<String>) {
    let json = match choice {
        ToolChoice::Auto => return,
        ToolChoice::None => return tools.clear(),
        ToolChoice::Required => return losses.push(CHOICE_CLAMPED.to_owned()),
        ToolChoice::Raw(json) => json,
    };
    let members = RawObject::parse(json.get()).unwrap_or_default();
    let is_list = text(&members, "type").as_deref() == Some("allowed_tools");
    let mentions =
        if is_list { list(&members, "tools").into_iter().map(Label::read).collect() } else { vec![Label::read(json)] };
    let is_meant = |label: &Label<'_>| mentions.iter().any(|mention| label.is_meant_by(mention));
    if !is_list && !tools.iter().any(|(_, label)| is_meant(label)) {
        return losses.push(CHOICE_IGNORED.to_owned());
    }
    tools.retain(|(_, label)| is_meant(label));
    if !is_list || text(&members, "mode").as_deref() == Some("required") {
        losses.push(CHOICE_CLAMPED.to_owned());
    }
}
