//! Signing in at the user's door, against the simulated issuer: what is said, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use codex_proxy::clock::SystemClock;
use codex_proxy::demo::Demo;

/// A directory for all our files, and an issuer.
struct Home {
    directory: tempfile::TempDir,
    demo: Demo,
}

struct Ended {
    code: i32,
    answer: String,
    talk: String,
}

impl Home {
    async fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), demo: Demo::start(Arc::new(SystemClock)).await.unwrap() }
    }

    /// A command in an environment without a display.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codex-proxy"));
        command.args(arguments).env_clear().env("CODEX_PROXY_HOME", self.directory.path());
        command.env("CODEX_PROXY_AUTH_URL", self.demo.issuer_url());
        command.env("CODEX_PROXY_UPSTREAM_URL", self.demo.backend_url());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        Ended::of(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    }

    /// Types a code on the issuer's page.
    async fn type_in(&self, code: &str) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let page = client.post(format!("{}/codex/device", self.demo.issuer_url()));
        let form = format!("user_code={code}");
        let reply = page.header("content-type", "application/x-www-form-urlencoded").body(form).send().await.unwrap();
        assert_eq!(reply.status(), 200);
    }

    /// Signs in with a device code; what was said up to the code, and how it ended.
    async fn device_login(&self, arguments: &[&str]) -> (String, Ended) {
        let mut child = self.command(arguments).spawn().unwrap();
        let (said, child) = tokio::task::spawn_blocking(move || (up_to_code(&mut child), child)).await.unwrap();
        self.type_in(said.split_whitespace().last().unwrap()).await;
        let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        (said, Ended::of(output))
    }
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), answer: text(output.stdout), talk: text(output.stderr) }
    }
}

fn up_to_code(child: &mut Child) -> String {
    let mut said = String::new();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    while !said.contains("DEMO-") {
        assert!(talk.read_line(&mut said).unwrap() > 0, "{said}");
    }
    child.stderr = Some(talk.into_inner());
    said
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn without_a_display_the_code_is_chosen_with_a_word_about_it() {
    let home = Home::new().await;
    let (said, ended) = home.device_login(&["login"]).await;
    assert!(said.contains("no display") && said.contains("login --no-browser"), "{said}");
    assert!(said.contains(&format!("{}/codex/device", home.demo.issuer_url())), "{said}");
    assert_eq!((ended.code, &*ended.answer), (0, ""), "{}", ended.talk);
    let status = home.run(&["status"]).await;
    assert_eq!(status.code, 0);
    assert!(status.answer.contains("demo@codex-proxy.invalid"), "{}", status.answer);
}

#[tokio::test]
async fn a_code_that_is_asked_for_needs_no_explanation() {
    let home = Home::new().await;
    let (said, ended) = home.device_login(&["login", "--device"]).await;
    assert!(said.starts_with("open this address on any device"), "{said}");
    assert_eq!(ended.code, 0, "{}", ended.talk);
}
