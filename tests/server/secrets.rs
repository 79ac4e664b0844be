//! Nothing private is ever logged: a complete session with a marker in every secret.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use codex_proxy::auth::{Credential, TokenResponse};
use codex_proxy::clock::{Clock as _, SystemClock};
use codex_proxy::secret::Secret;
use serde_json::{Value, json};

use crate::clock::ManualClock;
use crate::fake::{FakeUpstream, Script};
use crate::fake_issuer::{FakeIssuer, Scripted};
use crate::proxy::{Launch, TestProxy};
use crate::wire::Ask;
use crate::{BEGUN, COMPLETED, CREATED, SECOND, WHOLE, begun, chat, signed_out, store, with};

/// Part of every secret of the session.
const MARK: &str = "canary";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const KEY: &str = "sk-canary-key";
const PROMPT: &str = "canary prompt";
const COOKIE: &str = "__cf_bm=canary-cookie";
/// Reasoning in a response, and in the next request.
const REASONING: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"reasoning","id":"rs_canary","summary":[{"type":"summary_text","text":"canary thought"}],"encrypted_content":"gAAAA-canary"}}"#;
const CALL: &str = r#"{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call","call_id":"call_canary","name":"canary_tool","arguments":"{\"a\":\"canary\"}"}}"#;

/// A token with the marker in its payload, where it is encoded, and after it, where it isn't.
fn token(serial: u32, end: SystemTime) -> Secret {
    use base64::Engine as _;
    let claims = json!({
        "exp": end.duration_since(UNIX_EPOCH).unwrap().as_secs(),
        "email": "canary@example.com",
        "serial": serial,
        "https://api.openai.com/auth": {"chatgpt_account_id": "acct-canary", "chatgpt_plan_type": "plus"},
    });
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims.to_string());
    Secret::new(format!("canary-head.{payload}.canary-signature-{serial}"))
}

fn grant(serial: u32, end: SystemTime) -> TokenResponse {
    TokenResponse {
        id_token: Some(token(serial, end)),
        access_token: Some(token(serial + 1, end)),
        refresh_token: Some(Secret::new(format!("rt_canary_{serial}"))),
    }
}

fn granted(serial: u32) -> Scripted {
    let grant = grant(serial, SystemClock.now() + DAY);
    let text = |secret: Option<Secret>| secret.map(|secret| secret.expose().to_owned());
    Scripted::Grant(json!({
        "id_token": text(grant.id_token), "access_token": text(grant.access_token),
        "refresh_token": text(grant.refresh_token),
    }))
}

struct Session {
    upstream: FakeUpstream,
    proxy: TestProxy,
}

impl Session {
    async fn chat(&self, scripts: impl IntoIterator<Item = Script>) -> u16 {
        self.upstream.clear("/responses");
        for script in scripts {
            self.upstream.on("/responses", script);
        }
        let request = with(chat(), "messages", json!([{"role": "user", "content": PROMPT}]));
        self.ask(Ask::chat(&request)).await;
        self.ask(Ask::chat(&with(request, "stream", json!(true)))).await
    }

    async fn ask(&self, ask: Ask) -> u16 {
        ask.header("authorization", &format!("Bearer {KEY}")).send(&self.proxy).await.status
    }

