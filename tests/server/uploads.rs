//! Forms with files: which endpoints accept them, and that web pages can't send them.

use crate::Bench;
use crate::fake::Script;
use crate::wire::Ask;

/// A part of a form: name, file name, content type and content.
pub(crate) type Part<'p> = (&'p str, Option<&'p str>, &'p str, &'p [u8]);

/// A request with a form.
pub(crate) fn form(path: &str, parts: &[Part<'_>]) -> Ask {
    let mut body = Vec::new();
    for (name, file_name, content_type, content) in parts {
        let file_name = file_name.map(|file_name| format!("; filename=\"{file_name}\"")).unwrap_or_default();
        let content_type =
            if content_type.is_empty() { String::new() } else { format!("Content-Type: {content_type}\r\n") };
        let head = format!("--X-1\r\nContent-Disposition: form-data; name=\"{name}\"{file_name}\r\n{content_type}\r\n");
        body.extend_from_slice(&[head.as_bytes(), content, b"\r\n"].concat());
    }
    body.extend_from_slice(b"--X-1--\r\n");
    Ask::raw(path, body).header("content-type", "multipart/form-data; boundary=X-1")
}

/// A text part.
pub(crate) fn text<'p>(name: &'p str, content: &'p str) -> Part<'p> {
    (name, None, "", content.as_bytes())
}

#[tokio::test]
async fn a_web_page_can_not_upload() {
    let bench = Bench::with(|launch| launch.setting("allowed_origins", "https://chat.example")).await;
    bench.upstream.on("/images/edits", Script::json(200, r#"{"data":[{"b64_json":"AAAA"}]}"#));
    bench.upstream.on("/backend-api/transcribe", Script::json(200, r#"{"text":"hi"}"#));
    let call_count = || bench.upstream.requests("/edits").len() + bench.upstream.requests("/transcribe").len();
    let edit = [("image", Some("a.png"), "image/png", b"\x89PNG".as_slice()), text("prompt", "bluer")];
    let audio = [("file", Some("a.wav"), "audio/wav", b"RIFF".as_slice())];
    for ask in [form("/v1/images/edits", &edit), form("/v1/audio/transcriptions", &audio)] {
        let before = call_count();
        for (name, value, expected) in [
            ("origin", "https://evil.invalid", "foreign_origin"),
            ("origin", "null", "foreign_origin"),
            ("origin", "http://localhost:3000", "foreign_origin"),
            ("sec-fetch-site", "cross-site", "cross_site"),
            ("sec-fetch-site", "same-site", "cross_site"),
            ("host", "rebound.invalid", "foreign_host"),
        ] {
            let answer = ask.clone().header(name, value).send(&bench.proxy).await;
            assert_eq!((answer.status, answer.error()["code"].as_str()), (403, Some(expected)), "{name}: {value}");
        }
        assert_eq!(call_count(), before);
        let allowed = ask.clone().header("origin", "https://chat.example").header("sec-fetch-site", "cross-site");
        let own = ask.clone().header("origin", &format!("http://{}", bench.proxy.authority()));
        for ask in [allowed, own, ask] {
            assert_eq!(ask.send(&bench.proxy).await.status, 200);
        }
        assert_eq!(call_count(), before + 3);
    }
}

#[tokio::test]
async fn other_endpoints_accept_no_forms() {
    let bench = Bench::new().await;
    for path in ["/v1/images/generations", "/v1/chat/completions", "/v1/responses", "/v1/alpha/search"] {
        let answer = form(path, &[text("prompt", "x")]).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.error()["code"].as_str()), (415, Some("unsupported_content_type")), "{path}");
    }
}

#[tokio::test]
async fn an_error_about_the_content_type_says_how_to_send_the_request() {
    let bench = Bench::new().await;
    for (path, advice) in [
        ("/v1/audio/transcriptions", "multipart/form-data (curl: -F file=@speech.mp3)"),
        ("/images/edits", "multipart/form-data (curl: -F image=@photo.png"),
        ("/v1/images/generations", "'content-type: application/json'"),
    ] {
        let answer = Ask::raw(path, "ID3").header("content-type", "audio/mpeg").send(&bench.proxy).await;
        assert_eq!(answer.status, 415, "{path}");
        assert!(answer.text().contains(advice), "{}", answer.text());
    }
}
