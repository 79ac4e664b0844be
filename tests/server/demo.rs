//! The demo marks every response as simulated and doesn't touch the user's login.

use crate::proxy::Launch;
use crate::wire::Ask;
use crate::{chat, streaming};

#[tokio::test]
async fn every_response_of_the_demo_is_marked_as_simulated() {
    let proxy = Launch::demo().start();
    for ask in [
        Ask::chat(&chat()),
        Ask::chat(&streaming()),
        Ask::get("/v1/models"),
        Ask::get("/health"),
        Ask::get("/ready"),
        Ask::get("/nothing"),
        Ask::raw("/v1/chat/completions", "{"),
        Ask::get("/v1/models").header("origin", "https://evil.invalid"),
    ] {
        let answer = ask.send(&proxy).await;
        assert_eq!(answer.header("x-proxy-demo"), "true", "{}", answer.text());
    }
    assert_eq!(Ask::get("/health").send(&proxy).await.json()["demo"], true);
    let said = Ask::chat(&chat()).send(&proxy).await.json();
    let said = said["choices"][0]["message"]["content"].as_str().unwrap().to_lowercase();
    assert!(said.contains("demo") && said.contains("no model"), "{said}");
    assert!(proxy.log().contains("no model and no account is used"), "{}", proxy.log());
}

#[tokio::test]
async fn the_demo_does_not_touch_the_credential_file() {
    let launch = Launch::demo().file("credentials.json", "not our format");
    let mut proxy = launch.start();
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
    let mut found = names(launch.home());
    found.retain(|name| name != "run.json");
    assert_eq!(found, ["credentials.json"]);
    proxy.signal("TERM");
    assert_eq!(proxy.ended().await, Some(0));
    assert_eq!(names(launch.home()), ["credentials.json"]);
    assert_eq!(std::fs::read_to_string(launch.home().join("credentials.json")).unwrap(), "not our format");
}

#[tokio::test]
async fn a_real_response_is_not_marked_as_simulated() {
    let bench = crate::Bench::answering(|launch| launch).await;
    let answer = Ask::chat(&chat()).send(&bench.proxy).await;
    assert!(!answer.headers.contains_key("x-proxy-demo"));
    assert_eq!(Ask::get("/health").send(&bench.proxy).await.json()["demo"], false);
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
