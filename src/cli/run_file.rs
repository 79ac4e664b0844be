//! The run file: where the running daemon tells its address, so that other commands find it.
//!
//! Written atomically, readable by its owner only, and removed when the daemon ends. A daemon that was killed leaves
//! its file behind, so readers ask `/health` at the address and compare the instance id.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::endpoint::{Endpoint, Trust};
use crate::fs::{read_text, write_private};
use crate::net::HttpClient;
use crate::upstream::{Omitted, Strange};

/// A daemon on this machine answers within this time, or isn't there.
const PATIENCE: Duration = Duration::from_secs(2);

/// More than a run file takes.
const LIMIT_BYTES: u64 = 64 * 1024;

/// Longer than the answer of any daemon of ours.
#[cfg(unix)]
const ANSWER_LIMIT_BYTES: u64 = 64 * 1024;

/// What a running daemon tells about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// The address to give to clients, `/v1` included.
    pub base_url: String,
    /// The Unix socket that it is reached through, where it listens on one.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// Its version.
    pub version: String,
    /// Whether a simulated backend answers.
    pub demo: bool,
    /// The file that it logs to; none: standard error.
    #[serde(default)]
    pub log_file: Option<PathBuf>,
    /// Where it writes cassettes, if it does.
    #[serde(default)]
    pub recording: Option<PathBuf>,
    /// A random id of the process, which `/health` reports too; missing for release 0.1.
    #[serde(default)]
    pub instance: Option<String>,
}

/// The file of a daemon that runs; dropping it removes the file.
#[derive(Debug)]
pub struct RunFile {
    path: PathBuf,
    running: Running,
}

/// What a daemon says of itself when it is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Health {
    pub(super) version: String,
    pub(super) demo: bool,
    #[serde(default)]
    pub(super) replay: bool,
    #[serde(default)]
    pub(super) instance: Option<String>,
    #[serde(default)]
    pub(super) requires_key: bool,
    /// What it has heard that it does not know.
    #[serde(default)]
    pub(super) drift: Vec<Strange>,
    /// What it leaves out of requests, since the backend refused it.
    #[serde(default)]
    pub(super) omitted: Vec<Omitted>,
}

impl RunFile {
    /// Writes the file, replacing what an earlier daemon left.
    ///
    /// # Errors
    /// When the directory or the file can't be written.
    pub fn write(path: &Path, running: Running) -> io::Result<Self> {
        let mut text = serde_json::to_vec_pretty(&running)?;
        text.push(b'\n');
        write_private(path, &text)?;
        Ok(Self { path: path.to_owned(), running })
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        // A daemon that started later has put its own file there.
        if read(&self.path).as_ref() == Some(&self.running) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn read(path: &Path) -> Option<Running> {
    serde_json::from_slice(&read_text(path, LIMIT_BYTES).ok()?).ok()
}

impl Running {
    /// The daemon of that run file, if the same process answers at its address.
    pub async fn find(path: &Path, http: &HttpClient) -> Option<Self> {
        Self::look(path, http).await.map(|(running, _)| running)
    }

    /// The same, with what it says.
    pub(super) async fn look(path: &Path, http: &HttpClient) -> Option<(Self, Health)> {
        let running = read(path)?;
        let body = match &running.socket {
            Some(socket) => over_socket(socket).await?,
            None => over_port(&running.base_url, http).await?,
        };
        let health: Health = serde_json::from_slice(&body).ok()?;
        let is_same =
            health.version == running.version && health.demo == running.demo && health.instance == running.instance;
        is_same.then_some((running, health))
    }
}

impl Health {
    /// What a daemon at an address of this machine says, whoever started it.
    pub(super) async fn at(base_url: &str, http: &HttpClient) -> Option<Self> {
        serde_json::from_slice(&over_port(base_url, http).await?).ok()
    }
}

async fn over_port(base_url: &str, http: &HttpClient) -> Option<Bytes> {
    // Anybody who can write the file could name another host; only this machine is asked.
    let origin = base_url.strip_suffix("/v1").unwrap_or(base_url);
    let endpoint = Endpoint::parse(origin, Trust::KnownHosts).ok().filter(Endpoint::is_loopback)?;
    let request = http.client_for(&endpoint).await.ok()?.get(endpoint.join("/health")).timeout(PATIENCE);
    request.send().await.ok()?.error_for_status().ok()?.bytes().await.ok()
}

#[cfg(unix)]
async fn over_socket(path: &Path) -> Option<Bytes> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let asked = async {
        let mut stream = tokio::net::UnixStream::connect(path).await.ok()?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut answer = Vec::new();
        stream.take(ANSWER_LIMIT_BYTES).read_to_end(&mut answer).await.ok()?;
        let body = memchr::memmem::find(&answer, b"\r\n\r\n")? + 4;
        answer.starts_with(b"HTTP/1.1 200 ").then(|| Bytes::from(answer).slice(body..))
    };
    tokio::time::timeout(PATIENCE, asked).await.ok()?
}

#[cfg(not(unix))]
async fn over_socket(_path: &Path) -> Option<Bytes> {
    None
}

#[cfg(test)]
mod tests {
    use super::{RunFile, Running, read};
    use crate::net::{HttpClient, Settings};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::Path;
    use std::time::Duration;

    fn running(port: u16) -> Running {
        Running {
            pid: 7,
            base_url: format!("http://127.0.0.1:{port}/v1"),
            socket: None,
            started_at: "2026-01-01T00:00:00Z".to_owned(),
            version: "1.2.3".to_owned(),
            demo: false,
            log_file: None,
            recording: None,
            instance: Some("one".to_owned()),
        }
    }

    async fn find(path: &Path) -> Option<Running> {
        let settings = Settings { connect_timeout: Duration::from_secs(2), ca_file: None, proxy: None };
        Running::find(path, &HttpClient::new(settings)).await
    }

    /// Answers one request with this body.
    fn answering(body: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::task::spawn_blocking(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        });
        port
    }

    #[test]
    fn the_file_is_private_and_goes_with_its_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/run.json");
        let file = RunFile::write(&path, running(1)).unwrap();
        assert_eq!(read(&path), Some(running(1)));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        }
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn the_file_of_a_later_daemon_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.json");
        let earlier = RunFile::write(&path, running(1)).unwrap();
        let later = RunFile::write(&path, running(2)).unwrap();
        drop(earlier);
        assert_eq!(read(&path), Some(running(2)));
        drop(later);
    }

    #[tokio::test]
    async fn a_daemon_that_answers_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.json");
        let port = answering(r#"{"status":"ok","version":"1.2.3","demo":false,"instance":"one"}"#);
        let _file = RunFile::write(&path, running(port)).unwrap();
        assert_eq!(find(&path).await, Some(running(port)));
    }

    #[tokio::test]
    async fn a_file_left_behind_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.json");
        assert_eq!(find(&path).await, None);
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let _nobody = RunFile::write(&path, running(free)).unwrap();
        assert_eq!(find(&path).await, None);
        for other in [
            r#"{"hello":"another program"}"#,
            r#"{"status":"ok","version":"1.2.3","demo":false,"instance":"another daemon"}"#,
            r#"{"status":"ok","version":"1.2.3","demo":false}"#,
        ] {
            let _other = RunFile::write(&path, running(answering(other))).unwrap();
            assert_eq!(find(&path).await, None, "{other}");
        }
    }
}