    /// All events that the log has messages for.
    async fn play(&self) {
        let refused = |status, body: &str| Script::json(status, body);
        let message = format!(r#"{{"error":{{"message":"bad: {PROMPT}","code":null}}}}"#);
        let failed = format!(
            r#"{{"type":"response.failed","response":{{"error":{{"code":"invalid_prompt","message":"{PROMPT}"}}}}}}"#
        );
        assert_eq!(self.chat([Script::events(&WHOLE)]).await, 200);
        assert_eq!(self.chat([refused(401, &message), Script::events(&WHOLE)]).await, 200);
        for status in [400, 403, 404, 429, 500, 503] {
            self.chat([refused(status, &message)]).await;
        }
        self.chat([Script::answer(403, &[("content-type", "text/html")], &format!("<html>{PROMPT}</html>"))]).await;
        self.chat([Script::answer(500, &[], PROMPT)]).await;
        self.chat([refused(400, &format!(r#"{{"detail":"Unsupported parameter: {PROMPT}"}}"#))]).await;
        self.chat([begun(&[CREATED]).event(&failed).end()]).await;
        self.chat([begun(&BEGUN).event(&failed).end()]).await;
        self.chat([begun(&BEGUN).event(&format!("{{{PROMPT}")).cut()]).await;
        self.bad_requests().await;
    }

    /// The same from clients of every API, with private content in their requests.
    async fn play_every_dialect(&self) {
        let failed = format!(
            r#"{{"type":"response.failed","response":{{"error":{{"code":"server_error","message":"{PROMPT}"}}}}}}"#
        );
        let answer = || Script::stream(&[("set-cookie", COOKIE), ("x-codex-turn-state", "canary-state")]);
        let refused = format!(r#"{{"error":{{"message":"{PROMPT}","param":"{PROMPT}","type":"{PROMPT}"}}}}"#);
        let scripts = [
            answer().event(CREATED).event(REASONING).event(CALL).event(COMPLETED).end(),
            answer().event(CREATED).event(REASONING).event(CALL).event(&failed).end(),
            answer().event(CREATED).event(REASONING).event(&format!("{{\"{PROMPT}")).cut(),
            answer().event(CREATED).event(&failed).end(),
            Script::json(400, &refused),
            Script::answer(401, &[("set-cookie", COOKIE)], &refused),
            Script::answer(403, &[("set-cookie", COOKIE)], &format!("<html>{PROMPT}</html>")),
            Script::answer(302, &[("location", "https://canary.invalid/?code=canary")], ""),
        ];
        for script in scripts {
            self.upstream.replace("/responses", script);
            for (path, request) in every_dialect() {
                for stream in [false, true] {
                    let ask = Ask::post(path, &with(request.clone(), "stream", json!(stream)));
                    self.ask(ask.header("cookie", COOKIE).header("x-request-id", "canary-id")).await;
                }
            }
        }
    }

    async fn bad_requests(&self) {
        for body in [
            format!("{{\"messages\": {PROMPT}"),
            json!({"model": PROMPT, "messages": PROMPT}).to_string(),
            json!({"model": "m", "messages": [{"role": PROMPT, "content": PROMPT}]}).to_string(),
            json!({"model": "m", "messages": [{"role": "user", "content": [{"type": PROMPT}]}]}).to_string(),
            with(chat(), "stop", json!([PROMPT, 5])).to_string(),
            with(chat(), "tools", json!([{"type": "function", "function": {"name": [PROMPT]}}])).to_string(),
        ] {
            let status = self.ask(Ask::raw("/v1/chat/completions", body.clone())).await;
            assert_eq!(status, 400, "{body}");
        }
        let wrong = Ask::chat(&chat()).header("x-api-key", "sk-canary-wrong").send(&self.proxy).await;
        assert_eq!(wrong.status, 401);
    }
}

/// A request to each API, with all members that a client may send.
fn every_dialect() -> [(&'static str, Value); 7] {
    let call = json!({"id": "call_canary", "type": "function", "function": {"name": "canary_tool", "arguments": "{\"a\":\"canary\"}"}});
    let chat = json!({"messages": [
        {"role": "system", "content": PROMPT},
        {"role": "assistant", "content": PROMPT, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_canary", "content": PROMPT},
    ], "user": "canary user"});
    let responses = json!({"instructions": PROMPT, "input": [
        {"type": "reasoning", "id": "rs_canary", "summary": [], "encrypted_content": "gAAAA-canary"},
        {"type": "function_call", "call_id": "call_canary", "name": "canary_tool", "arguments": "{\"a\":\"canary\"}"},
        {"type": "function_call_output", "call_id": "call_canary", "output": PROMPT},
    ], "prompt_cache_key": "canary cache"});
    let messages = json!({"max_tokens": 100, "system": PROMPT, "messages": [
        {"role": "user", "content": PROMPT},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": PROMPT, "signature": "gAAAA-canary"},
            {"type": "tool_use", "id": "call_canary", "name": "canary_tool", "input": {"a": "canary"}},
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_canary", "content": PROMPT}]},
    ], "metadata": {"user_id": "canary user"}});
    let ollama = json!({"messages": [
        {"role": "user", "content": PROMPT},
        {"role": "assistant", "thinking": PROMPT, "tool_calls": [{"function": {"name": "canary_tool", "arguments": {"a": "canary"}}}]},
        {"role": "tool", "tool_name": "canary_tool", "content": PROMPT},
    ]});
    let gemini = json!({"systemInstruction": {"parts": [{"text": PROMPT}]}, "contents": [
        {"role": "user", "parts": [{"text": PROMPT}]},
        {"role": "model", "parts": [
            {"functionCall": {"name": "canary_tool", "args": {"a": "canary"}}, "thoughtSignature": "Y3hyMS5jYW5hcnk="},
        ]},
        {"role": "user", "parts": [{"functionResponse": {"name": "canary_tool", "response": {"output": PROMPT}}}]},
    ], "labels": {"canary": "canary"}});
    [
        ("/v1beta/models/gpt-5.5:generateContent?$unused=canary", gemini),
        ("/v1/chat/completions", with(chat, "model", json!("gpt-5.5"))),
        ("/v1/completions", json!({"model": "gpt-5.5", "prompt": PROMPT, "suffix": PROMPT})),
        ("/v1/responses", with(responses, "model", json!("gpt-5.5"))),
        ("/v1/messages", with(messages, "model", json!("gpt-5.5"))),
        ("/api/chat", with(ollama, "model", json!("gpt-5.5"))),
        ("/api/generate", json!({"model": "gpt-5.5", "prompt": PROMPT, "system": PROMPT, "template": PROMPT})),
    ]
}

async fn session(format: &str, end: SystemTime, answer: Scripted) -> (Launch, Session) {
    session_with(format, end, answer, |launch| launch).await
}

async fn session_with(
    format: &str,
    end: SystemTime,
    answer: Scripted,
    change: impl FnOnce(Launch) -> Launch,
) -> (Launch, Session) {
    let upstream = FakeUpstream::start().await;
    let issuer = FakeIssuer::start(&Arc::new(ManualClock::at(SystemClock.now()))).await;
    issuer.script([answer]);
    let credential = Credential::from_response(grant(1, end), SystemClock.now() - Duration::from_secs(60)).unwrap();
    let launch = signed_out(&upstream)
        .setting("auth.url", &issuer.address)
        .setting("api_keys", KEY)
        .setting("log.format", format)
        .setting("upstream.max_retries", "1")
        .file("credentials.json", &store(&credential))
        .argument("-vv");
    let launch = change(launch);
    let proxy = launch.start();
    (launch, Session { upstream, proxy })
}

fn assert_unmarked(text: &str) {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    // A text has three encodings in Base64, depending on its offset.
    let forms = ["", "x", "xx"].map(|before| {
        let form = encoded.encode(format!("{before}{MARK}"));
        form.get(before.len().next_multiple_of(2) + 1..form.len() - 2).unwrap().to_owned()
    });
    for line in text.lines() {
        let is_marked = line.to_lowercase().contains(MARK) || forms.iter().any(|form| line.contains(form));
        assert!(!is_marked, "{line}");
    }
}

#[tokio::test]
async fn a_session_leaves_nothing_private_in_the_log() {
    for format in ["text", "json"] {
        let (_launch, session) = session(format, SystemClock.now() + DAY, granted(3)).await;
        session.play().await;
        session.play_every_dialect().await;
        session.proxy.says("the access token was refreshed", SECOND).await;
        let log = session.proxy.log();
        assert!(log.lines().count() > 40 && log.contains("request ended"), "{log}");
        assert_unmarked(&log);
    }
}

#[tokio::test]
async fn a_session_leaves_nothing_private_in_its_cassettes() {
    let folder = tempfile::tempdir().unwrap();
    let record = |launch: Launch| launch.argument("--record").argument(folder.path().to_str().unwrap());
    let (_launch, mut session) = session_with("text", SystemClock.now() + DAY, granted(3), record).await;
    session.play().await;
    session.play_every_dialect().await;
    session.proxy.signal("TERM");
    assert_eq!(session.proxy.ended().await, Some(0));
    let mut count = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        assert_unmarked(&std::fs::read_to_string(file.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 40, "{count}");
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_nothing_private_in_the_log() {
    for format in ["text", "json"] {
        for (refusal, status) in [(400, 503), (401, 401), (500, 503)] {
            let body = json!({"error": {"code": "Canary-1", "message": "rt_canary_1 of canary@example.com"}});
            let answer = Scripted::Answer(refusal, body);
            let once = |launch: Launch| launch.setting("upstream.max_retries", "0");
            let (_launch, session) = session_with(format, SystemClock.now() - DAY, answer, once).await;
            assert_eq!(session.chat([Script::events(&WHOLE)]).await, status);
            session.proxy.says("the access token can't be refreshed", SECOND).await;
            assert_unmarked(&session.proxy.log());
        }
    }
}

/// A login file of another program, full of secrets.
fn borrowed(end: SystemTime) -> String {
    let text = |serial| token(serial, end).expose().to_owned();
    let tokens = json!({
        "id_token": text(11), "access_token": text(12), "refresh_token": "rt_canary_12", "account_id": "acct-canary-2",
    });
    json!({"tokens": tokens, "last_refresh": "2026-01-01T00:00:00Z"}).to_string()
}

#[tokio::test]
async fn no_command_shows_a_token_or_a_key() {
    let end = SystemClock.now() + DAY;
    let (launch, session) = session("text", end, granted(3)).await;
    let launch =
        launch.file("auth.json", &borrowed(end)).file("broken.json", "{\"tokens\": {\"access_token\": \"canary-head");
    let path = |name: &str| launch.home().join(name).to_str().unwrap().to_owned();
    let (login, broken) = (path("auth.json"), path("broken.json"));
    for (arguments, code) in [
        (&["-vv", "status"][..], 0),
        (&["-vv", "status", "--json"], 0),
        (&["-vv", "config", "show"], 0),
        (&["-vv", "config", "check"], 0),
        (&["-vv", "login", "--import", &broken], 1),
        (&["-vv", "login", "--import", &login], 0),
        (&["-vv", "login", "--import", &login, "--take-over"], 0),
        (&["-vv", "accounts", "list"], 0),
        (&["-vv", "status", "--json"], 0),
        (&["-vv", "logout", "--all"], 0),
    ] {
        let command = launch.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.run()).await.unwrap();
        let reported = String::from_utf8(output.stdout).unwrap() + std::str::from_utf8(&output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {reported}");
        for secret in [KEY, "canary-head", "canary-signature", "rt_canary"] {
            assert!(!reported.contains(secret), "{arguments:?}: {reported}");
        }
    }
    drop(session);
}

#[cfg(target_os = "linux")]
#[test]
fn the_daemon_leaves_no_core_dump() {
    let proxy = crate::proxy::Launch::demo().start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", proxy.process_id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
