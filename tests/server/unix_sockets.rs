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

struct Door {
    upstream: FakeUpstream,
    launch: Launch,
    proxy: TestProxy,
    path: PathBuf,
}

async fn door(change: impl FnOnce(Launch) -> Launch) -> Door {
    let upstream = FakeUpstream::start().await;
    upstream.on("/responses", Script::events(&WHOLE));
    let launch = signed_in(&upstream).without_port();
    let path = launch.home().join("run/door.sock");
    let launch = change(launch.setting("listen", &format!("unix:{}", path.display())));
    let proxy = launch.start();
    Door { upstream, launch, proxy, path }
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
    let mut door = door(|launch| launch).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&door.path), mode(door.path.parent().unwrap())), (0o600, 0o700));
    assert!(door.proxy.log().contains(&format!("curl --unix-socket {}", door.path.display())));
    for host in ["host: localhost\r\n", "host: any.name.invalid\r\n"] {
        assert!(ask(&door.path, host, &chat()).await.starts_with("HTTP/1.1 200 "), "{host}");
    }
    let page = ask(&door.path, "host: localhost\r\norigin: https://evil.invalid\r\n", &chat()).await;
    assert!(page.starts_with("HTTP/1.1 403 "), "a page forwarded by a reverse proxy: {page}");
    assert_eq!(door.upstream.requests("/responses").len(), 2);
    door.proxy.signal("TERM");
    assert_eq!(door.proxy.ended().await, Some(0));
    assert!(!door.path.exists());
}

#[tokio::test]
async fn keys_apply_to_the_unix_socket() {
    let door = door(|launch| launch.setting("api_keys", "sk-1")).await;
    assert!(ask(&door.path, "host: localhost\r\n", &chat()).await.starts_with("HTTP/1.1 401 "));
    assert!(ask(&door.path, "host: localhost\r\nx-api-key: sk-1\r\n", &chat()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn status_finds_the_daemon_behind_a_unix_socket() {
    let mut door = door(|launch| launch).await;
    let status = door.launch.command(&["status", "--json"]);
    let told = tokio::task::spawn_blocking(move || status.run()).await.unwrap();
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["daemon"]["socket"], door.path.to_str().unwrap());
    assert_eq!(told["daemon"]["base_url"], "http://localhost/v1");
    let status = door.launch.command(&["status"]);
    let told = tokio::task::spawn_blocking(move || status.run()).await.unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let even = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(even.contains(&format!("on the Unix socket {}", door.path.display())), "{told}");
    door.proxy.signal("TERM");
    door.proxy.ended().await;
}

#[tokio::test]
async fn a_socket_directory_writable_by_others_gives_a_warning() {
    let door = door(|launch| {
        let directory = launch.home().join("run");
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
        launch
    })
    .await;
    let directory = std::fs::canonicalize(door.path.parent().unwrap()).unwrap();
    let directory = directory.display();
    let warning =
        format!("warning: other users can replace files in {directory} (mode 0777): `chmod go-w {directory}`");
    assert!(door.proxy.log().contains(&warning), "{}", door.proxy.log());
    assert!(ask(&door.path, "host: localhost\r\n", &chat()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn the_socket_of_a_live_daemon_is_kept_and_that_of_a_dead_one_replaced() {
    let mut door = door(|launch| launch).await;
    let launch = door.launch.clone();
    let second = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
    let told = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{told}");
    assert!(told.contains(door.path.to_str().unwrap()), "{told}");
    #[cfg(target_os = "linux")]
    assert!(told.contains(&format!("process {}", door.proxy.process_id())), "{told}");
    assert!(ask(&door.path, "host: localhost\r\n", &chat()).await.starts_with("HTTP/1.1 200 "));
    door.proxy.signal("KILL");
    door.proxy.ended().await;
    assert!(std::fs::metadata(&door.path).unwrap().file_type().is_socket(), "a killed daemon leaves its socket file");
    let _again = door.launch.start();
    assert!(ask(&door.path, "host: localhost\r\n", &chat()).await.starts_with("HTTP/1.1 200 "));
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
    let mut door = door(|launch| launch).await;
    let gate = Gate::default();
    door.upstream.replace("/responses", begun(&BEGUN).gate(&gate).event(COMPLETED).end());
    let mut stream = sent(&door.path, "host: localhost\r\n", &streaming()).await;
    door.upstream.received("/responses", 1).await;
    door.proxy.signal("TERM");
    let gone = async {
        while UnixStream::connect(&door.path).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(5 * SECOND, gone).await.expect("new connections are refused");
    gate.open();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("[DONE]"), "{answer}");
    assert_eq!(door.proxy.ended().await, Some(0));
    assert!(!door.path.exists());
}
