//! Writes the request body of the next round: the previous body, with the round's items and the outputs of its calls
//! added to the input. Unless tools are withdrawn, the bytes before them stay the same, for the prompt cache.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::ProxyTool;
use crate::protocol::codex::lite;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

/// Returns the body with items added at the end of its input, and without the tools in `withdrawn`. `None` unless the
/// body is one that [`Request::encode`](crate::protocol::codex::Request::encode) wrote.
#[must_use]
pub fn continued(body: &[u8], added: &[Box<RawValue>], withdrawn: &[ProxyTool]) -> Option<Bytes> {
    let text = std::str::from_utf8(body).ok()?;
    let members = RawObject::parse(text).ok()?;
    let input = members.get("input").filter(|input| input.get().starts_with('['))?;
    let mut splice = Splice::new(text);
    let added: Vec<&str> = added.iter().map(|item| item.get()).collect();
    let items = if withdrawn.is_empty() { Vec::new() } else { members.list("input") };
    match items.first().and_then(|tools| without(tools, withdrawn, &members)) {
        Some(tools) => {
            let first = (!tools.is_empty()).then_some(tools.as_str());
            let kept = items.iter().skip(1).map(|item| item.get());
            let all: Vec<&str> = first.into_iter().chain(kept).chain(added).collect();
            splice.replace(input, format!("[{}]", all.join(",")));
        }
        None => splice.append(input.get(), added.join(",")),
    }
    Some(Bytes::from(splice.text().into_owned()))
}

/// The `additional_tools` item without these tools; empty if it has no others. `None` if the item is another one.
fn without(item: &RawValue, withdrawn: &[ProxyTool], body: &RawObject<'_>) -> Option<String> {
    let members = RawObject::parse(item.get()).ok()?;
    members.text("type").filter(|kind| kind == lite::ADDITIONAL_TOOLS)?;
    let is_withdrawn = |tool: &&RawValue| {
        let tool = RawObject::parse(tool.get()).unwrap_or_default();
        let name = tool.text("name").filter(|_| tool.text("type").is_some_and(|kind| kind == "namespace"));
        name.is_some_and(|name| withdrawn.iter().any(|tool| tool.namespace() == name))
    };
    let kept: Vec<&str> =
        members.list("tools").into_iter().filter(|tool| !is_withdrawn(tool)).map(RawValue::get).collect();
    if kept.is_empty() {
        return Some(String::new());
    }
    let tools = format!("[{}]", kept.join(","));
    let mut splice = Splice::new(item.get());
    if let Some(id) = members.get("id") {
        let key = body.text("prompt_cache_key").unwrap_or_default();
        splice.replace(id, format!("\"{}\"", lite::tools_id(&key, &tools)));
    }
    splice.replace(members.get("tools")?, tools);
    Some(splice.text().into_owned())
}
