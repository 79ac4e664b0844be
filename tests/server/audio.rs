//! Transcription: requests in OpenAI's form are translated to the backend's, and the client gets the text.

use serde_json::json;

use crate::fake::Script;
use crate::limits::becomes;
use crate::uploads::{Part, form, text};
use crate::wire::{Answer, Ask};
use crate::{Bench, Launch, SECOND};

const TRANSCRIBE: &str = "/backend-api/transcribe";
const PATH: &str = "/v1/audio/transcriptions";
/// An audio file with bytes that are special in JSON and in forms.
const WAV: &[u8] = b"RIFF\0\xff\r\n--X-2 \\ud83d\xef\xbb\xbf";

fn upload(parts: &[Part<'_>]) -> Ask {
    let own = [("file", Some("my secret.wav"), "audio/wav", WAV), ("model", None, "", b"whisper-1")];
    form(PATH, &[&own, parts].concat())
}

async fn transcribing(change: impl FnOnce(Launch) -> Launch) -> Bench {
    let bench = Bench::with(change).await;
    let headers = [("content-type", "application/json"), ("x-codex-active-limit", "codex")];
    bench.upstream.on(TRANSCRIBE, Script::answer(200, &headers, r#"{"text":"Gr\u00fc\u00dfe 👋","new":1}"#));
    bench
}

fn code(answer: &Answer) -> (u16, Option<String>, Option<String>) {
    let text = |name: &str| answer.error()[name].as_str().map(str::to_owned);
    (answer.status, text("code"), text("param"))
}

#[tokio::test]
async fn an_audio_file_is_sent_with_its_language_and_nothing_else() {
    let bench = transcribing(|launch| launch).await;
    let ask = upload(&[text("language", "de"), text("prompt", "names"), text("temperature", "0")]);
    let answer = ask.header("authorization", "Bearer any").send(&bench.proxy).await;
    assert_eq!((answer.status, answer.text()), (200, r#"{"text":"Gr\u00fc\u00dfe 👋","new":1}"#));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("x-proxy-warnings"), "ignored:prompt");
    assert_eq!(answer.header("x-codex-active-limit"), "codex");
    let sent = bench.upstream.requests("/transcribe").remove(0);
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", TRANSCRIBE));
    assert_eq!(sent.header("authorization"), "Bearer at_secret");
    assert_eq!(sent.header("chatgpt-account-id"), "acct-1");
    let boundary = sent.header("content-type").strip_prefix("multipart/form-data; boundary=").unwrap();
    let file = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"audio.wav\"\r\ncontent-type: audio/wav\r\n\r\n"
    );
    let rest = format!(
        "\r\n--{boundary}\r\ncontent-disposition: form-data; name=\"language\"\r\n\r\nde\r\n--{boundary}--\r\n"
    );
    assert_eq!(sent.body, [file.as_bytes(), WAV, rest.as_bytes()].concat());
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
}

#[tokio::test]
async fn a_response_can_be_plain_text() {
    let bench = transcribing(|launch| launch).await;
    for prefix in ["/v1", "", "/openai/v1", "/openai/deployments/whisper"] {
        let parts = [("file", Some("a.mp3"), "", WAV), text("response_format", "text")];
        let answer = form(&format!("{prefix}/audio/transcriptions"), &parts).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.text()), (200, "Grüße 👋\n"), "{prefix}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn fields_without_a_meaning_for_the_backend_may_have_any_content() {
    let bench = transcribing(|launch| launch).await;
    let speaker = format!("data:audio/wav;base64,{}", "A".repeat(430_000));
    let parts = [
        text("top_p", "1"),
        text("seed", "x"),
        text("known_speaker_references[]", &speaker),
        ("other", Some("b.bin"), "", b"\xff"),
        text("languages[]", "de"),
    ];
    let answer = upload(&parts).send(&bench.proxy).await;
    let warnings = "ignored:top_p, ignored:seed, ignored:known_speaker_references, ignored:other";
    assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, warnings), "{}", answer.text());
    let sent = String::from_utf8_lossy(&bench.upstream.requests("/transcribe").remove(0).body).into_owned();
    assert!(sent.contains("name=\"language\"\r\n\r\nde\r\n"), "a single language is passed on: {sent}");
}

#[tokio::test]
async fn a_deployment_is_the_model_of_a_form_without_one() {
    let bench = transcribing(|launch| launch).await;
    for (deployment, parts, warnings) in
        [("whisper", &[][..], ""), ("speech", &[], "ignored:model"), ("speech", &[text("model", "whisper-1")], "")]
    {
        let parts = [&[("file", Some("note.oga"), "", WAV)], parts].concat();
        let path = format!("/openai/deployments/{deployment}/audio/transcriptions");
        let answer = form(&path, &parts).send(&bench.proxy).await;
        assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, warnings), "{deployment}");
    }
}

