//! The parts of a `multipart/form-data` body (RFC 7578), for the APIs that accept uploads.
//!
//! Text parts become the members of a JSON object, so that an API reads them with the code for its JSON requests. Files
//! keep their bytes. Fields that an API doesn't read may have any content.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::{ProxyError, Refusal};
use crate::protocol::json::quoted;

/// Maximum size of a text part. OpenAI's longest text, a prompt of 32,000 characters, fits.
const MAX_TEXT_BYTES: usize = 256 * 1024;

/// The fields of a form that an API reads.
#[derive(Clone, Copy, Debug)]
pub struct FormFields {
    /// Files.
    pub files: &'static [&'static str],
    /// Texts.
    pub texts: &'static [&'static str],
    /// Numbers and booleans.
    pub scalars: &'static [&'static str],
}

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
    /// The name of the field without brackets, with which clients mark lists and members: `image` for `image[]`.
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

/// Converts the parts of a form that aren't files to a JSON object. In a field for numbers and booleans, a text that is
/// one becomes a JSON number or boolean. A field that the API doesn't read becomes an empty string, so that the API can
/// report it as ignored. Several parts of a field become a list.
///
/// # Errors
/// If a text is too long or not UTF-8.
pub fn to_json(parts: &[FormPart], fields: &FormFields) -> Result<String, ProxyError> {
    let mut members: Vec<(&str, bool, Vec<Cow<'_, str>>)> = Vec::new();
    for part in parts.iter().filter(|part| !fields.files.contains(&part.field())) {
        let field = part.field();
        let value = fields.value(part)?;
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

impl FormFields {
    /// The JSON of a part that isn't a file.
    fn value<'p>(&self, part: &'p FormPart) -> Result<Cow<'p, str>, ProxyError> {
        let field = part.field();
        if self.scalars.contains(&field) {
            let text = part.text()?;
            Ok(scalar(text).unwrap_or_else(|| Cow::Owned(quoted(text))))
        } else if self.texts.contains(&field) {
            Ok(Cow::Owned(quoted(part.text()?)))
        } else {
            Ok(Cow::Borrowed("\"\""))
        }
    }
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

    use super::{FormFields, FormPart, MAX_TEXT_BYTES, to_json};
    use crate::error::ProxyError;

    const FIELDS: FormFields = FormFields {
        files: &["image"],
        texts: &["prompt", "size", "include", "tag", "svg"],
        scalars: &["n", "stream"],
    };

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
            part("other", "x"),
        ];
        let json = to_json(&parts, &FIELDS).unwrap();
        let expected = r#"{"prompt":"say \"2\"\n","n":2,"stream":true,"size":"1024","include":["logprobs"],"tag":["a","b"],"svg":["m"],"other":""}"#;
        assert_eq!(json, expected);
        assert_eq!(to_json(&[part("n", "two")], &FIELDS).unwrap(), r#"{"n":"two"}"#);
        assert_eq!(to_json(&[], &FIELDS).unwrap(), "{}");
    }

    #[test]
    fn a_text_that_is_too_long_or_binary_is_refused_by_name() {
        let long = part("prompt", &"x".repeat(MAX_TEXT_BYTES + 1));
        let binary = FormPart { data: Bytes::from_static(b"\xff"), ..part("prompt[]", "") };
        for part in [long, binary] {
            let Err(ProxyError::Refused(refusal)) = to_json(std::slice::from_ref(&part), &FIELDS) else {
                panic!("accepted")
            };
            assert_eq!(refusal.param.as_deref(), Some("prompt"));
            let unread = FormPart { name: "other".to_owned(), ..part };
            assert_eq!(to_json(&[unread], &FIELDS).unwrap(), r#"{"other":""}"#);
        }
    }
}
