//! Reads `tools` and `tool_choice`. They are sent as they are, except that the types of web search become the
//! backend's, and the nested form of Chat Completions, which some clients use here too, becomes flat.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::error::ProxyError;
use crate::protocol::codex::request::{Tool, ToolChoice};
use crate::protocol::json::from_string;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;
use crate::protocol::upstream_input::parameters::is_web_search;
use crate::protocol::upstream_input::parameters::tool_choice_keyword;

const WEB_SEARCH: &str = r#""web_search""#;

/// Reads the tools, and whether one of them is web search.
pub(super) fn read(list: &RawValue) -> Result<(Vec<Tool<'_>>, bool), ProxyError> {
    let list = Field::root("tools", list);
    let mut has_web_search = false;
    let tools = list.list()?;
    let tools = tools.iter().enumerate().map(|(index, tool)| {
        let tool = list.element(index, tool);
        let members = tool.object()?;
        let kind = kind(&tool, &members)?;
        has_web_search |= is_web_search(&kind);
        Ok(Tool::raw(adapted(&tool, &members, &kind, r#","strict":false"#)))
    });
    let tools = tools.collect::<Result<_, ProxyError>>()?;
    Ok((tools, has_web_search))
}

/// Reads `tool_choice`.
pub(super) fn choice(choice: &RawValue) -> Result<ToolChoice<'_>, ProxyError> {
    let choice = Field::root("tool_choice", choice);
    if let Some(keyword) = tool_choice_keyword(&choice)? {
        return Ok(keyword);
    }
    let members = choice.object()?;
    let kind = kind(&choice, &members)?;
    if kind != "allowed_tools" {
        return Ok(ToolChoice::Raw(adapted(&choice, &members, &kind, "")));
    }
    let mut splice = Splice::new(choice.json());
    let allowed = choice.member(&members, "tools");
    let allowed = allowed.as_ref().map(Field::list).transpose()?;
    for tool in allowed.iter().flat_map(|tools| tools.iter()) {
        let field = Field::from_body("tool_choice.tools", tool);
        let Ok(members) = field.object() else { continue };
        if is_web_search(&self::kind(&field, &members)?)
            && let Some(old) = members.get("type")
        {
            splice.replace(old, WEB_SEARCH);
        }
    }
    Ok(ToolChoice::Raw(Cow::Owned(from_string(splice.text().into_owned()))))
}

fn kind<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Cow<'a, str>, ProxyError> {
    tool.optional_text(members, "type").map(Option::unwrap_or_default)
}

/// Converts a tool or a tool choice to the backend's form. `default` is the JSON, after a comma, of a member that a
/// nested function may leave out.
fn adapted<'a>(tool: &Field<'a, '_>, members: &RawObject<'a>, kind: &str, default: &'static str) -> Cow<'a, RawValue> {
    if is_web_search(kind)
        && kind != "web_search"
        && let Some(old) = members.get("type")
    {
        let mut splice = Splice::new(tool.json());
        splice.replace(old, WEB_SEARCH);
        return Cow::Owned(from_string(splice.text().into_owned()));
    }
    let nested = tool.member(members, kind).filter(|_| matches!(kind, "function" | "custom"));
    let inner = nested.as_ref().and_then(|nested| nested.object().ok().map(|inner| (nested.json(), inner)));
    let Some((text, inner)) = inner.filter(|_| members.get("name").is_none()) else {
        return Cow::Borrowed(tool.raw());
    };
    let mut splice = Splice::new(text);
    let default = if kind == "custom" || inner.get("strict").is_some() { "" } else { default };
    splice.add(text, format!(r#""type":"{kind}"{default}"#));
    Cow::Owned(from_string(splice.text().into_owned()))
}
