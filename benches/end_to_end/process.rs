//! The measured processes: starting them, and reading their statistics from the system.

use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::wire::wrong;

/// The binary under test; [`build`] makes sure that it is the release build.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_codex-proxy");
/// Ticks per second in `/proc/PID/stat`, as Linux reports them to every program.
const TICKS: f64 = 100.0;

/// A process that is killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    _home: Option<tempfile::TempDir>,
}

/// Builds the release binary. The binary built along with this bench shares features with the dependencies of
/// the tests and would be slower.
pub(crate) fn build() -> io::Result<()> {
    let built = Command::new(env!("CARGO")).args(["build", "--release", "--bin", "codex-proxy"]).status()?;
    if built.success() { Ok(()) } else { Err(wrong("the binary can't be built")) }
}

impl Process {
    /// Runs this program in another role; it prints its address first.
    pub(crate) fn role(arguments: &[String]) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let line = first_line(child.stdout.take(), |_| true)?;
        let address = line.trim().parse().map_err(|_| wrong(format!("'{line}' is no address")))?;
        Ok(Self { child, address, _home: None })
    }

    /// `codex-proxy serve` between the client and the backend.
    pub(crate) fn proxy(upstream: SocketAddr) -> io::Result<Self> {
        let (mut command, home) = serve(&["--port", "0"])?;
        command.env("CODEX_PROXY_UPSTREAM_URL", format!("http://{upstream}/backend-api/codex"));
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let line = first_line(child.stderr.take(), |line| line.contains("is ready"))?;
        let url = line.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        let authority = url.and_then(|url| url.split('/').next()).unwrap_or_default().replace("localhost", "127.0.0.1");
        let address = authority.parse().map_err(|_| wrong(format!("'{line}' names no address")))?;
        Ok(Self { child, address, _home: Some(home) })
    }

    /// Starts the daemon and polls `/health` until it responds.
    pub(crate) async fn cold_start() -> io::Result<(Self, Duration)> {
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (mut command, home) = serve(&["--port", &port.to_string()])?;
        let started = Instant::now();
        let child = command.stderr(Stdio::null()).spawn()?;
        let process = Self { child, address, _home: Some(home) };
        while !is_healthy(address).await {
            if started.elapsed() > Duration::from_secs(10) {
                return Err(wrong("the daemon doesn't start"));
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok((process, started.elapsed()))
    }

    /// Processor time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> io::Result<f64> {
        let stat = self.read("stat")?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        Ok((ticks(11) + ticks(12)) / TICKS)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> io::Result<f64> {
        self.status("VmRSS:")
    }

    /// Peak resident memory in bytes since [`Self::forget_peak`].
    pub(crate) fn peak_bytes(&self) -> io::Result<f64> {
        self.status("VmHWM:")
    }

    pub(crate) fn forget_peak(&self) -> io::Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")
    }

    fn status(&self, name: &str) -> io::Result<f64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().map_err(|_| wrong(format!("no {name}")))?;
        Ok(kilobytes * 1024.0)
    }

    fn read(&self, file: &str) -> io::Result<String> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A daemon without settings from this machine, and with a token that expires in the far future.
fn serve(arguments: &[&str]) -> io::Result<(Command, tempfile::TempDir)> {
    let home = tempfile::tempdir()?;
    let mut command = Command::new(BINARY);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command.arg("serve").args(arguments).env("CODEX_PROXY_HOME", home.path());
    command.env("CODEX_PROXY_ACCESS_TOKEN", token()).env("CODEX_PROXY_LOG_LEVEL", "warn");
    // The maximum number of measured streams, plus some connections.
    command.env("CODEX_PROXY_LIMITS_CONCURRENCY", "6000").env("CODEX_PROXY_LIMITS_CONNECTIONS", "7000");
    Ok((command, home))
}

fn token() -> String {
    let claims = r#"{"exp":4102444800,"https://api.openai.com/auth":{"chatgpt_account_id":"bench"}}"#;
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"none"}"#), part(claims), part("bench"))
}

/// Returns the first matching line; further output is read and discarded.
fn first_line(output: Option<impl io::Read + Send + 'static>, wanted: fn(&str) -> bool) -> io::Result<String> {
    let mut lines = BufReader::new(output.ok_or_else(|| wrong("no output"))?).lines();
    let line = lines.by_ref().map_while(Result::ok).find(|line| wanted(line));
    std::thread::Builder::new().spawn(move || lines.map_while(Result::ok).for_each(drop))?;
    line.ok_or_else(|| wrong("a process ended before it was ready"))
}

async fn is_healthy(address: SocketAddr) -> bool {
    let requested = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    requested.await.unwrap_or(false)
}

/// Size of the binary under test.
pub(crate) fn binary_bytes() -> io::Result<u64> {
    Ok(std::fs::metadata(Path::new(BINARY))?.len())
}
