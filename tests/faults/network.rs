//! Unreachable backends, each with its own daemon.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use crate::cell::{Cell, Dialect, Mode};
use crate::fake::{FakeUpstream, Script};
use crate::proxy::Launch;
use crate::table::Row;
use crate::{launch, play};

const RETRIED: &str = "retrying the backend request";

/// Every client gets the error after three attempts.
async fn assert_reported(
    name: &str,
    prepare: impl FnOnce() -> Launch,
    [openai, anthropic]: [&'static str; 2],
    words: &'static str,
) {
    let proxy = prepare().start();
    let row = Row {
        name: name.to_owned(),
        script: Script::default(),
        calls: [3..=3, 3..=3],
        openai,
        anthropic,
        responses: None,
        retry_after: Some("-"),
        words: [words; 2],
        has_head: false,
    };
    let modes = [Mode::Document, Mode::Stream];
    let cells: Vec<Cell<'_>> = Dialect::ALL
        .into_iter()
        .flat_map(|dialect| modes.map(|mode| Cell { number: 0, row: &row, dialect, mode }))
        .collect();
    let reported = futures_util::future::join_all(cells.iter().map(|cell| play(cell, &proxy))).await;
    let wrong: Vec<String> = reported.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    proxy.says_times("request failed", cells.len(), Duration::from_secs(1)).await;
    assert_eq!(proxy.log().matches(RETRIED).count(), 2 * cells.len(), "{name}: {}", proxy.log());
}

fn accounts() -> [String; 1] {
    ["acct-1".to_owned()]
}

const UNREACHABLE: [&str; 2] = ["502 upstream_error upstream_unreachable", "502 api_error"];

#[tokio::test]
async fn the_connection_is_refused() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/backend-api/codex");
    assert_reported("refused", || launch(&url, &accounts()), UNREACHABLE, "`codex-proxy doctor`").await;
}

#[tokio::test]
async fn the_certificate_is_not_trusted() {
    let (upstream, _) = FakeUpstream::start_http2().await;
    assert_reported(
        "TLS",
        || launch(&upstream.url(), &accounts()),
        UNREACHABLE,
        "set upstream.ca_file to its CA bundle",
    )
    .await;
    assert_eq!(upstream.requests("").len(), 0, "no request leaves before the certificate is known");
}

#[tokio::test]
async fn the_host_name_does_not_resolve() {
    let prepare =
        || launch("https://backend.invalid/backend-api/codex", &accounts()).setting("upstream.trust_host", "true");
    assert_reported("DNS", prepare, UNREACHABLE, "can't be reached").await;
}

#[tokio::test]
async fn the_tls_handshake_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/backend-api/codex", listener.local_addr().unwrap().port());
    let prepare = || launch(&url, &accounts()).setting("upstream.connect_timeout", "200ms");
    let expected = ["504 upstream_error upstream_timeout", "504 timeout_error"];
    assert_reported("silent TLS", prepare, expected, "while connecting").await;
}

#[tokio::test]
async fn the_server_does_not_speak_http() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/backend-api/codex", listener.local_addr().unwrap());
    let speaking = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Ignore a client that has disconnected.
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n\x00\xff").await;
        }
    };
    tokio::select! {
        () = speaking => {}
        () = assert_reported("SSH", || launch(&url, &accounts()), UNREACHABLE, "can't be reached") => {}
    }
}
