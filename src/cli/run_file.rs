//! The run file: holds the address of the running daemon, so that other commands find it.
//!
//! Written atomically, readable by its owner only, and removed when the daemon stops. A daemon that was killed leaves
//! its file behind, so readers request `/health` at the address and compare the instance id.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::endpoint::{Endpoint, Trust};
use crate::fs::{read_text, resolve, write_private};
use crate::net::HttpClient;
use crate::upstream::{RejectedParam, UnknownName};

/// Time limit for a response of `/health`.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Larger run files are ignored.
const LIMIT_BYTES: u64 = 64 * 1024;

/// Maximum length of a response of `/health` with its head.
#[cfg(unix)]
const RESPONSE_LIMIT_BYTES: u64 = 64 * 1024;

/// A running daemon, as the run file describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningDaemon {
    /// Process id.
    pub pid: u32,
    /// Base URL for clients, with `/v1`.
    pub base_url: String,
    /// Path of the Unix socket, if it listens on one.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// Start time, RFC 3339.
    pub started_at: String,
    /// Version of the program.
    pub version: String,
    /// Whether it uses the simulated backend.
    pub demo: bool,
    /// Path of the log file; `None`: it logs to stderr.
    #[serde(default)]
    pub log_file: Option<PathBuf>,
    /// Directory of the cassettes, if it records.
    #[serde(default)]
    pub recording: Option<PathBuf>,
    /// Random id of the process, also on `/health`; missing in release 0.1.
    #[serde(default)]
    pub instance: Option<String>,
}

/// The run file of this process; dropping it removes the file.
#[derive(Debug)]
pub struct RunFile {
    path: PathBuf,
    running: RunningDaemon,
}

/// The response of a daemon's `/health`.
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
    /// Events and items of the backend that it doesn't know.
    #[serde(default)]
    pub(super) drift: Vec<UnknownName>,
    /// Request members that it leaves out because the backend refused them.
    #[serde(default)]
    pub(super) omitted: Vec<RejectedParam>,
}

impl RunFile {
    /// Writes the file, and replaces that of an earlier daemon.
    ///
    /// # Errors
    /// If the directory or the file can't be written.
    pub fn write(path: &Path, running: RunningDaemon) -> io::Result<Self> {
        let mut text = serde_json::to_vec_pretty(&running)?;
        text.push(b'\n');
        write_private(path, &text)?;
        Ok(Self { path: resolve(path), running })
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        // A daemon that started later may have replaced the file.
        if read(&self.path).as_ref() == Some(&self.running) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn read(path: &Path) -> Option<RunningDaemon> {
    serde_json::from_slice(&read_text(path, LIMIT_BYTES).ok()?).ok()
}

impl RunningDaemon {
    /// Returns the daemon of the run file, if that process responds at its address.
    pub async fn find(path: &Path, http: &HttpClient) -> Option<Self> {
        Self::find_with_health(path, http).await.map(|(running, _)| running)
    }

    /// Like [`Self::find`], and also returns the response of `/health`.
    pub(super) async fn find_with_health(path: &Path, http: &HttpClient) -> Option<(Self, Health)> {
        let running = read(path)?;
        let body = match &running.socket {
            Some(socket) => health_over_socket(socket).await?,
            None => health_over_tcp(&running.base_url, http).await?,
        };
        let health: Health = serde_json::from_slice(&body).ok()?;
        let is_same =
            health.version == running.version && health.demo == running.demo && health.instance == running.instance;
        is_same.then_some((running, health))
    }
}

impl Health {
    /// Requests `/health` from any daemon at a loopback address. Returns `None` if none responds there.
    pub(super) async fn at(base_url: &str, http: &HttpClient) -> Option<Self> {
        serde_json::from_slice(&health_over_tcp(base_url, http).await?).ok()
    }
}

async fn health_over_tcp(base_url: &str, http: &HttpClient) -> Option<Bytes> {
    // A manipulated run file could name another host, so only loopback addresses are requested.
    let origin = base_url.strip_suffix("/v1").unwrap_or(base_url);
    let endpoint = Endpoint::parse(origin, Trust::KnownHosts).ok().filter(Endpoint::is_loopback)?;
    let request = http.client_for(&endpoint).await.ok()?.get(endpoint.join("/health")).timeout(TIMEOUT);
    request.send().await.ok()?.error_for_status().ok()?.bytes().await.ok()
}

#[cfg(unix)]
async fn health_over_socket(path: &Path) -> Option<Bytes> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = async {
        let mut stream = tokio::net::UnixStream::connect(path).await.ok()?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut response = Vec::new();
        stream.take(RESPONSE_LIMIT_BYTES).read_to_end(&mut response).await.ok()?;
        let body = memchr::memmem::find(&response, b"\r\n\r\n")? + 4;
        response.starts_with(b"HTTP/1.1 200 ").then(|| Bytes::from(response).slice(body..))
    };
    tokio::time::timeout(TIMEOUT, request).await.ok()?
}

#[cfg(not(unix))]
async fn health_over_socket(_path: &Path) -> Option<Bytes> {
    None
}

#[cfg(test)]
mod tests {
    use super::{RunFile, RunningDaemon, read};
    use crate::net::{HttpClient, Settings};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::path::Path;
    use std::time::Duration;

    fn running(port: u16) -> RunningDaemon {
        RunningDaemon {
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

    async fn find(path: &Path) -> Option<RunningDaemon> {
        let settings = Settings { connect_timeout: Duration::from_secs(2), ca_file: None, proxy: None };
        RunningDaemon::find(path, &HttpClient::new(settings)).await
    }

    /// Starts a server that answers one request with this body, and returns its port.
    fn server(body: &'static str) -> u16 {
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
    fn the_file_is_private_and_removed_when_dropped() {
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
    async fn a_daemon_that_responds_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.json");
        let port = server(r#"{"status":"ok","version":"1.2.3","demo":false,"instance":"one"}"#);
        let _file = RunFile::write(&path, running(port)).unwrap();
        assert_eq!(find(&path).await, Some(running(port)));
    }

    #[tokio::test]
    async fn a_stale_file_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.json");
        assert_eq!(find(&path).await, None);
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let _stale = RunFile::write(&path, running(free)).unwrap();
        assert_eq!(find(&path).await, None);
        for other in [
            r#"{"hello":"another program"}"#,
            r#"{"status":"ok","version":"1.2.3","demo":false,"instance":"another daemon"}"#,
            r#"{"status":"ok","version":"1.2.3","demo":false}"#,
        ] {
            let _other = RunFile::write(&path, running(server(other))).unwrap();
            assert_eq!(find(&path).await, None, "{other}");
        }
    }
}
