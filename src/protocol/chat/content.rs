//! Converts message content to the backend's parts: text, images and files.
//!
//! The proxy fetches nothing: image URLs are forwarded, and a file must be sent with its content, since the backend has
//! no access to uploaded files. Data URLs are borrowed from the body.

use std::borrow::Cow;

use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::{Output, Part};
use crate::protocol::files;
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::base64::without_white_space;

const DEFAULT_FILE_NAME: &str = "file.pdf";
/// The media type of a file without one whose name shows none.
const DEFAULT_MEDIA_TYPE: &str = "application/pdf";

/// Returns the text of a system message: its parts, joined without a separator.
pub(super) fn system_text<'a>(content: &Field<'a, '_>) -> Result<Cow<'a, str>, ProxyError> {
    if !content.is_list() {
        return text_of(content).and_then(|_| content.text());
    }
    let mut joined = Cow::Borrowed("");
    for (index, value) in content.list()?.iter().enumerate() {
        let part = content.element(index, value);
        let members = part.object()?;
        let kind = part.required(&members, "type")?;
        if !matches!(&*kind.text()?, "text" | "input_text") {
            return Err(kind.invalid("must be 'text' in a system message"));
        }
        let text = part.required(&members, "text")?.text()?;
        if joined.is_empty() {
            joined = text;
        } else {
            joined.to_mut().push_str(&text);
        }
    }
    Ok(joined)
}

/// Reads the content of a user message.
pub(super) fn user_parts<'a>(content: &Field<'a, '_>) -> Result<Vec<Part<'a>>, ProxyError> {
    if !content.is_list() {
        return Ok(vec![Part::InputText(text_of(content)?)]);
    }
    content.each(input_part)
}

/// Reads a tool output: an array with one text part becomes a string.
fn output<'a>(content: &Field<'a, '_>) -> Result<Output<'a>, ProxyError> {
    let mut parts = user_parts(content)?;
    Ok(match parts.pop() {
        None => Output::Text(JsonText::default()),
        Some(Part::InputText(text)) if parts.is_empty() => Output::Text(text),
        Some(last) => {
            parts.push(last);
            Output::Parts(parts)
        }
    })
}

/// Reads a tool output, which is an empty string if the message has no content.
pub(super) fn output_or_empty<'a>(content: Option<&Field<'a, '_>>) -> Result<Output<'a>, ProxyError> {
    content.map_or(Ok(Output::Text(JsonText::default())), output)
}

/// Reads the text and refusals of an assistant message. Other parts, such as images and visible reasoning, can't be
/// replayed and are dropped. So are empty texts: an empty item would separate a call from its output.
pub(super) fn assistant_parts<'a>(content: &Field<'a, '_>) -> Result<Vec<Part<'a>>, ProxyError> {
    if !content.is_list() {
        return Ok(output_text(text_of(content)?).into_iter().collect());
    }
    let mut parts = Vec::new();
    for (index, value) in content.list()?.iter().enumerate() {
        let part = content.element(index, value);
        let members = part.object()?;
        let kind = part.required(&members, "type")?.text()?;
        let name = match &*kind {
            "text" | "output_text" | "input_text" => "text",
            "refusal" => "refusal",
            _ => continue,
        };
        let text = part.required(&members, name)?.json_text()?;
        parts.extend(output_text(text));
    }
    Ok(parts)
}

/// The part for a text of the assistant; `None` if it is empty.
pub(super) fn output_text(text: JsonText<'_>) -> Option<Part<'_>> {
    (!text.is_empty()).then_some(Part::OutputText(text))
}

fn text_of<'a>(content: &Field<'a, '_>) -> Result<JsonText<'a>, ProxyError> {
    if content.is_text() { content.json_text() } else { Err(content.must_be("a string or an array of parts")) }
}

fn input_part<'a>(part: &Field<'a, '_>) -> Result<Part<'a>, ProxyError> {
    let members = part.object()?;
    let kind = part.required(&members, "type")?;
    match &*kind.text()? {
        "text" | "input_text" => {
            let text = part.required(&members, "text")?;
            Ok(Part::InputText(text.json_text()?))
        }
        "image_url" | "input_image" => image(part, &members),
        "file" => {
            let file = part.required(&members, "file")?;
            document(&file, &*file.object()?)
        }
        "input_file" => document(part, &members),
        "input_audio" => {
            Err(Refusal::unsupported_value(part.to_string(), "audio input is not supported by this backend"))
        }
        _ => Err(kind.invalid("must be one of 'text', 'image_url' and 'file'")),
    }
}

fn image<'a>(part: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Part<'a>, ProxyError> {
    let address = part.required(members, "image_url")?;
    if address.is_text() {
        let detail = part.member(members, "detail");
        return image_url(&address, detail.as_ref());
    }
    if !address.is_object() {
        return Err(address.must_be("an object or a string"));
    }
    let inner = address.object()?;
    let url = address.required(&inner, "url")?;
    image_url(&url, address.member(&inner, "detail").as_ref())
}

fn image_url<'a>(url: &Field<'a, '_>, detail: Option<&Field<'a, '_>>) -> Result<Part<'a>, ProxyError> {
    let image_url = without_white_space(url.json_text()?);
    if !["https://", "http://", "data:image/"].iter().any(|scheme| image_url.starts_with(scheme)) {
        return Err(url.invalid("must be an http(s) or a data:image/ URL"));
    }
    let detail = detail.map_or(Ok(Cow::Borrowed("auto")), Field::text)?;
    Ok(Part::InputImage { image_url, detail })
}

fn document<'a>(file: &Field<'a, '_>, members: &RawObject<'a>) -> Result<Part<'a>, ProxyError> {
    let Some(content) = file.member(members, "file_data") else {
        let Some(id) = file.member(members, "file_id") else { return Err(file.lacks("file_data")) };
        // The server has replaced the ids of files that exist.
        return Err(id.invalid("must be the id of an uploaded file; or send file_data"));
    };
    let filename = match file.member(members, "filename") {
        Some(name) => name.text()?,
        None => Cow::Borrowed(DEFAULT_FILE_NAME),
    };
    let content = without_white_space(content.json_text()?);
    let file_data = if content.starts_with("data:") {
        content
    } else {
        content.with_prefix(&format!("data:{};base64,", files::by_name(&filename).unwrap_or(DEFAULT_MEDIA_TYPE)))
    };
    let filename = if filename.trim().is_empty() { Cow::Borrowed(DEFAULT_FILE_NAME) } else { filename };
    Ok(Part::InputFile { filename, file_data })
}
