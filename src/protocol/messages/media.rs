//! Pictures, documents and search results, read into the backend's parts.
//!
//! Nothing is fetched here: an address is passed on, and a file has to come with its content, since
//! uploads belong to another service.

use std::borrow::Cow;

use super::content::{required, texts, words};
use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::Part;
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::base64::unwrapped;

const DEFAULT_FILE_NAME: &str = "document.pdf";

/// Reads an `image`, `document` or `search_result`; a document may hold several parts.
pub(super) fn read<'a>(
    block: &Field<'a, '_>,
    members: &RawObject<'a>,
    parts: &mut Vec<Part<'a>>,
) -> Result<(), ProxyError> {
    let kind = required(block, members, "type")?;
    if kind == "search_result" {
        parts.push(search_result(block, members)?);
        return Ok(());
    }
    let source = block.member(members, "source").ok_or_else(|| block.lacks("source"))?;
    if kind == "image" {
        parts.push(image(&source)?);
        return Ok(());
    }
    let title = block.member(members, "title").map(|title| title.text()).transpose()?;
    document(&source, title.filter(|title| !title.is_empty()), parts)
}

fn image<'a>(source: &Field<'a, '_>) -> Result<Part<'a>, ProxyError> {
    let members = source.object()?;
    let image_url = match &*required(source, &members, "type")? {
        "base64" => data_url(source, &members)?,
        "url" => unwrapped(words(source, &members, "url")?),
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
    match &*required(source, &members, "type")? {
        "base64" => {
            let filename = title.unwrap_or(Cow::Borrowed(DEFAULT_FILE_NAME));
            parts.push(Part::InputFile { filename, file_data: data_url(source, &members)? });
        }
        "text" => {
            let name = title.map(|title| format!(" title=\"{}\"", title.replace('"', "&quot;"))).unwrap_or_default();
            let data = required(source, &members, "data")?;
            parts.push(Part::InputText(format!("<document{name}>\n{data}\n</document>").into()));
        }
        "content" => inner(source, &members, parts)?,
        "url" => parts.push(Part::RemoteFile { file_url: required(source, &members, "url")? }),
        other => return Err(unsupported(source, "document", other)),
    }
    Ok(())
}

/// The blocks that a document is made of: texts and pictures.
fn inner<'a>(source: &Field<'a, '_>, members: &RawObject<'a>, parts: &mut Vec<Part<'a>>) -> Result<(), ProxyError> {
    let content = source.member(members, "content").ok_or_else(|| source.lacks("content"))?;
    if !content.is_list() {
        parts.extend(
            texts(&content)?.into_iter().filter(|text| !text.is_empty()).map(|text| Part::InputText(text.into())),
        );
        return Ok(());
    }
    for (index, value) in content.list()?.iter().enumerate() {
        let block = content.element(index, value);
        let members = block.object()?;
        match &*required(&block, &members, "type")? {
            "text" => parts.push(Part::InputText(words(&block, &members, "text")?)),
            "image" => {
                let source = block.member(&members, "source").ok_or_else(|| block.lacks("source"))?;
                parts.push(image(&source)?);
            }
            _ => return Err(block.invalid("must be of type 'text' or 'image'")),
        }
    }
    Ok(())
}

fn search_result<'a>(block: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Part<'a>, ProxyError> {
    let mut lines = vec![required(block, members, "title")?, required(block, members, "source")?];
    if let Some(content) = block.member(members, "content") {
        lines.extend(texts(&content)?);
    }
    Ok(Part::InputText(lines.join("\n").into()))
}

fn data_url<'a>(source: &Field<'a, '_>, members: &RawObject<'a>) -> Result<JsonText<'a>, ProxyError> {
    let media_type = required(source, members, "media_type")?;
    Ok(unwrapped(words(source, members, "data")?).after(&format!("data:{media_type};base64,")))
}

fn unsupported(source: &Field<'_, '_>, what: &str, kind: &str) -> ProxyError {
    let message = format!("{what} source type '{kind}' is not supported by this proxy");
    Refusal::unsupported_value(format!("{source}.type"), message)
}
