use serde_json::{Value, json};

use super::{ImageRequest, decode, decode_form, form_members};
use crate::error::ProxyError;
use crate::protocol::Mode;
use crate::protocol::form::FormPart;
use crate::protocol::images::Operation;

fn with(name: &str, value: Value) -> String {
    let mut body = json!({"prompt": "a red fox"});
    body[name] = value;
    body.to_string()
}

fn generation(body: &str) -> Result<ImageRequest<'_>, ProxyError> {
    decode(Operation::Generation, body.as_bytes(), None)
}

/// The code and the parameter of a refusal.
fn refused<T>(result: Result<T, ProxyError>, what: &str) -> (String, String) {
    match result {
        Err(ProxyError::Refused(refusal)) => {
            (refusal.code.unwrap_or_default().to_owned(), refusal.param.unwrap_or_default())
        }
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what} is accepted"),
    }
}

fn file(name: &str, content_type: Option<&str>, data: &'static [u8]) -> FormPart {
    FormPart {
        name: name.to_owned(),
        file_name: Some("a".to_owned()),
        content_type: content_type.map(str::to_owned),
        data: data.into(),
    }
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

#[test]
fn members_that_would_change_the_image_are_refused_by_name() {
    for (name, value, code) in [
        ("prompt", json!(1), "invalid_type"),
        ("prompt", json!(" \n"), "missing_required_parameter"),
        ("n", json!(0), "invalid_value"),
        ("n", json!(5), "invalid_value"),
        ("n", json!(1.5), "invalid_value"),
        ("n", json!("1"), "invalid_value"),
        ("stream", json!("true"), "invalid_type"),
        ("model", json!("gpt-5.5"), "invalid_value"),
        ("background", json!("blue"), "invalid_value"),
        ("quality", json!("best"), "invalid_value"),
        ("size", json!("large"), "invalid_value"),
        ("size", json!("1024x"), "invalid_value"),
        ("size", json!("1024x-1"), "invalid_value"),
        ("size", json!("999999x1"), "invalid_value"),
        ("size", json!(1024), "invalid_type"),
        ("mask", json!({"image_url": "data:image/png;base64,QUJD"}), "unsupported_parameter"),
        ("markup", json!("x"), "unsupported_parameter"),
        ("image", json!("data:image/png;base64,QUJD"), "unsupported_parameter"),
        ("images", json!([{"image_url": "data:image/png;base64,QUJD"}]), "unsupported_parameter"),
        ("svg", json!({"model": "m"}), "unsupported_parameter"),
        ("output_format", json!("gif"), "unsupported_value"),
        ("response_format", json!("file"), "invalid_value"),
        ("moderation", json!("none"), "invalid_value"),
        ("output_compression", json!(101), "invalid_value"),
        ("partial_images", json!(4), "invalid_value"),
        ("input_fidelity", json!("medium"), "invalid_value"),
        ("style", json!("dark"), "invalid_value"),
    ] {
        let body = with(name, value);
        assert_eq!(refused(generation(&body), &body), (code.to_owned(), name.to_owned()), "{body}");
    }
    let nothing = refused(generation("{}"), "an empty body");
    assert_eq!(nothing, ("missing_required_parameter".to_owned(), "prompt".to_owned()));
}

#[test]
fn unsupported_hints_are_reported() {
    for (name, value, warning) in [
        ("response_format", json!("url"), Some("clamped:response_format")),
        ("response_format", json!("b64_json"), None),
        ("output_format", json!("webp"), Some("ignored:output_format")),
        ("output_format", json!("png"), None),
        ("output_compression", json!(80), Some("ignored:output_compression")),
        ("output_compression", json!(100), None),
        ("moderation", json!("low"), Some("ignored:moderation")),
        ("moderation", json!("auto"), None),
        ("partial_images", json!(2), Some("ignored:partial_images")),
        ("partial_images", json!(0), None),
        ("input_fidelity", json!("high"), Some("ignored:input_fidelity")),
        ("style", json!("vivid"), Some("ignored:style")),
        ("complexity", json!("low"), Some("ignored:complexity")),
        ("new_member", json!({}), Some("ignored:new_member")),
        ("quality", json!("hd"), Some("clamped:quality")),
        ("quality", json!("standard"), Some("clamped:quality")),
        ("quality", json!("high"), None),
        ("user", json!("u"), None),
        ("safety_identifier", json!("u"), None),
        ("style", Value::Null, None),
        ("image", Value::Null, None),
    ] {
        let body = with(name, value);
        assert_eq!(generation(&body).unwrap().warnings.header().as_deref(), warning, "{body}");
    }
}

#[test]
fn image_models_of_any_release_are_accepted() {
    for model in ["gpt-image-1", "gpt-image-2.6-flare", "chatgpt-image-latest", "dall-e-3", "default", ""] {
        let body = with("model", json!(model));
        assert!(generation(&body).is_ok(), "{model}");
        assert!(decode(Operation::Generation, br#"{"prompt":"x"}"#, Some(model)).is_ok(), "{model}");
    }
    let of_path = decode(Operation::Generation, br#"{"prompt":"x"}"#, Some("gpt-5.5"));
    assert!(of_path.is_ok(), "any deployment");
    let other = decode(Operation::Generation, br#"{"prompt":"x","model":"gpt-5.4"}"#, Some("gpt-5.5"));
    assert_eq!(refused(other, "another model than the deployment").1, "model");
}

#[test]
fn count_and_mode_are_read() {
    let body = json!({"prompt": "x", "n": 3.0, "stream": true}).to_string();
    let request = generation(&body).unwrap();
    assert_eq!((request.count, request.mode), (3, Mode::Stream));
    let request = generation(r#"{"prompt":"x","n":null,"stream":null}"#).unwrap();
    assert_eq!((request.count, request.mode), (1, Mode::Document));
}

#[test]
fn an_edit_needs_images_that_the_backend_can_read() {
    for (images, code, param) in [
        (json!([]), "missing_required_parameter", "images"),
        (json!("data:image/png;base64,QUJD"), "invalid_type", "images"),
        (json!(["data:image/png;base64,QUJD"]), "invalid_type", "images[0]"),
        (json!([{}]), "missing_required_parameter", "images[0].image_url"),
        (
            json!([{"image_url": "data:image/png;base64,QUJD"}, {"file_id": "f"}]),
            "unsupported_parameter",
            "images[1].file_id",
        ),
        (json!([{"image_url": "file:///etc/passwd"}]), "invalid_value", "images[0].image_url"),
        (json!(vec![json!({"image_url": "data:image/png;base64,QUJD"}); 17]), "array_above_max_length", "images"),
    ] {
        let body = with("images", images);
        let result = decode(Operation::Edit, body.as_bytes(), None);
        assert_eq!(refused(result, &body), (code.to_owned(), param.to_owned()), "{body}");
    }
    let body = with("images", json!(vec![json!({"image_url": "https://example.invalid/a.png"}); 16]));
    assert!(decode(Operation::Edit, body.as_bytes(), None).is_ok());
}

#[test]
fn the_content_of_a_file_decides_its_type() {
    let prompt = FormPart { name: "prompt".to_owned(), data: "x".into(), ..FormPart::default() };
    let read = |part: FormPart| {
        let parts = [prompt.clone(), part];
        let members = form_members(&parts)?;
        decode_form(&parts, &members, None).map(|request| match &request.images[..] {
            [super::InputImage::File { content_type, .. }] => *content_type,
            images => panic!("{images:?}"),
        })
    };
    for (content_type, data, expected) in [
        (None, PNG, "image/png"),
        (Some("image/png"), &b"RIFF\x04\0\0\0WEBP"[..], "image/webp"),
        (Some("application/octet-stream"), &b"\xff\xd8\xff\xdb"[..], "image/jpeg"),
        (Some("image/jpg"), &b"unknown"[..], "image/jpeg"),
    ] {
        assert_eq!(read(file("image", content_type, data)).unwrap(), expected);
    }
    for part in
        [file("image[]", None, b"GIF89a"), file("image", Some("image/png"), b""), file("image", Some("a/b"), b"x")]
    {
        assert_eq!(refused(read(part), "another file").1, "image");
    }
    assert_eq!(refused(read(file("mask", None, PNG)), "a mask").1, "mask");
    assert_eq!(refused(read(file("markup", None, PNG)), "markup").1, "markup");
    let members = form_members(std::slice::from_ref(&prompt)).unwrap();
    assert_eq!(refused(decode_form(std::slice::from_ref(&prompt), &members, None), "no image").1, "image");
}

#[test]
fn a_form_is_read_like_a_json_body() {
    let text =
        |name: &str, data: &'static str| FormPart { name: name.to_owned(), data: data.into(), ..FormPart::default() };
    let parts = [
        file("image", None, PNG),
        text("prompt", "12"),
        text("n", "2"),
        text("stream", "true"),
        text("input_fidelity", "high"),
        text("response_format", "url"),
    ];
    let members = form_members(&parts).unwrap();
    let request = decode_form(&parts, &members, None).unwrap();
    assert_eq!((request.count, request.mode, &*request.prompt.read()), (2, Mode::Stream, "12"));
    let warnings = ["ignored:input_fidelity", "clamped:response_format"];
    assert_eq!(request.warnings.tokens(), warnings);
}
