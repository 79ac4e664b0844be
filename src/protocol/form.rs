//! The parts of a `multipart/form-data` body (RFC 7578), for the APIs that accept uploads.
//!
//! Text parts become the members of a JSON object, so that an API reads them with the code for its JSON requests. Files
//! keep their bytes.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::{ProxyError, Refusal};
use crate::protocol::json::quoted;

/// Maximum size of a text part. OpenAI's longest text, a prompt of 32,000 characters, fits.
const MAX_TEXT_BYTES: usize = 256 * 1024;

/// A part of a form.
#[derive(Clone, Debug, Default)]
pub struct FormPart {
    /// The name of the field, such as `image` or `image[]`.
    pub name: String,
    /// The name of the uploaded file, if the client sent one.
    pub file_name: Option<String>,
    /// The content type of the part, in lower case and without parameters.
    pub content_type: Option<String>,
    /// The content.
    pub data: Bytes,
}

impl FormPart {
    /// The name of the field without the brackets with which clients write lists and members: `image` for `image[]`.
    #[must_use]
    pub fn field(&self) -> &str {
        self.name.split_once('[').map_or(self.name.as_str(), |(field, _)| field)
    }

    /// Whether the name has brackets.
    fn is_element(&self) -> bool {
        self.name.contains('[')
    }

    /// The text of a part that isn't a file.
    fn text(&self) -> Result<&str, ProxyError> {
        let field = self.field();
        if self.data.len() > MAX_TEXT_BYTES {
            return Err(Refusal::invalid(field, format!("'{field}' is longer than {MAX_TEXT_BYTES} bytes")));
        }
        std::str::from_utf8(&self.data).map_err(|_| Refusal::invalid(field, format!("'{field}' is not UTF-8")))
    }
}

/// Converts the text parts of a form, for which `is_file` returns false, to a JSON object. Members named in `scalars`
/// are numbers or booleans, if their text is one. Several parts of a field become a list.
///
/// # Errors
/// If a text is too long or not UTF-8.
pub fn to_json(
    parts: &[FormPart],
    is_file: impl Fn(&FormPart) -> bool,
    scalars: &[&str],
) -> Result<String, ProxyError> {
    let mut members: Vec<(&str, bool, Vec<Cow<'_, str>>)> = Vec::new();
    for part in parts.iter().filter(|part| !is_file(part)) {
        let (field, text) = (part.field(), part.text()?);
        let value = scalar(text).filter(|_| scalars.contains(&field)).unwrap_or_else(|| Cow::Owned(quoted(text)));
        match members.iter_mut().find(|(name, ..)| *name == field) {
            Some((_, is_list, values)) => {
                *is_list = true;
                values.push(value);
            }
            None => members.push((field, part.is_element(), vec![value])),
        }
    }
    let written = members.iter().map(|(name, is_list, values)| {
        let values = values.join(",");
        if *is_list { format!("{}:[{values}]", quoted(name)) } else { format!("{}:{values}", quoted(name)) }
    });
    Ok(format!("{{{}}}", written.collect::<Vec<_>>().join(",")))
}

/// The JSON of a text that is a number or a boolean. Python programs write `True`.
fn scalar(text: &str) -> Option<Cow<'_, str>> {
    let text = text.trim();
    if serde_json::from_str::<f64>(text).is_ok() {
        return Some(Cow::Borrowed(text));
    }
    let lower = text.to_ascii_lowercase();
    matches!(lower.as_str(), "true" | "false").then_some(Cow::Owned(lower))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{FormPart, MAX_TEXT_BYTES, to_json};
    use crate::error::ProxyError;

    fn part(name: &str, data: &str) -> FormPart {
        FormPart { name: name.to_owned(), data: Bytes::copy_from_slice(data.as_bytes()), ..FormPart::default() }
    }

    #[test]
    fn text_parts_become_members() {
        let parts = [
            part("prompt", "say \"2\"\n"),
            part("n", " 2 "),
            part("stream", "True"),
            part("size", "1024"),
            part("image", "\u{fffd}"),
            part("include[]", "logprobs"),
            part("tag", "a"),
            part("tag", "b"),
            part("svg[model]", "m"),
        ];
        let json = to_json(&parts, |part| part.field() == "image", &["n", "stream"]).unwrap();
        let expected = r#"{"prompt":"say \"2\"\n","n":2,"stream":true,"size":"1024","include":["logprobs"],"tag":["a","b"],"svg":["m"]}"#;
        assert_eq!(json, expected);
        assert_eq!(to_json(&[part("n", "two")], |_| false, &["n"]).unwrap(), r#"{"n":"two"}"#);
        assert_eq!(to_json(&[], |_| false, &[]).unwrap(), "{}");
    }

    #[test]
    fn a_text_that_is_too_long_or_binary_is_refused_by_name() {
        let long = part("prompt", &"x".repeat(MAX_TEXT_BYTES + 1));
        let binary = FormPart { data: Bytes::from_static(b"\xff"), ..part("prompt[]", "") };
        for part in [long, binary] {
            let Err(ProxyError::Refused(refusal)) = to_json(&[part], |_| false, &[]) else { panic!("accepted") };
            assert_eq!(refusal.param.as_deref(), Some("prompt"));
        }
    }
}
