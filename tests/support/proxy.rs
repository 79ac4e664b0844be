//! The real binary, started as a user starts it, in a home directory of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// A running `codex-proxy serve`; killed when dropped.
pub struct TestProxy {
    child: Child,
    base: String,
    log: Arc<Mutex<String>>,
    home: tempfile::TempDir,
}

/// How to start one.
pub struct Launch {
    home: tempfile::TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Launch {
    /// `serve --port 0` with an empty home.
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { home, arguments: ["serve", "--port", "0"].map(str::to_owned).to_vec(), environment: Vec::new() }
    }

    /// The same against the embedded demo backend.
    pub fn demo() -> Self {
        Self::new().argument("--demo")
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub fn setting(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// A file in the home directory.
    pub fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.home.path().join(name), content).unwrap();
        self
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The command, in a clean environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codex-proxy"));
        command.env_clear().env("CODEX_PROXY_HOME", self.home.path()).env("PATH", "/usr/bin:/bin");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(&self.arguments);
        command
    }

    /// Starts it and waits for the ready line.
    pub fn start(self) -> TestProxy {
        let mut child =
            self.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (ready, is_ready) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&log);
        std::thread::Builder::new()
            .spawn(move || {
                for line in lines.map_while(Result::ok) {
                    if let Some(base) = base_url(&line) {
                        let _ = ready.send(base);
                    }
                    let mut log = kept.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            })
            .unwrap();
        let base = is_ready.recv_timeout(Duration::from_secs(20));
        let base = base.unwrap_or_else(|_| panic!("no ready line: {}", log.lock().unwrap()));
        TestProxy { child, base, log, home: self.home }
    }
}

/// The base URL in a ready line, without `/v1`.
fn base_url(line: &str) -> Option<String> {
    let start = line.find("http://")?;
    let url = line[start..].split_whitespace().next()?;
    line.contains("ready").then(|| url.trim_end_matches('/').trim_end_matches("/v1").to_owned())
}

impl TestProxy {
    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// `127.0.0.1:PORT`.
    pub fn authority(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// Everything it has said on standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn home(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// Sends a signal by name (`TERM`, `INT`, `KILL`).
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the process to end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