#[tokio::test]
async fn unsupported_requests_are_refused_by_name_without_a_call() {
    let bench = transcribing(|launch| launch.setting("audio.max_bytes", "1KiB")).await;
    let invalid = |code: &str, param: &str| (400, Some(code.to_owned()), Some(param.to_owned()));
    for (ask, expected) in [
        (upload(&[text("response_format", "verbose_json")]), invalid("unsupported_value", "response_format")),
        (upload(&[text("response_format", "vtt")]), invalid("unsupported_value", "response_format")),
        (upload(&[text("stream", "true")]), invalid("unsupported_value", "stream")),
        (
            upload(&[text("timestamp_granularities[]", "word")]),
            invalid("unsupported_parameter", "timestamp_granularities"),
        ),
        (upload(&[text("include[]", "logprobs")]), invalid("unsupported_parameter", "include")),
        (form(PATH, &[text("model", "whisper-1")]), invalid("missing_required_parameter", "file")),
        (form(PATH, &[("file", Some("a.txt"), "text/plain", b"x")]), invalid("invalid_value", "file")),
        (
            form(PATH, &[("file", Some("a.wav"), "audio/wav", &[0; 1025])]),
            (413, Some("request_too_large".to_owned()), Some("file".to_owned())),
        ),
        (Ask::post(PATH, &json!({"file": "x"})), (400, None, None)),
    ] {
        let answer = ask.send(&bench.proxy).await;
        assert_eq!(code(&answer), expected, "{}", answer.text());
    }
    for path in ["/v1/audio/speech", "/v1/audio/translations"] {
        for ask in [Ask::post(path, &json!({})), form(path, &[text("model", "tts-1")])] {
            let answer = ask.send(&bench.proxy).await;
            assert_eq!(code(&answer).1.as_deref(), Some("unsupported_endpoint"), "{path}");
        }
    }
    assert_eq!(bench.upstream.requests("/transcribe").len(), 0);
}

#[tokio::test]
async fn failures_of_the_backend_are_errors_in_openai_s_form() {
    let page = "<html><h1>Sorry, you have been blocked</h1></html>";
    for (script, status, expected) in [
        (Script::answer(403, &[("content-type", "text/html")], page), 502, "cloudflare_challenge"),
        (Script::json(403, r#"{"detail":{"code":"not_in_plan","message":"No."}}"#), 403, "not_in_plan"),
        (Script::json(200, r#"{"segments":[]}"#), 502, "upstream_stream_damaged"),
        (Script::stream(&[]).chunk(r#"{"text":"a"#).cut(), 502, "upstream_stream_truncated"),
        (Script::silence(), 504, "upstream_timeout"),
    ] {
        let bench = Bench::with(|launch| launch.setting("audio.timeout", "300ms")).await;
        bench.upstream.on(TRANSCRIBE, script);
        let answer = upload(&[]).send(&bench.proxy).await;
        assert_eq!(code(&answer), (status, Some(expected.to_owned()), None), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_client_that_disconnects_cancels_the_call() {
    let bench = Bench::new().await;
    bench.upstream.on(TRANSCRIBE, Script::silence());
    let sent = upload(&[]).fire(&bench.proxy).await;
    bench.upstream.received("/transcribe", 1).await;
    drop(sent);
    assert!(bench.upstream.hung_up(1, 5 * SECOND).await);
    becomes(&bench.proxy, "codex_proxy_memory_reserved_bytes", 0).await;
}
