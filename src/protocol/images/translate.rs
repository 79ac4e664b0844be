//! Writes the backend's image request: the members that the official client sends, in its order.
//!
//! The number of images isn't among them: the server sends one request for each image. Uploaded files are encoded as
//! data URLs, directly into the request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::request::{ImageRequest, InputImage};
use crate::protocol::json::input_text::JsonText;

/// The members before the images.
#[derive(Serialize)]
struct Members<'r> {
    prompt: &'r JsonText<'r>,
    background: &'r str,
    model: &'r str,
    quality: &'r str,
    size: &'r str,
}

/// Writes the request for one image with the backend's `model`. Adds a warning if the client requested another one.
#[must_use]
pub fn encode(request: &mut ImageRequest<'_>, model: &str) -> Vec<u8> {
    request.note_model(model);
    let ImageRequest { prompt, background, quality, size, images, .. } = request;
    let mut body = Vec::with_capacity(written_bytes(prompt, images));
    serde_json::to_writer(&mut body, &Members { prompt, background, model, quality, size })
        .expect("strings always serialize");
    if !images.is_empty() {
        body.pop();
        body.extend_from_slice(br#","images":["#);
        for (index, image) in images.iter().enumerate() {
            body.extend_from_slice(if index == 0 { br#"{"image_url":"# } else { br#",{"image_url":"# });
            write_image(image, &mut body);
            body.push(b'}');
        }
        body.extend_from_slice(b"]}");
    }
    body
}

/// An upper bound for the length of the request in bytes.
fn written_bytes(prompt: &JsonText<'_>, images: &[InputImage<'_>]) -> usize {
    let image_bytes = images.iter().map(|image| match image {
        InputImage::Url(url) => url.written_bytes(),
        InputImage::File { data, .. } => data.len().div_ceil(3) * 4,
    });
    512 + prompt.written_bytes() + image_bytes.map(|bytes| bytes + 64).sum::<usize>()
}

fn write_image(image: &InputImage<'_>, body: &mut Vec<u8>) {
    match image {
        InputImage::Url(url) => serde_json::to_writer(body, url).expect("strings always serialize"),
        InputImage::File { content_type, data } => {
            body.extend_from_slice(format!("\"data:{content_type};base64,").as_bytes());
            let start = body.len();
            body.resize(start + data.len().div_ceil(3) * 4, 0);
            let encoded = body.get_mut(start..).unwrap_or_default();
            STANDARD.encode_slice(data, encoded).expect("base64 has four characters for three bytes");
            body.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::encode;
    use crate::protocol::form::FormPart;
    use crate::protocol::images::Operation;
    use crate::protocol::images::request::{decode, decode_form, form_members};

    #[test]
    fn a_request_has_the_members_of_the_official_client_in_its_order() {
        let body =
            br#"{"n":2,"size":"1024x1536","prompt":"a \u00e9","background":"opaque","user":"u","quality":"low"}"#;
        let mut request = decode(Operation::Generation, body, None).unwrap();
        let expected =
            r#"{"prompt":"a \u00e9","background":"opaque","model":"gpt-image-2","quality":"low","size":"1024x1536"}"#;
        assert_eq!(String::from_utf8(encode(&mut request, "gpt-image-2")).unwrap(), expected);
        let mut short = decode(Operation::Generation, br#"{"prompt":"a red fox"}"#, None).unwrap();
        let expected = r#"{"prompt":"a red fox","background":"auto","model":"m","quality":"auto","size":"auto"}"#;
        assert_eq!(String::from_utf8(encode(&mut short, "m")).unwrap(), expected);
        assert_eq!(short.warnings.header(), None);
    }

    #[test]
    fn a_replaced_model_is_reported() {
        for (model, warning) in [("gpt-image-1", Some("clamped:model")), ("gpt-image-2", None)] {
            let body = json!({"prompt": "x", "model": model}).to_string();
            let mut request = decode(Operation::Generation, body.as_bytes(), None).unwrap();
            assert!(!encode(&mut request, "gpt-image-2").is_empty());
            assert_eq!(request.warnings.header().as_deref(), warning, "{model}");
        }
    }

    #[test]
    fn uploaded_files_become_data_urls() {
        let part = |name: &str, data: &'static [u8]| FormPart {
            name: name.to_owned(),
            data: data.into(),
            ..FormPart::default()
        };
        let parts = [
            part("image[]", b"\x89PNG\r\n\x1a\n"),
            part("prompt", b"more \"red\""),
            part("image[]", b"\xff\xd8\xff\xe0"),
        ];
        let members = form_members(&parts).unwrap();
        let mut request = decode_form(&parts, &members, None).unwrap();
        let sent: Value = serde_json::from_slice(&encode(&mut request, "m")).unwrap();
        assert_eq!(sent["prompt"], "more \"red\"");
        let urls = [("image/png", "iVBORw0KGgo="), ("image/jpeg", "/9j/4A==")];
        let urls = urls.map(|(kind, data)| json!({"image_url": format!("data:{kind};base64,{data}")}));
        assert_eq!(sent["images"], json!(urls));
    }

    #[test]
    fn data_urls_of_a_json_body_are_forwarded() {
        let body = br#"{"prompt":"x","images":[{"image_url":"data:image\/png;base64,QUJD"},{"image_url":"data:image/png;base64,QU\nJD"}]}"#;
        let mut request = decode(Operation::Edit, body, None).unwrap();
        let sent = String::from_utf8(encode(&mut request, "m")).unwrap();
        let images =
            r#""images":[{"image_url":"data:image\/png;base64,QUJD"},{"image_url":"data:image/png;base64,QUJD"}]}"#;
        assert!(sent.ends_with(images), "{sent}");
    }
}
