//! Converts image, document and search result blocks to the backend's parts.
//!
//! The proxy fetches nothing: URLs are forwarded, and a file must be sent with its content, since the backend has no
//! access to uploaded files.

use std::borrow::Cow;

use super::content::texts;
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::Part;
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::base64::without_white_space;

const DEFAULT_FILE_NAME: &str = "document.pdf";

/// Reads an `image`, `document` or `search_result` block. A document may become several parts.
pub(super) fn read<'a>(
    block: &Field<'a, '_>,
    members: &RawObject<'a>,
    parts: &mut Vec<Part<'a>>,
) -> Result<(), ProxyError> {
    let kind = block.required(members, "type")?.text()?;
    if kind == "search_result" {
        parts.push(search_result(block, members)?);
        return Ok(());
    }
    let source = block.required(members, "source")?;
    if kind == "image" {
        parts.push(image(&source)?);
        return Ok(());
    }
    let title = block.optional_text(members, "title")?;
    document(&source, title.filter(|title| !title.is_empty()), parts)
}

fn image<'a>(source: &Field<'a, '_>) -> Result<Part<'a>, ProxyError> {
    let members = source.object()?;
    let image_url = match &*source.required(&members, "type")?.text()? {
        "base64" => data_url(source, &members)?,
        "url" => without_white_space(source.required(&members, "url")?.json_text()?),
        other => return Err(unsupported(source, "image", other)),
    };
    Ok(Part::InputImage { image_url, detail: Cow::Borrowed("auto") })
}

fn document<'a>(
    source: &Field<'a, '_>,
    title: Option<Cow<'a, str>>,
    parts: &mut Vec<Part<'a>>,
) -> Result<(), ProxyError> {
    let members = source.object()?;
    match &*source.required(&members, "type")?.text()? {
        "base64" => {
            let filename = title.unwrap_or(Cow::Borrowed(DEFAULT_FILE_NAME));
            parts.push(Part::InputFile { filename, file_data: data_url(source, &members)? });
        }
        "text" => {
            let name = title.map(|title| format!(" title=\"{}\"", title.replace('"', "&quot;"))).unwrap_or_default();
            let data = source.required(&members, "data")?.text()?;
            parts.push(Part::InputText(format!("<document{name}>\n{data}\n</document>").into()));
        }
        "content" => document_blocks(source, &members, parts)?,
        "url" => parts.push(Part::RemoteFile { file_url: source.required(&members, "url")?.text()? }),
        other => return Err(unsupported(source, "document", other)),
    }
    Ok(())
}

/// Reads a document made of text and image blocks.
fn document_blocks<'a>(
    source: &Field<'a, '_>,
    members: &RawObject<'a>,
    parts: &mut Vec<Part<'a>>,
) -> Result<(), ProxyError> {
    let content = source.required(members, "content")?;
    if !content.is_list() {
        parts.extend(
            texts(&content)?.into_iter().filter(|text| !text.is_empty()).map(|text| Part::InputText(text.into())),
        );
        return Ok(());
    }
    for (index, value) in content.list()?.iter().enumerate() {
        let block = content.element(index, value);
        let members = block.object()?;
        match &*block.required(&members, "type")?.text()? {
            "text" => parts.push(Part::InputText(block.required(&members, "text")?.json_text()?)),
            "image" => {
                let source = block.required(&members, "source")?;
                parts.push(image(&source)?);
            }
            _ => return Err(block.invalid("must be of type 'text' or 'image'")),
        }
    }
    Ok(())
}

fn search_result<'a>(block: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Part<'a>, ProxyError> {
    let mut lines = vec![block.required(members, "title")?.text()?, block.required(members, "source")?.text()?];
    if let Some(content) = block.member(members, "content") {
        lines.extend(texts(&content)?);
    }
    Ok(Part::InputText(lines.join("\n").into()))
}

fn data_url<'a>(source: &Field<'a, '_>, members: &RawObject<'a>) -> Result<JsonText<'a>, ProxyError> {
    let media_type = source.required(members, "media_type")?.text()?;
    Ok(without_white_space(source.required(members, "data")?.json_text()?)
        .with_prefix(&format!("data:{media_type};base64,")))
}

fn unsupported(source: &Field<'_, '_>, what: &str, kind: &str) -> ProxyError {
    let message = format!("{what} source type '{kind}' is not supported by this proxy");
    Refusal::unsupported_value(format!("{source}.type"), message)
}
