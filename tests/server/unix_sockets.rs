//! The Unix socket: for its owner only, never replacing a live daemon's, and removed at exit.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::fake::{FakeUpstream, Gate, Script};
use crate::proxy::{Launch, TestProxy};
use crate::{BEGUN, COMPLETED, SECOND, WHOLE, begun, chat, signed_in, streaming};

struct SocketDaemon {
    upstream: FakeUpstream,
    launch: Launch,
    proxy: TestProxy,
    path: PathBuf,
}

async fn start_daemon(change: impl FnOnce(Launch) -> Launch) -> SocketDaemon {
    let upstream = FakeUpstream::start().await;
    upstream.on("/responses", Script::events(&WHOLE));
    let launch = signed_in(&upstream).without_port();
    let path = launch.home().join("run/proxy.sock");
    let launch = change(launch.setting("listen", &format!("unix:{}", path.display())));
    let proxy = launch.start();
    SocketDaemon { upstream, launch, proxy, path }
}

/// Sends a chat request with these header lines and returns the complete response.
async fn ask(path: &Path, headers: &str, body: &Value) -> String {
    let mut stream = sent(path, headers, body).await;
    let mut answer = String::new();
    timeout(10 * SECOND, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

async fn sent(path: &Path, headers: &str, body: &Value) -> UnixStream {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\n{headers}connection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_unix_socket_serves_its_owner_under_any_host_name() {
    let mut daemon = start_daemon(|launch| launch).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&daemon.path), mode(daemon.path.parent().unwrap())), (0o600, 0o700));
    assert!(daemon.proxy.log().contains(&format!("curl --unix-socket {}", daemon.path.display())));
    for host in ["host: localhost\r\n", "host: any.name.invalid\r\n"] {
        assert!(ask(&daemon.path, host, &chat()).await.starts_with("HTTP/1.1 200 "), "{host}");
    }
    let page = ask(&daemon.path, "host: localhost\r\norigin: https://evil.invalid\r\n", &chat()).await;
    assert!(page.starts_with("HTTP/1.1 403 "), "a page forwarded by a reverse proxy: {page}");
    assert_eq!(daemon.upstream.requests("/responses").len(), 2);
    daemon.proxy.signal("TERM");
    assert_eq!(daemon.proxy.ended().await, Some(0));
    assert!(!daemon.path.exists());
}

#[tokio::test]
async fn keys_apply_to_the_unix_socket() {
    let daemon = start_daemon(|launch| launch.setting("api_keys", "sk-1")).await;
    assert!(ask(&daemon.path, "host: localhost\r\n", &chat()).await.starts_with("HTTP/1.1 401 "));
    assert!(ask(&daemon.path, "host: localhost\r\nx-api-key: sk-1\r\n", &chat()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn status_finds_the_daemon_behind_a_unix_socket() {
    let mut daemon = start_daemon(|launch| launch).await;
    let status = daemon.launch.command(&["status", "--json"]);
    let reported = tokio::task::spawn_blocking(move || status.run()).await.unwrap();
    let reported: Value = serde_json::from_slice(&reported.stdout).unwrap();
    assert_eq!(reported["daemon"]["socket"], daemon.path.to_str().unwrap());
    assert_eq!(reported["daemon"]["base_url"], "http://localhost/v1");
    let status = daemon.launch.command(&["status"]);
    let reported = tokio::task::spawn_blocking(move || status.run()).await.unwrap();
    let reported = String::from_utf8(reported.stdout).unwrap();
    let even = reported.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(even.contains(&format!("on the Unix socket {}", daemon.path.display())), "{reported}");
    daemon.proxy.signal("TERM");
    daemon.proxy.ended().await;
}

#[tokio::test]
async fn a_socket_directory_writable_by_others_gives_a_warning() {
    let daemon = start_daemon(|launch| {
        let directory = launch.home().join("run");
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
        launch
    })
    .await;
    let directory = std::fs::canonicalize(daemon.path.parent().unwrap()).unwrap();
    let directory = directory.display();
    let warning =
        format!("warning: other users can replace files in {directory} (mode 0777): `chmod go-w {directory}`");
    assert!(daemon.proxy.log().contains(&warning), "{}", daemon.proxy.log());
    assert!(ask(&daemon.path, "host: localhost\r\n", &chat()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn the_socket_of_a_live_daemon_is_kept_and_that_of_a_dead_one_replaced() {
    let mut daemon = start_daemon(|launch| launch).await;
    let launch = daemon.launch.clone();
    let second = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
    let reported = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{reported}");
    assert!(reported.contains(daemon.path.to_str().unwrap()), "{reported}");
    #[cfg(target_os = "linux")]
    assert!(reported.contains(&format!("process {}", daemon.proxy.process_id())), "{reported}");
    assert!(ask(&daemon.path, "host: localhost\r\n", &chat()).await.starts_with("HTTP/1.1 200 "));
    daemon.proxy.signal("KILL");
    daemon.proxy.ended().await;
    assert!(std::fs::metadata(&daemon.path).unwrap().file_type().is_socket(), "a killed daemon leaves its socket file");
    let _again = daemon.launch.start();
    assert!(ask(&daemon.path, "host: localhost\r\n", &chat()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_file_at_the_path_of_the_socket_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notes");
    std::fs::write(&path, "important").unwrap();
    let output = Launch::new().without_port().setting("listen", &format!("unix:{}", path.display())).run();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("is not a socket"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "important");
}

#[tokio::test]
async fn an_open_response_outlives_the_socket_file() {
    let mut daemon = start_daemon(|launch| launch).await;
    let gate = Gate::default();
    daemon.upstream.replace("/responses", begun(&BEGUN).gate(&gate).event(COMPLETED).end());
    let mut stream = sent(&daemon.path, "host: localhost\r\n", &streaming()).await;
    daemon.upstream.received("/responses", 1).await;
    daemon.proxy.signal("TERM");
    let gone = async {
        while UnixStream::connect(&daemon.path).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(5 * SECOND, gone).await.expect("new connections are refused");
    gate.open();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("[DONE]"), "{answer}");
    assert_eq!(daemon.proxy.ended().await, Some(0));
    assert!(!daemon.path.exists());
}
