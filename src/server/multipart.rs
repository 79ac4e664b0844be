//! Forms with files (`multipart/form-data`).
//!
//! A web page can send such a form without a preflight request, so only the endpoints that need forms accept them, with
//! the additional checks of [`super::access`]. The parts share the memory of one copy of the body.

use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::pin::pin;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use multer::{Field, Multipart};

use super::paths::CanonicalPath;
use crate::blocking::off_thread;
use crate::error::{ProxyError, Refusal};
use crate::protocol::form::FormPart;

const MULTIPART: &str = "multipart/form-data";
/// The endpoints that accept forms, by their canonical paths, and how to send one.
const ENDPOINTS: [(&str, &str); 3] = [
    ("/v1/files", "as multipart/form-data (curl: -F purpose=batch -F file=@requests.jsonl)"),
    ("/v1/images/edits", "as multipart/form-data (curl: -F image=@photo.png -F prompt='…') or as application/json"),
    ("/v1/audio/transcriptions", "as multipart/form-data (curl: -F file=@speech.mp3)"),
];
/// How to send requests to other endpoints.
const JSON: &str = "with the header 'content-type: application/json' (curl: -H 'content-type: application/json')";
/// Maximum number of parts: 16 images, and more text than any API has.
const MAX_PARTS: usize = 64;

/// Whether a request has a form as its body.
pub(super) fn is_multipart(headers: &HeaderMap) -> bool {
    let kind = content_type(headers).get(..MULTIPART.len());
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(MULTIPART))
}

/// Whether a request sends a form to an endpoint that accepts one.
pub(super) fn is_accepted(request: &Parts) -> bool {
    is_multipart(&request.headers) && form_endpoint(request).is_some()
}

/// How to send a request to this endpoint, for the error about another content type.
pub(super) fn expected_body(request: &Parts) -> &'static str {
    form_endpoint(request).unwrap_or(JSON)
}

/// How to send a form to the endpoint of a request; `None` if it accepts none.
fn form_endpoint(request: &Parts) -> Option<&'static str> {
    let canonical = request.extensions.get::<CanonicalPath>()?;
    ENDPOINTS.into_iter().find(|(path, _)| *path == canonical.path).map(|(_, form)| form)
}

/// Reads the parts of a form.
///
/// # Errors
/// If the form is invalid or has too many parts.
pub(super) async fn read(headers: &HeaderMap, body: Bytes) -> Result<Vec<FormPart>, ProxyError> {
    let boundary = boundary(headers)?;
    let length = body.len();
    let form = Multipart::new(stream::once(ready(Ok::<_, Infallible>(body))), boundary);
    let mut reading = pin!(read_parts(form));
    // The whole body is available, so that one poll does all of the work.
    poll_fn(|cx| off_thread(length, || reading.as_mut().poll(cx))).await
}

/// The boundary between the parts of a form.
pub(super) fn boundary(headers: &HeaderMap) -> Result<String, ProxyError> {
    multer::parse_boundary(content_type(headers)).map_err(|error| invalid(&error))
}

async fn read_parts(mut form: Multipart<'_>) -> Result<Vec<FormPart>, ProxyError> {
    let mut parts = Vec::new();
    while let Some(field) = form.next_field().await.map_err(|error| invalid(&error))? {
        if parts.len() == MAX_PARTS {
            return Err(Refusal::body(format!("the form has more than {MAX_PARTS} parts")));
        }
        parts.push(read_part(field).await?);
    }
    Ok(parts)
}

async fn read_part(mut field: Field<'_>) -> Result<FormPart, ProxyError> {
    let name = field.name().map(str::to_owned).ok_or_else(|| Refusal::body("a part of the form has no name"))?;
    let file_name = field.file_name().map(str::to_owned);
    let content_type = field.content_type().map(|kind| kind.essence_str().to_ascii_lowercase());
    let mut data = Bytes::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| invalid(&error))? {
        // There is one chunk, because the whole body is available.
        data = if data.is_empty() { chunk } else { [data, chunk].concat().into() };
    }
    Ok(FormPart { name, file_name, content_type, data })
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

pub(super) fn invalid(error: &multer::Error) -> ProxyError {
    ProxyError::BodyUnreadable { reason: format!("it is not a valid form: {error}") }
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;
    use http::{HeaderMap, HeaderValue};

    use super::{MAX_PARTS, is_multipart, read};
    use crate::error::ProxyError;
    use crate::protocol::form::FormPart;

    async fn parts(kind: &'static str, body: &str) -> Result<Vec<FormPart>, ProxyError> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        read(&headers, body.to_owned().into()).await
    }

    const FORM: &str = "multipart/form-data; boundary=X";

    #[tokio::test]
    async fn names_types_and_content_are_read() {
        let body = "--X\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na\r\nb\r\n--X\r\ncontent-disposition: form-data; name=\"image[]\"; filename=\"a b.png\"\r\nContent-Type: Image/PNG; x=1\r\n\r\n\u{1}--X\r\n--X--\r\n";
        let parts = parts(FORM, body).await.unwrap();
        let seen: Vec<_> = parts
            .iter()
            .map(|part| (&*part.name, part.file_name.as_deref(), part.content_type.as_deref(), &*part.data))
            .collect();
        assert_eq!(
            seen,
            [("prompt", None, None, &b"a\r\nb"[..]), ("image[]", Some("a b.png"), Some("image/png"), &b"\x01--X"[..])]
        );
    }

    #[tokio::test]
    async fn invalid_forms_are_refused() {
        let part = "--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n";
        let nameless = "--X\r\nContent-Disposition: form-data\r\n\r\nb\r\n--X--\r\n";
        let many = format!("{}--X--\r\n", part.repeat(MAX_PARTS + 1));
        for (kind, body) in [
            ("multipart/form-data", part),
            (FORM, part),
            (FORM, ""),
            (FORM, "no form"),
            (FORM, nameless),
            (FORM, &many),
        ] {
            let refused = parts(kind, body).await;
            let is_refused = matches!(refused, Err(ProxyError::BodyUnreadable { .. } | ProxyError::Refused(_)));
            assert!(is_refused, "{kind} {body}");
        }
        let most = format!("{}--X--\r\n", part.repeat(MAX_PARTS));
        assert_eq!(parts(FORM, &most).await.unwrap().len(), MAX_PARTS);
    }

    #[test]
    fn forms_are_recognized_by_their_content_type() {
        for (kind, expected) in
            [(FORM, true), ("Multipart/Form-Data;boundary=a", true), ("multipart/mixed", false), ("text/plain", false)]
        {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_multipart(&headers), expected, "{kind}");
        }
    }
}
