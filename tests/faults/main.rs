//! The matrix of faults: for each fault behind the real binary, each client gets the error in the tables
//! (`answers.txt`, `codes.txt`, `streams.txt`), once and in time.
//!
//! One daemon serves all rows of a run concurrently; the originator of a request selects the script. There is
//! one run over HTTP/1.1 and one over HTTP/2 with TLS. Unreachable backends are in `network`.

#![cfg(test)]

mod cell;
#[path = "../support/encoding.rs"]
mod compression;
#[path = "../support/upstream.rs"]
#[expect(dead_code, reason = "no timed waits here")]
mod fake;
mod network;
#[path = "../support/proxy.rs"]
#[expect(dead_code, reason = "daemons are only started here")]
mod proxy;
mod script;
mod table;
#[path = "../server/wire.rs"]
#[expect(dead_code, reason = "responses are read completely here")]
mod wire;

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Duration;

use cell::{Cell, Dialect, Mode};
use codex_proxy::auth::{Credential, Document};
use codex_proxy::clock::{Clock as _, SystemClock};
use codex_proxy::secret::Secret;
use fake::{FakeUpstream, Script};
use futures_util::StreamExt as _;
use proxy::{Launch, TestProxy};
use table::Row;

/// Time limit for a complete response: the longest silence plus the waits between attempts.
const IN_TIME: Duration = Duration::from_secs(12);
/// Maximum number of concurrent requests.
const AT_A_TIME: usize = 48;

/// A daemon for this backend, with short timers and these accounts; the first one is active.
fn launch(url: &str, accounts: &[String]) -> Launch {
    let mut document = Document::empty();
    for account in accounts {
        let (access, refresh) = (Secret::new(format!("at-{account}")), Secret::new(format!("rt-{account}")));
        let now = Some(SystemClock.now());
        document.put(&Credential::from_tokens(Some(account.clone()), None, access, Some(refresh), now).unwrap());
    }
    document.set_active(&accounts[0]);
    Launch::new()
        .setting("upstream.url", url)
        .setting("auth.url", url)
        .setting("upstream.first_event_timeout", "2s")
        .setting("upstream.idle_timeout", "2s")
        .setting("timing.commit_after", "1s")
        .setting("limits.event", "64KiB")
        .file("credentials.json", &document.to_text())
}

/// Runs every row for every client.
async fn run(upstream: &FakeUpstream, prepare: impl FnOnce(Launch) -> Launch) {
    let rows = table::rows();
    assert!(rows.len() > 200, "rows are missing");
    let cells: Vec<Cell<'_>> = rows.iter().enumerate().flat_map(|(number, row)| cells(number, row)).collect();
    let accounts: Vec<String> =
        std::iter::once("acct-1".to_owned()).chain(cells.iter().filter_map(Cell::account)).collect();
    // Every refresh returns a token that the backend rejects again.
    upstream.on("/oauth/token", Script::json(200, r#"{"access_token":"at-renewed","refresh_token":"rt-renewed"}"#));
    for cell in &cells {
        upstream.on(&format!("/of/{}", cell.name()), cell.row.script.clone().named(&cell.request_id()));
    }
    let proxy = prepare(launch(&upstream.url(), &accounts)).start();
    // Refreshes of all accounts are serialized.
    let (renewing, others): (Vec<_>, Vec<_>) = cells.iter().partition(|cell| cell.renews());
    let (mut reported, wrong) = tokio::join!(play_all(&renewing, 4, &proxy), play_all(&others, AT_A_TIME, &proxy));
    reported.extend(wrong);
    assert!(reported.is_empty(), "{} of {} cells:\n{}", reported.len(), cells.len(), reported.join("\n"));
    assert_calls(upstream, &cells);
    assert_logged(&proxy, &cells);
}

fn cells(number: usize, row: &Row) -> impl Iterator<Item = Cell<'_>> {
    Dialect::ALL
        .into_iter()
        .flat_map(move |dialect| [Mode::Document, Mode::Stream].map(|mode| Cell { number, row, dialect, mode }))
}

/// Runs up to this many cells concurrently; returns the failures.
async fn play_all(cells: &[&Cell<'_>], at_a_time: usize, proxy: &TestProxy) -> Vec<String> {
    let answers = futures_util::stream::iter(cells).map(|cell| play(cell, proxy)).buffer_unordered(at_a_time);
    answers.filter_map(|wrong| async { wrong }).collect().await
}

/// The failures of a client's response.
async fn play(cell: &Cell<'_>, proxy: &TestProxy) -> Option<String> {
    let answer = tokio::time::timeout(IN_TIME, cell.ask().send(proxy)).await;
    let wrong = match &answer {
        Err(_) => Err("no answer in time".to_owned()),
        Ok(answer) => cell.judge(answer),
    };
    let body = answer.as_ref().map(|answer| String::from_utf8_lossy(&answer.body).into_owned()).unwrap_or_default();
    wrong.err().map(|wrong| format!("{}: {wrong}\n    {body:?}", cell.title()))
}

/// The number of upstream requests is exactly that of the table.
fn assert_calls(upstream: &FakeUpstream, cells: &[Cell<'_>]) {
    let mut asked: HashMap<String, usize> = HashMap::new();
    for request in upstream.requests("/responses") {
        *asked.entry(request.header("originator").to_owned()).or_default() += 1;
    }
    let is_wrong = |cell: &&Cell<'_>| !asked.get(&cell.name()).is_some_and(|calls| cell.calls().contains(calls));
    let wrong: Vec<String> = cells
        .iter()
        .filter(is_wrong)
        .map(|cell| format!("{}: {:?}, not {:?}", cell.title(), asked.get(&cell.name()), cell.calls()))
        .collect();
    assert!(wrong.is_empty(), "calls of {} cells:\n{}", wrong.len(), wrong.join("\n"));
}

/// The log contains the backend's id of each request that it responded to.
fn assert_logged(proxy: &TestProxy, cells: &[Cell<'_>]) {
    let log = proxy.log();
    assert!(!log.contains('<'), "no web page is logged");
    assert!(!log.contains("panicked"), "{log}");
    let named: std::collections::HashSet<&str> =
        log.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| word.starts_with("oai-")).collect();
    let unnamed: Vec<String> = cells
        .iter()
        .filter(|cell| cell.row.has_head && !named.contains(cell.request_id().as_str()))
        .map(Cell::title)
        .collect();
    assert!(unnamed.is_empty(), "{} cells have no request id in the log:\n{}", unnamed.len(), unnamed.join("\n"));
}

#[tokio::test]
async fn every_fault_is_reported_as_the_tables_say_over_http1() {
    run(&FakeUpstream::start().await, |launch| launch).await;
}

#[tokio::test]
async fn every_fault_is_reported_as_the_tables_say_over_http2() {
    let (upstream, certificate) = FakeUpstream::start_http2().await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(certificate.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    run(&upstream, |launch| launch.setting("upstream.ca_file", &path)).await;
}
