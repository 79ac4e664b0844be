//! The keyring, with a real Secret Service on a private bus if `dbus-run-session` and `gnome-keyring-daemon`
//! are installed, and without any keyring on every system.

#![expect(clippy::unwrap_used, reason = "a test that can't continue has failed")]
#![cfg(target_os = "linux")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use codex_proxy::clock::SystemClock;
use codex_proxy::demo::Demo;

/// Starts and unlocks the service on its bus, prints the bus address, and runs until standard input closes.
const SERVICE: &str = "printf secret | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1; \
                       echo \"BUS $DBUS_SESSION_BUS_ADDRESS\"; read line; \
                       dbus-send --session --print-reply --dest=org.freedesktop.secrets /org/freedesktop/secrets \
                       org.freedesktop.Secret.Service.Lock \
                       array:objpath:/org/freedesktop/secrets/aliases/default >/dev/null; echo LOCKED; read line";

/// A Secret Service that stops when the test ends.
struct Service {
    child: Child,
    talk: BufReader<std::process::ChildStdout>,
    bus: String,
}

/// A home directory, an issuer and a backend.
struct Home {
    directory: tempfile::TempDir,
    demo: Demo,
    bus: String,
}

struct Ended {
    code: i32,
    answer: String,
    talk: String,
}

impl Service {
    /// `None` if the programs aren't installed.
    #[expect(clippy::print_stdout, reason = "test results must show what was skipped")]
    fn start(home: &std::path::Path) -> Option<Self> {
        let is_there = |program| Command::new(program).arg("--version").output().is_ok();
        if !is_there("dbus-run-session") || !is_there("gnome-keyring-daemon") {
            println!("left out: dbus-run-session or gnome-keyring-daemon is not installed");
            return None;
        }
        let mut command = Command::new("dbus-run-session");
        command.args(["--", "sh", "-c", SERVICE]).env("HOME", home).env("XDG_RUNTIME_DIR", home);
        command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env("XDG_DATA_HOME", home);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let talk = BufReader::new(child.stdout.take().unwrap());
        let mut service = Self { child, talk, bus: String::new() };
        let line = service.next_line();
        line.strip_prefix("BUS ").unwrap().clone_into(&mut service.bus);
        Some(service)
    }

    fn lock(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(self.next_line(), "LOCKED");
    }

    fn next_line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.talk.read_line(&mut line).unwrap() > 0, "the service has exited");
        line.trim_end().to_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The shell reads the end of its input, then the bus and the service stop.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

impl Home {
    async fn new(directory: tempfile::TempDir, bus: &str) -> Self {
        let demo = Demo::start(Arc::new(SystemClock)).await.unwrap();
        let login = demo.signed_in();
        let tokens = serde_json::json!({
            "id_token": login.id_token.expose(), "access_token": login.access_token.expose(),
            "refresh_token": login.refresh_token.expose(), "account_id": login.account_id,
        });
        let file = serde_json::json!({"auth_mode": "chatgpt", "tokens": tokens});
        std::fs::write(directory.path().join("auth.json"), file.to_string()).unwrap();
        Self { directory, demo, bus: bus.to_owned() }
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codex-proxy"));
        command.args(arguments).env_clear().env("CODEX_PROXY_HOME", self.directory.path().join("ours"));
        command.env("CODEX_PROXY_AUTH_URL", self.demo.issuer_url()).env("CODEX_PROXY_AUTH_STORE", "keyring");
        command.env("CODEX_PROXY_UPSTREAM_URL", self.demo.backend_url());
        command.env("DBUS_SESSION_BUS_ADDRESS", &self.bus).stdin(Stdio::null());
        Ended::of(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    }

    async fn done(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments).await;
        assert_eq!(ended.code, 0, "{arguments:?} {}", ended.talk);
        ended
    }

    async fn take_over(&self) -> Ended {
        let file = self.directory.path().join("auth.json");
        self.done(&["login", "--import", file.to_str().unwrap(), "--take-over"]).await
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("ours").join(name)
    }

    async fn place(&self) -> serde_json::Value {
        let status = self.done(&["status", "--json"]).await;
        serde_json::from_str::<serde_json::Value>(&status.answer).unwrap()["store"]["place"].clone()
    }
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), answer: text(output.stdout), talk: text(output.stderr) }
    }
}

#[tokio::test]
async fn a_login_is_stored_in_a_real_secret_service_and_moved_both_ways() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut service) = Service::start(directory.path()) else { return };
    let home = Home::new(directory, &service.bus).await;
    let signed_in = home.take_over().await;
    assert!(signed_in.talk.contains("stored in the keyring"), "{}", signed_in.talk);
    assert!(!home.file("credentials.json").exists() && home.file("credentials.json.keyring").exists());
    // The token is about to expire: it is refreshed, stored, and found by the next process.
    let renewed = home.done(&["token"]).await.answer;
    assert_eq!(home.done(&["token"]).await.answer, renewed);
    assert_eq!(home.place().await, "keyring");

    let moved = home.done(&["accounts", "move", "--to", "file"]).await;
    assert!(moved.talk.contains("Moved 1 account(s)"), "{}", moved.talk);
    assert!(moved.talk.contains("auth.store = \"file\""), "{}", moved.talk);
    assert!(home.file("credentials.json").exists() && !home.file("credentials.json.keyring").exists());
    let reported = home.done(&["token"]).await;
    assert_eq!(reported.answer, renewed);
    assert!(reported.talk.contains("accounts move --to keyring"), "{}", reported.talk);
    assert_eq!(home.place().await, "file");

    let back = home.done(&["accounts", "move", "--to", "keyring"]).await;
    assert!(!back.talk.contains("auth.store = "), "{}", back.talk);
    assert!(!home.file("credentials.json").exists() && !home.file("credentials.json.bak").exists());
    assert_eq!(home.done(&["token"]).await.answer, renewed);

    service.lock();
    let began = tokio::time::Instant::now();
    let locked = home.run(&["token"]).await;
    assert!(locked.code == 1 && locked.talk.contains("unlock it"), "{}", locked.talk);
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn without_a_keyring_the_file_is_used_with_a_warning() {
    let home = Home::new(tempfile::tempdir().unwrap(), "unix:path=/nonexistent/bus").await;
    let signed_in = home.take_over().await;
    assert!(signed_in.talk.contains("WARN") && signed_in.talk.contains("the file is used"), "{}", signed_in.talk);
    assert!(home.file("credentials.json").exists());
    assert!(!home.done(&["token"]).await.answer.is_empty());
    assert_eq!(home.place().await, "file");
    let moved = home.run(&["accounts", "move", "--to", "keyring"]).await;
    assert!(moved.code == 1 && moved.talk.contains("there is no keyring"), "{}", moved.talk);
    assert!(home.file("credentials.json").exists());
}

#[tokio::test]
async fn without_a_login_there_is_nothing_to_move() {
    let home = Home::new(tempfile::tempdir().unwrap(), "unix:path=/nonexistent/bus").await;
    let moved = home.run(&["accounts", "move", "--to", "file"]).await;
    assert!(moved.code == 1 && moved.talk.contains("no account is signed in"), "{}", moved.talk);
}
