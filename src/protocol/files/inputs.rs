//! Replaces the ids of uploaded files in a request by their contents.
//!
//! The backend has no access to uploaded files, so their contents are sent as data URLs. Everything else in the body
//! keeps its bytes. Ids may be in parts of messages and tool outputs: `file` of Chat, `input_file` and `input_image` of
//! Responses, in `input` and in the `items` of a conversation; also screenshots (`computer_call_output`) and the mask
//! of the image tool.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::media_type;
use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::json::quoted;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

/// A file that a request refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInput {
    /// The member with its id, such as `input[0].content[1].file_id`.
    pub param: String,
    /// Its id.
    pub id: String,
}

/// The content of a file that a request refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// Its name.
    pub filename: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// How a part names its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartKind {
    Image,
    Document,
}

/// Whether a body may refer to files: a quick check without parsing.
#[must_use]
pub fn may_have_any(body: &[u8]) -> bool {
    memchr::memmem::find(body, b"file_id").is_some()
}

/// The files that a request refers to. Nothing if the body isn't a valid request: decoding it reports the error.
#[must_use]
pub fn find(body: &[u8]) -> Vec<FileInput> {
    let mut found = Vec::new();
    visit(body, |part, members, _| {
        if let Some(id) = part.member(members, "file_id")
            && let Ok(text) = id.text()
        {
            found.push(FileInput { param: id.to_string(), id: text.into_owned() });
        }
        Ok(())
    })
    // `visit` fails only if its argument does.
    .unwrap_or_default();
    found
}

/// The length of a file in a body.
#[must_use]
pub fn encoded_bytes(bytes: u64) -> u64 {
    bytes.saturating_add(2) / 3 * 4
}

/// Puts the contents of files in place of their ids.
///
/// # Errors
/// If an image isn't one, or the body isn't UTF-8.
pub fn insert(body: &[u8], contents: &BTreeMap<String, FileContent>) -> Result<String, ProxyError> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::body("the request body is not UTF-8"))?;
    let mut edits = Splice::new(text);
    visit(body, |part, members, kind| {
        let Some(id) = part.member(members, "file_id") else { return Ok(()) };
        let Some(content) = id.text().ok().and_then(|id| contents.get(&*id)) else { return Ok(()) };
        let known = media_type::by_content(&content.bytes);
        let url = match kind {
            PartKind::Document => {
                let media_type = known.or_else(|| media_type::by_name(&content.filename));
                data_url(media_type.unwrap_or_else(|| media_type::by_encoding(&content.bytes)), &content.bytes)
            }
            PartKind::Image => match known.filter(|kind| kind.starts_with("image/")) {
                Some(kind) => data_url(kind, &content.bytes),
                None => return Err(id.invalid("must be the id of a PNG, JPEG, GIF or WebP file")),
            },
        };
        edits.replace(part.raw(), with_content(members, kind, &url, &content.filename));
        Ok(())
    })?;
    Ok(edits.text().into_owned())
}

