//! The log file: complete over all rotated files, reopened, and private.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::fake::{FakeUpstream, Script};
use crate::proxy::Launch;
use crate::reloads::reload;
use crate::wire::Ask;
use crate::{Bench, SECOND, WHOLE, chat, signed_in};

const ENDED: &str = "request ended";

async fn logging(change: impl FnOnce(Launch) -> Launch) -> (Bench, Launch, PathBuf) {
    let upstream = FakeUpstream::start().await;
    upstream.on("/responses", Script::events(&WHOLE));
    let launch = signed_in(&upstream);
    let path = launch.home().join("logs/daemon.log");
    let launch = change(launch.setting("log.file", path.to_str().unwrap()));
    let proxy = launch.start();
    (Bench { upstream, proxy }, launch, path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

async fn status(launch: &Launch, arguments: &'static [&'static str]) -> String {
    let launch = launch.command(&[&["status"], arguments].concat());
    String::from_utf8(tokio::task::spawn_blocking(move || launch.run()).await.unwrap().stdout).unwrap()
}

#[tokio::test]
async fn every_log_line_is_in_one_of_the_files() {
    let (mut bench, _, path) =
        logging(|launch| launch.setting("log.file_size", "2KiB").setting("log.files", "99")).await;
    for _ in 0..30 {
        assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 200);
    }
    bench.proxy.signal("TERM");
    assert_eq!(bench.proxy.ended().await, Some(0));
    let mut files: Vec<_> =
        std::fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().unwrap() != "lock");
    assert!(files.len() > 2, "{files:?}");
    let lines: usize = files.iter().map(|file| read(file).matches(ENDED).count()).sum();
    assert_eq!(lines, 30);
    for file in &files {
        let metadata = std::fs::metadata(file).unwrap();
        assert!(metadata.len() <= 2048, "{}", file.display());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    assert!(!bench.proxy.log().contains(ENDED), "{}", bench.proxy.log());
}

#[tokio::test]
async fn a_log_that_was_moved_is_reopened_on_sighup() {
    let (mut bench, launch, path) = logging(|launch| launch).await;
    assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 200);
    let away = launch.home().join("away.log");
    std::fs::rename(&path, &away).unwrap();
    bench.proxy.signal("HUP");
    while !path.exists() {
        tokio::task::yield_now().await;
    }
    assert_eq!(Ask::chat(&chat()).send(&bench.proxy).await.status, 200);
    bench.proxy.signal("TERM");
    bench.proxy.ended().await;
    assert!(read(&path).contains("settings reloaded"), "{}", read(&path));
    for file in [away, path] {
        assert_eq!(read(&file).matches(ENDED).count(), 1, "{}", read(&file));
    }
}

#[tokio::test]
async fn status_shows_the_log_file() {
    let upstream = FakeUpstream::start().await;
    let launch = signed_in(&upstream);
    let without: Value = serde_json::from_str(&status(&launch, &["--offline", "--json"]).await).unwrap();
    assert_eq!(without["files"]["log"], Value::Null);
    assert!(status(&launch, &["--offline"]).await.contains("standard error"));
    let (bench, launch, path) = logging(|launch| launch).await;
    bench.proxy.says(path.to_str().unwrap(), 5 * SECOND).await;
    let reported: Value = serde_json::from_str(&status(&launch, &["--offline", "--json"]).await).unwrap();
    assert_eq!((&reported["files"]["log"], &reported["daemon"]["log_file"]), (&json!(path), &json!(path)));
    assert!(status(&launch, &["--offline"]).await.contains(&format!("log          {}", path.display())));
}

#[tokio::test]
async fn an_unusable_log_file_does_not_prevent_serving() {
    let (bench, launch, path) = logging(|launch| launch).await;
    let second = launch.start();
    second.says("another daemon writes it", SECOND).await;
    assert_eq!(Ask::chat(&chat()).send(&second).await.status, 200);
    second.says(ENDED, 5 * SECOND).await;
    assert!(!read(&path).contains(ENDED), "{}", read(&path));
    drop(bench);
    let (third, _, _) = logging(|launch| launch.setting("log.file", "/proc/no/such")).await;
    assert!(third.proxy.log().contains("log.file: can't write /proc/no/such"), "{}", third.proxy.log());
}

#[tokio::test]
async fn a_changed_log_file_requires_a_restart() {
    let upstream = FakeUpstream::start().await;
    let launch = signed_in(&upstream);
    let proxy = launch.start();
    reload(&launch, &proxy, "log.file = 'a.log'").await;
    proxy.says("log.file", SECOND).await;
    assert!(proxy.log().contains("after a restart") && !launch.home().join("a.log").exists());
}
