//! The real binary, started like a user would, in its own home directory.
//!
//! No settings of this machine affect it. Its log is collected line by line, so that a test can wait for a
//! line, and for the exit.

#[path = "transport.rs"]
pub(crate) mod transport;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;

/// Longer than any wait in these tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to start the binary. Clones share the home directory.
#[derive(Clone)]
pub(crate) struct Launch {
    home: Arc<TempDir>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Options of `ulimit`, with the number of open files.
    open_files: Option<(&'static str, u32)>,
    binary: Option<String>,
}

/// A running `codex-proxy serve`; killed when dropped.
pub(crate) struct TestProxy {
    child: Child,
    base: String,
    said: watch::Receiver<Said>,
    _home: Arc<TempDir>,
}

/// The standard error of a process.
#[derive(Default)]
struct Said {
    text: String,
    has_ended: bool,
}

impl Launch {
    /// `serve --port 0` with an empty home.
    pub(crate) fn new() -> Self {
        let home = Arc::new(tempfile::tempdir().unwrap());
        let arguments = ["serve", "--port", "0"].map(str::to_owned).to_vec();
        let launch = Self { home, arguments, environment: Vec::new(), open_files: None, binary: None };
        match transport::chosen() {
            Some(transport) => launch.setting("upstream.transport", &transport),
            None => launch,
        }
    }

    /// The same with the demo backend.
    pub(crate) fn demo() -> Self {
        Self::new().argument("--demo")
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The same settings for another command.
    pub(crate) fn command(&self, arguments: &[&str]) -> Self {
        Self { arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(), ..self.clone() }
    }

    /// A setting by its name: `timing.drain` is set as `CODEX_PROXY_TIMING_DRAIN`.
    pub(crate) fn setting(mut self, key: &str, value: &str) -> Self {
        let name = format!("CODEX_PROXY_{}", key.replace('.', "_").to_ascii_uppercase());
        self.environment.push((name, value.to_owned()));
        self
    }

    /// An environment variable of another program.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another build, to measure it in the same way.
    pub(crate) fn binary(self, binary: Option<String>) -> Self {
        Self { binary, ..self }
    }

    /// Sets the hard and the soft limit of open files.
    pub(crate) fn open_files(self, limit: u32) -> Self {
        Self { open_files: Some(("-n", limit)), ..self }
    }

    /// Sets the soft limit of open files, which the process may raise.
    pub(crate) fn soft_open_files(self, limit: u32) -> Self {
        Self { open_files: Some(("-S -n", limit)), ..self }
    }

    /// Without the flag for a free port, which would override other settings.
    pub(crate) fn without_port(mut self) -> Self {
        self.arguments = vec!["serve".to_owned()];
        self
    }

    /// A private file in the home directory.
    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        let mut file = tempfile::NamedTempFile::new_in(self.home()).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.persist(self.home().join(name)).unwrap();
        self
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs a command that exits by itself.
    pub(crate) fn run(&self) -> Output {
        self.prepared().output().unwrap()
    }

    /// Starts the daemon and waits for its ready line.
    pub(crate) fn start(&self) -> TestProxy {
        let mut child = self.prepared().stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (said, received) = watch::channel(Said::default());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let lines = child.stderr.take().unwrap();
        std::thread::Builder::new().spawn(move || listen(lines, &said, &ready)).unwrap();
        let base = is_ready.recv_timeout(PATIENCE);
        let base = base.unwrap_or_else(|_| panic!("no ready line: {}", received.borrow().text));
        TestProxy { child, base, said: received, _home: Arc::clone(&self.home) }
    }

    fn prepared(&self) -> Command {
        let binary = self.binary.as_deref().unwrap_or(env!("CARGO_BIN_EXE_codex-proxy"));
        let mut command = match self.open_files {
            None => Command::new(binary),
            Some((options, limit)) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit {options} {limit} && exec \"$0\" \"$@\""), binary]);
                shell
            }
        };
        command.env_clear().env("CODEX_PROXY_HOME", self.home.path()).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).args(&self.arguments);
        command
    }
}

fn listen(lines: ChildStderr, said: &watch::Sender<Said>, ready: &std::sync::mpsc::Sender<String>) {
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        let base = base_url(&line);
        said.send_modify(|said| {
            said.text.push_str(&line);
            said.text.push('\n');
        });
        if let Some(base) = base {
            let _ = ready.send(base);
        }
    }
    said.send_modify(|said| said.has_ended = true);
}

/// The base URL in a ready line, without `/v1`.
fn base_url(line: &str) -> Option<String> {
    let url = line.split_whitespace().find(|word| word.starts_with("http://"))?;
    line.contains("is ready").then(|| url.trim_end_matches("/v1").to_owned())
}

impl TestProxy {
    /// `127.0.0.1:PORT`.
    pub(crate) fn authority(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard error so far.
    pub(crate) fn log(&self) -> String {
        self.said.borrow().text.clone()
    }

    /// Waits for text on standard error; fails after `limit`.
    pub(crate) async fn says(&self, text: &str, limit: Duration) {
        self.says_times(text, 1, limit).await;
    }

    /// Waits until a text occurs this often.
    pub(crate) async fn says_times(&self, text: &str, count: usize, limit: Duration) {
        let mut said = self.said.clone();
        let received = timeout(limit, said.wait_for(|said| said.text.matches(text).count() >= count)).await.is_ok();
        assert!(received, "not said within {limit:?}: {text}\n{}", self.log());
    }

    /// Sends a signal by name (`TERM`, `INT`, `KILL`).
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the process to exit; returns its exit code unless it was killed.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let ended = self.said.wait_for(|said| said.has_ended);
        assert!(timeout(PATIENCE, ended).await.is_ok(), "it does not end: {}", self.log());
        self.child.wait().unwrap().code()
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