/// The members of a part, with its content instead of the id.
fn with_content(members: &RawObject<'_>, kind: PartKind, url: &str, filename: &str) -> String {
    let name = if kind == PartKind::Image { "image_url" } else { "file_data" };
    // A base64 text needs no escapes.
    let mut part = format!(r#"{{"{name}":"{url}""#);
    if kind == PartKind::Document && members.get("filename").is_none() {
        let _ = write!(part, r#","filename":{}"#, quoted(filename));
    }
    for (member, value) in members.members() {
        if member != "file_id" && member != name {
            let _ = write!(part, ",{}:{}", quoted(member), value.text());
        }
    }
    part + "}"
}

fn data_url(media_type: &str, bytes: &[u8]) -> String {
    let mut url = format!("data:{media_type};base64,");
    STANDARD.encode_string(bytes, &mut url);
    url
}

/// Passes each object with a file id and without content to `visit`, with its members.
fn visit<'b>(
    body: &'b [u8],
    mut visit: impl FnMut(&Field<'b, '_>, &RawObject<'b>, PartKind) -> Result<(), ProxyError>,
) -> Result<(), ProxyError> {
    let Ok(members) = RawObject::from_body(body) else { return Ok(()) };
    for (name, list) in members.fields() {
        let image = match name {
            "messages" | "input" | "items" => "output",
            "tools" => "input_image_mask",
            _ => continue,
        };
        let Ok(elements) = list.list() else { continue };
        for (index, value) in elements.iter().enumerate() {
            let element = list.element(index, value);
            let Ok(members) = element.object() else { continue };
            for name in ["content", "output"] {
                let Some(parts) = element.member(&members, name).filter(Field::is_list) else { continue };
                visit_parts(&parts, &mut visit)?;
            }
            let Some(image) = element.member(&members, image).filter(Field::is_object) else { continue };
            let Ok(members) = image.object() else { continue };
            if !is_sent(&members, &["image_url"]) {
                visit(&image, &members, PartKind::Image)?;
            }
        }
    }
    Ok(())
}

fn is_sent(members: &RawObject<'_>, names: &[&str]) -> bool {
    names.iter().any(|name| members.get(name).is_some_and(|value| value.get() != "null"))
}

fn visit_parts<'b>(
    parts: &Field<'b, '_>,
    visit: &mut impl FnMut(&Field<'b, '_>, &RawObject<'b>, PartKind) -> Result<(), ProxyError>,
) -> Result<(), ProxyError> {
    let Ok(elements) = parts.list() else { return Ok(()) };
    for (index, value) in elements.iter().enumerate() {
        let part = parts.element(index, value);
        let Ok(members) = part.object() else { continue };
        match members.text("type").as_deref() {
            Some("file") => {
                let Some(file) = part.member(&members, "file") else { continue };
                let Ok(members) = file.object() else { continue };
                if !is_sent(&members, &["file_data"]) {
                    visit(&file, &members, PartKind::Document)?;
                }
            }
            Some("input_file") if !is_sent(&members, &["file_data", "file_url"]) => {
                visit(&part, &members, PartKind::Document)?;
            }
            Some("input_image") if !is_sent(&members, &["image_url"]) => visit(&part, &members, PartKind::Image)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::{FileContent, encoded_bytes, find, insert, may_have_any};
    use crate::error::ProxyError;

    fn contents(bytes: &[u8]) -> BTreeMap<String, FileContent> {
        let content = FileContent { filename: "a \"b\".txt".to_owned(), bytes: bytes.to_vec() };
        BTreeMap::from([("file-1".to_owned(), content)])
    }

    fn inserted(body: &Value, bytes: &[u8]) -> Value {
        serde_json::from_str(&insert(body.to_string().as_bytes(), &contents(bytes)).unwrap()).unwrap()
    }

    #[test]
    fn every_part_with_an_id_is_found_by_its_path() {
        let body = json!({
            "messages": [
                {"role": "user", "content": "file_id"},
                {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "file", "file": {"file_id": "file-1"}}]},
            ],
            "input": [
                {"role": "user", "content": [{"type": "input_image", "file_id": "file-2"}]},
                {"type": "function_call_output", "output": [{"type": "input_file", "file_id": "file-3"}]},
                {"content": [{"type": "input_file", "file_id": "file-4", "file_data": "data:x"}, {"type": "input_file", "file_id": 5}]},
                {"type": "computer_call_output", "output": {"type": "computer_screenshot", "file_id": "file-5"}},
                {"type": "computer_call_output", "output": {"image_url": "data:x", "file_id": "file-6"}},
            ],
            "tools": [{"type": "image_generation", "input_image_mask": {"file_id": "file-7"}}],
            "items": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-8"}]}],
        });
        let found = find(body.to_string().as_bytes());
        let found: Vec<_> = found.iter().map(|input| (input.param.as_str(), input.id.as_str())).collect();
        let expected = [
            ("messages[1].content[1].file.file_id", "file-1"),
            ("input[0].content[0].file_id", "file-2"),
            ("input[1].output[0].file_id", "file-3"),
            ("input[3].output.file_id", "file-5"),
            ("tools[0].input_image_mask.file_id", "file-7"),
            ("items[0].content[0].file_id", "file-8"),
        ];
        assert_eq!(found.len(), expected.len());
        assert!(expected.iter().all(|expected| found.contains(expected)), "{found:?}");
        assert!(may_have_any(body.to_string().as_bytes()) && !may_have_any(b"{}"));
        assert_eq!(find(b"no JSON \"file_id\""), []);
    }

    #[test]
    fn contents_replace_ids_and_other_members_stay() {
        let chat =
            json!({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]});
        let file = &inserted(&chat, b"hello")["messages"][0]["content"][0]["file"];
        assert_eq!(*file, json!({"file_data": "data:text/plain;base64,aGVsbG8=", "filename": "a \"b\".txt"}));
        let responses = json!({"input": [{"role": "user", "content": [
            {"type": "input_image", "file_id": "file-1", "image_url": null, "detail": "low"},
            {"type": "input_file", "file_id": "file-1", "filename": "mine"},
            {"type": "input_file", "file_id": "file-other"},
        ]}], "model": "m"});
        let parts = &inserted(&responses, b"\x89PNG")["input"][0]["content"];
        let url = "data:image/png;base64,iVBORw==";
        assert_eq!(parts[0], json!({"type": "input_image", "image_url": url, "detail": "low"}));
        assert_eq!(parts[1], json!({"type": "input_file", "file_data": url, "filename": "mine"}));
        assert_eq!(parts[2], responses["input"][0]["content"][2]);
    }

    #[test]
    fn a_file_with_an_unknown_name_is_text_if_it_is_utf_8() {
        let body = json!({"input": [{"content": [{"type": "input_file", "file_id": "file-1"}]}]});
        let bytes_and_types: [(&[u8], &str); 2] =
            [(b"print()", "text/plain"), (b"\xff\x00", "application/octet-stream")];
        for (bytes, expected) in bytes_and_types {
            let content = FileContent { filename: "main.py".to_owned(), bytes: bytes.to_vec() };
            let contents = BTreeMap::from([("file-1".to_owned(), content)]);
            let body = insert(body.to_string().as_bytes(), &contents).unwrap();
            assert!(body.contains(&format!("data:{expected};base64,")), "{body}");
        }
    }

    #[test]
    fn an_image_must_be_one() {
        let body = json!({"input": [{"content": [{"type": "input_image", "file_id": "file-1"}]}]});
        let Err(ProxyError::Refused(refusal)) = insert(body.to_string().as_bytes(), &contents(b"%PDF-1.7")) else {
            panic!("accepted")
        };
        assert_eq!(refusal.param.as_deref(), Some("input[0].content[0].file_id"));
    }

    #[test]
    fn the_length_in_a_body_is_that_of_base64() {
        assert_eq!([0, 1, 3, 4].map(encoded_bytes), [0, 4, 4, 8]);
    }
}
