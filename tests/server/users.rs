//! Requests from other users of the machine, if no client keys are set.
//!
//! The other user is a `curl` process with the uid of `nobody`. Only root can start one, so these tests report
//! that they are skipped when another user runs them.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::fake::{FakeUpstream, Script};
use crate::proxy::{Launch, TestProxy};
use crate::reloads::reload;
use crate::{Bench, WHOLE, chat, signed_in};

const NOBODY: u32 = 65534;
const KEYS: &str = "[[keys]]\nname = 'desk'\nkey = 'sk-desk-of-this-user'\n";

/// A request of another user.
struct Foreign<'a> {
    path: &'a str,
    arguments: Vec<String>,
}

/// Status and body of the response.
struct Response {
    status: u16,
    body: String,
}

impl Response {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

impl<'a> Foreign<'a> {
    fn get(path: &'a str) -> Self {
        Self { path, arguments: Vec::new() }
    }

    fn post(path: &'a str, body: &Value) -> Self {
        Self::get(path).header("content-type: application/json").with(&["--data-raw", &body.to_string()])
    }

    fn header(self, header: &str) -> Self {
        self.with(&["-H", header])
    }

    fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    async fn send(&self, proxy: &TestProxy) -> Response {
        self.send_to(&format!("http://{}", proxy.authority())).await
    }

    async fn send_to(&self, base: &str) -> Response {
        let mut curl = curl();
        curl.args(&self.arguments).arg(format!("{base}{}", self.path));
        let output = tokio::task::spawn_blocking(move || curl.output()).await.unwrap().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{text}: {:?}", output.stderr));
        Response { status: status.parse().unwrap(), body: body.to_owned() }
    }
}

fn curl() -> Command {
    let mut curl = Command::new("curl");
    curl.uid(NOBODY).gid(NOBODY).current_dir("/").stdin(Stdio::null());
    curl.args(["--noproxy", "*", "-sS", "-m", "20", "-w", "\n%{http_code}"]);
    curl
}

/// Whether a process of another user can be started here; prints a note if not.
#[expect(clippy::print_stderr, reason = "a skipped test must be visible")]
fn can_run_as_other() -> bool {
    let can =
        rustix::process::geteuid().is_root() && curl().arg("--version").output().is_ok_and(|out| out.status.success());
    if !can {
        eprintln!("SKIPPED: it takes root and curl to send a request as another user");
    }
    can
}

fn requests() -> [(&'static str, Foreign<'static>); 11] {
    let hello = json!([{"role": "user", "content": "hi"}]);
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ];
    let upgrade = upgrade.iter().fold(Foreign::get("/v1/responses"), |request, header| request.header(header));
    [
        ("openai", Foreign::post("/v1/chat/completions", &chat())),
        ("openai", Foreign::post("/v1/responses", &json!({"model": "gpt-5.5", "input": "hi"}))),
        ("anthropic", Foreign::post("/v1/messages", &json!({"model": "gpt-5.5", "max_tokens": 9, "messages": hello}))),
        ("ollama", Foreign::post("/api/chat", &json!({"model": "gpt-5.5", "messages": hello}))),
        ("openai", upgrade),
        ("openai", Foreign::get("/v1/models")),
        ("openai", Foreign::get("/usage")),
        ("openai", Foreign::get("/metrics")),
        ("openai", Foreign::get("/")),
        ("openai", Foreign::get("/").header("accept: text/html")),
        ("openai", Foreign::get("/v1/responses/resp_1")),
    ]
}

#[tokio::test]
async fn another_user_is_rejected_with_the_setting_that_allows_access() {
    if !can_run_as_other() {
        return;
    }
    let bench = Bench::answering(|launch| launch).await;
    for (api, request) in requests() {
        let response = request.send(&bench.proxy).await;
        assert_eq!(response.status, 403, "{}: {}", request.path, response.body);
        let body = response.json();
        let message = match api {
            "ollama" => body["error"].as_str(),
            _ => body["error"]["message"].as_str(),
        };
        let message = message.unwrap_or_else(|| panic!("{body}"));
        for part in ["uid 65534", "[[keys]]", "allow_other_users = true"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        match api {
            "openai" => assert_eq!(body["error"]["code"], "foreign_user", "{body}"),
            "anthropic" => {
                assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("permission_error")));
            }
            _ => {}
        }
    }
    assert_eq!(bench.request_count(), 0);
    assert_eq!(bench.upstream.requests("/wham/usage").len(), 0, "the backend gets no request of another user");
    for path in ["/health", "/ready"] {
        assert_eq!(Foreign::get(path).send(&bench.proxy).await.status, 200, "{path}");
    }
    assert_eq!(crate::wire::Ask::chat(&chat()).send(&bench.proxy).await.status, 200, "the own user is served");
}

#[tokio::test]
async fn both_address_families_are_checked() {
    if !can_run_as_other() {
        return;
    }
    // Some machines have no IPv6.
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    let bench = Bench::answering(|launch| launch).await;
    let port = bench.proxy.authority().rsplit_once(':').unwrap().1.to_owned();
    let hosts = if has_ipv6 { &["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"][..] } else { &["127.0.0.1"] };
    for host in hosts {
        let base = format!("http://{host}:{port}");
        let response = Foreign::post("/v1/chat/completions", &chat()).send_to(&base).await;
        assert_eq!(response.status, 403, "{host}: {}", response.body);
        assert!(response.body.contains("uid 65534"), "{}", response.body);
    }
}

#[tokio::test]
async fn a_key_or_the_setting_allows_another_user() {
    if !can_run_as_other() {
        return;
    }
    let keyed = Bench::answering(|launch| launch.file("config.toml", KEYS)).await;
    let request = || Foreign::post("/v1/chat/completions", &chat());
    assert_eq!(request().send(&keyed.proxy).await.status, 401);
    assert_eq!(request().header("authorization: Bearer sk-desk-of-this-user").send(&keyed.proxy).await.status, 200);
    let open = Bench::answering(|launch| launch.setting("allow_other_users", "true")).await;
    assert_eq!(request().send(&open.proxy).await.status, 200);
}

#[tokio::test]
async fn the_rule_follows_a_reload() {
    if !can_run_as_other() {
        return;
    }
    let upstream = FakeUpstream::start().await;
    upstream.on("/responses", Script::events(&WHOLE));
    let launch = signed_in(&upstream).file("config.toml", "");
    let proxy = launch.start();
    let request = Foreign::post("/v1/chat/completions", &chat());
    assert_eq!(request.send(&proxy).await.status, 403);
    reload(&launch, &proxy, "allow_other_users = true").await;
    assert_eq!(request.send(&proxy).await.status, 200);
    assert!(!proxy.log().contains("after a restart"), "{}", proxy.log());
    reload(&launch, &proxy, "").await;
    assert_eq!(request.send(&proxy).await.status, 403);
}

#[tokio::test]
async fn the_demo_serves_every_user() {
    if !can_run_as_other() {
        return;
    }
    let proxy = Launch::demo().start();
    let response = Foreign::post(
        "/v1/chat/completions",
        &json!({"model": "default", "messages": [{"role": "user", "content": "hi"}]}),
    )
    .send(&proxy)
    .await;
    assert_eq!(response.status, 200, "{}", response.body);
}
