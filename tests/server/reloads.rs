//! SIGHUP: settings that change at once, settings that require a restart, and invalid settings, which change
//! nothing.

use serde_json::json;

use crate::fake::FakeUpstream;
use crate::proxy::{Launch, TestProxy};
use crate::wire::Ask;
use crate::{BEGUN, Bench, COMPLETED, SECOND, begun, chat, signed_in, streaming, with};

const AGAIN: &str = "settings reloaded";

/// Writes this config file, and waits until the daemon has read it.
pub(crate) async fn reload(launch: &Launch, proxy: &TestProxy, file: &str) {
    let seen = proxy.log().matches(AGAIN).count();
    std::fs::write(launch.home().join("config.toml"), file).unwrap();
    proxy.signal("HUP");
    proxy.says_times(AGAIN, seen + 1, 5 * SECOND).await;
}

async fn bench(file: &str) -> (Bench, Launch) {
    let upstream = FakeUpstream::start().await;
    upstream.on("/responses", crate::Script::events(&crate::WHOLE));
    let launch = signed_in(&upstream).file("config.toml", file);
    let proxy = launch.start();
    (Bench { upstream, proxy }, launch)
}

fn key(key: &str) -> String {
    format!("[[keys]]\nname = 'laptop'\nkey = '{key}'\n")
}

async fn status(bench: &Bench, key: &str) -> u16 {
    Ask::chat(&chat()).header("x-api-key", key).send(&bench.proxy).await.status
}

#[tokio::test]
async fn changed_keys_apply_at_once() {
    let (bench, launch) = bench(&key("one")).await;
    assert_eq!((status(&bench, "one").await, status(&bench, "two").await), (200, 401));
    reload(&launch, &bench.proxy, &key("two")).await;
    assert_eq!((status(&bench, "one").await, status(&bench, "two").await), (401, 200));
    assert!(!bench.proxy.log().contains("after a restart"), "{}", bench.proxy.log());
}

#[tokio::test]
async fn changed_model_names_apply_at_once() {
    let (bench, launch) = bench("").await;
    let settings = "default_model = 'gpt-first'\nmodel_aliases = { quick = 'gpt-second' }\n[[routes]]\nmatch = 'slow*'\nmodel = 'gpt-third'";
    reload(&launch, &bench.proxy, settings).await;
    for (name, model) in [("default", "gpt-first"), ("quick", "gpt-second"), ("slowly", "gpt-third")] {
        let request = with(chat(), "model", json!(name));
        assert_eq!(Ask::chat(&request).send(&bench.proxy).await.status, 200);
        assert_eq!(bench.upstream.requests("/responses").last().unwrap().json()["model"], model);
    }
}

#[tokio::test]
async fn changed_origins_and_hosts_apply_at_once() {
    let (bench, launch) = bench("").await;
    let ask = Ask::chat(&chat()).header("origin", "https://a.example").header("host", "box.local");
    assert_eq!(ask.send(&bench.proxy).await.status, 403);
    reload(&launch, &bench.proxy, "allowed_origins = ['https://a.example']\nallowed_hosts = ['box.local']").await;
    assert_eq!(ask.send(&bench.proxy).await.status, 200);
    reload(&launch, &bench.proxy, "").await;
    assert_eq!(ask.send(&bench.proxy).await.status, 403);
}

#[tokio::test]
async fn a_changed_log_level_applies_at_once() {
    let (bench, launch) = bench("log.level = 'warn'").await;
    assert_eq!(status(&bench, "").await, 200);
    assert!(!bench.proxy.log().contains("request ended"));
    reload(&launch, &bench.proxy, "log.level = 'info'").await;
    assert_eq!(status(&bench, "").await, 200);
    bench.proxy.says("request ended", 5 * SECOND).await;
}

#[tokio::test]
async fn a_stream_continues_while_the_settings_change() {
    let (bench, launch) = bench(&key("one")).await;
    let gate = crate::fake::Gate::default();
    bench.upstream.replace("/responses", begun(&BEGUN).gate(&gate).event(COMPLETED).end());
    let mut open = Ask::chat(&streaming()).header("x-api-key", "one").open(&bench.proxy).await;
    open.until("Grüße").await;
    reload(&launch, &bench.proxy, &key("two")).await;
    gate.open();
    let answer = open.rest().await;
    assert_eq!(answer.frames().last().unwrap(), "[DONE]", "{}", answer.text());
    assert_eq!(status(&bench, "one").await, 401);
}

#[tokio::test]
async fn invalid_settings_change_nothing_and_every_error_is_logged() {
    let (bench, launch) = bench(&key("one")).await;
    let faulty = format!("{}[limits]\nbody = 'big'\n[log]\nlevle = 'debug'\n", key("two"));
    std::fs::write(launch.home().join("config.toml"), faulty).unwrap();
    bench.proxy.signal("HUP");
    bench.proxy.says_times("settings not reloaded", 2, 5 * SECOND).await;
    let log = bench.proxy.log();
    assert!(log.contains("limits.body: ") && log.contains("did you mean 'log.level'"), "{log}");
    assert_eq!((status(&bench, "one").await, status(&bench, "two").await), (200, 401));
}

#[tokio::test]
async fn settings_that_need_a_restart_are_named() {
    let (bench, launch) = bench("").await;
    let file = "listen = 9\n[upstream]\nproxy = 'http://u:secret@127.0.0.1:9'\n[timing]\ndrain = '1s'\n";
    reload(&launch, &bench.proxy, file).await;
    // The port was set by a flag, which stays in effect.
    bench.proxy.says("upstream.proxy, timing.drain", 5 * SECOND).await;
    assert!(bench.proxy.log().contains("after a restart") && !bench.proxy.log().contains("secret"));
    reload(&launch, &bench.proxy, &file.replace("secret", "other")).await;
    assert_eq!(status(&bench, "").await, 200);
}

#[tokio::test]
async fn a_daemon_reachable_by_others_keeps_its_keys() {
    let upstream = FakeUpstream::start().await;
    upstream.on("/responses", crate::Script::events(&crate::WHOLE));
    let long = "a-key-of-16-chars";
    let file = format!("listen = '0.0.0.0:0'\n{}", key(long));
    let launch = signed_in(&upstream).file("config.toml", &file).without_port();
    let proxy = launch.start();
    for (index, keys) in [String::new(), key("short")].iter().enumerate() {
        std::fs::write(launch.home().join("config.toml"), format!("listen = 'localhost:0'\n{keys}")).unwrap();
        proxy.signal("HUP");
        proxy.says_times("settings not reloaded", index + 1, 5 * SECOND).await;
    }
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 401);
    assert_eq!(Ask::chat(&chat()).header("x-api-key", long).send(&proxy).await.status, 200);
}
