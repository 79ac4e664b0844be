//! Quota and usage: `/usage`, `/metrics`, `codex-proxy usage` and its file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::fake::Script;
use crate::proxy::{Launch, TestProxy};
use crate::status::members;
use crate::wire::Ask;
use crate::{Bench, CREATED, DELTA, FakeUpstream, SECOND, WHOLE, batches, chat, signed_in, streaming};

const USAGE: &str = "/backend-api/wham/usage";
const EVENT: &str = r#"{"type":"codex.rate_limits","plan_type":"pro","rate_limits":{"allowed":true,
    "primary":{"used_percent":42,"window_minutes":10080,"reset_at":4000000000},"secondary":null}}"#;

/// A response with this usage.
fn spent(input: u64, cached: u64) -> Script {
    let usage = json!({
        "input_tokens": input, "input_tokens_details": {"cached_tokens": cached}, "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": input + 7,
    });
    let completed = json!({"type": "response.completed", "response": {
        "id": "resp_1", "created_at": 1_700_000_000, "model": "gpt-5.5", "status": "completed", "usage": usage}});
    let event = EVENT.replace('\n', " ");
    Script::events(&[&event, CREATED, WHOLE[1], DELTA, &completed.to_string()])
}

fn path(launch: &Launch) -> PathBuf {
    launch.home().join("usage.sqlite3")
}

async fn usage_of(proxy: &TestProxy) -> Value {
    let answer = Ask::get("/usage").send(proxy).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{}", answer.text());
    answer.json()
}

/// The output of the command, without a running daemon.
async fn printed(launch: &Launch, arguments: &[&str]) -> (i32, String, String) {
    let launch = launch.command(&[&["usage"], arguments].concat());
    let output = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn totals(launch: &Launch) -> Value {
    let (code, text, stderr) = printed(launch, &["--json"]).await;
    assert_eq!(code, 0, "{stderr}");
    serde_json::from_str::<Value>(&text).unwrap()["totals"].take()
}

async fn daemon() -> (FakeUpstream, Launch) {
    let upstream = FakeUpstream::start().await;
    upstream.on("/responses", spent(2000, 500));
    let launch = signed_in(&upstream);
    (upstream, launch)
}

#[tokio::test]
async fn each_key_and_model_is_counted_separately() {
    let keys = "[[keys]]\nname = 'desk'\nkey = 'sk-desk'\n[[keys]]\nname = 'batch'\nkey = 'sk-batch'\n";
    let bench = Bench::with(|launch| launch.file("config.toml", keys)).await;
    bench.upstream.on("/responses", spent(2000, 500));
    assert_eq!(Ask::get("/usage").send(&bench.proxy).await.status, 401);
    for (key, body) in [("sk-desk", chat()), ("sk-desk", streaming()), ("sk-batch", chat())] {
        let ask = Ask::chat(&body).header("authorization", &format!("Bearer {key}"));
        assert_eq!(ask.send(&bench.proxy).await.status, 200);
    }
    let refused = Ask::chat(&json!({"model": "gpt-5.5"})).header("authorization", "Bearer sk-desk");
    assert_eq!(refused.send(&bench.proxy).await.status, 400);
    let usage_document = Ask::get("/usage?since=today").header("x-api-key", "sk-desk").send(&bench.proxy).await.json();
    let rows = usage_document["totals"]["rows"].as_array().unwrap();
    let of = |row: &Value| (row["key"].clone(), row["model"].clone(), row["requests"].clone());
    let expected = [(json!("batch"), json!("gpt-5.5"), json!(1)), (json!("desk"), json!("gpt-5.5"), json!(2))];
    assert_eq!(rows.iter().map(of).collect::<Vec<_>>(), expected);
    let sum = json!({
        "requests": 3, "input_tokens": 6000, "cached_tokens": 1500, "output_tokens": 21, "reasoning_tokens": 9,
    });
    assert_eq!(usage_document["totals"]["sum"], sum);
    let wrong = Ask::get("/usage?since=soon").header("x-api-key", "sk-desk").send(&bench.proxy).await;
    assert_eq!((wrong.status, &wrong.error()["param"]), (400, &json!("since")));
}

#[tokio::test]
async fn quota_from_events_is_shown_at_once() {
    let (upstream, launch) = daemon().await;
    let proxy = launch.start();
    assert_eq!(usage_of(&proxy).await["quota"], json!([]), "nothing was reported yet");
    Ask::chat(&streaming()).send(&proxy).await;
    let quota = usage_of(&proxy).await["quota"].clone();
    assert_eq!((&quota[0]["account_id"], &quota[0]["plan"]), (&json!("acct-1"), &json!("pro")));
    let window = &quota[0]["windows"][0];
    assert_eq!((&window["window"], &window["used_percent"]), (&json!("weekly"), &json!(42.0)));
    assert_eq!(upstream.requests(USAGE).len(), 1, "a failed query is not repeated at once");
}

#[tokio::test]
async fn a_backend_without_quota_delays_the_output_only_briefly() {
    let (upstream, launch) = daemon().await;
    upstream.on(USAGE, Script::silence());
    let proxy = launch.start();
    let began = tokio::time::Instant::now();
    assert_eq!(usage_of(&proxy).await["quota"], json!([]));
    assert!(began.elapsed() < 10 * SECOND, "{:?}", began.elapsed());
    let began = tokio::time::Instant::now();
    assert_eq!(usage_of(&proxy).await["quota"], json!([]));
    assert!(began.elapsed() < 3 * SECOND, "requested in vain once: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_killed_daemon_loses_no_reported_usage() {
    let (_upstream, launch) = daemon().await;
    let mut proxy = launch.start();
    for _ in 0..5 {
        Ask::chat(&chat()).send(&proxy).await;
    }
    assert_eq!(usage_of(&proxy).await["totals"]["sum"]["requests"], 5);
    let more = (0..20).map(|_| async { drop(Ask::chat(&streaming()).fire(&proxy).await) });
    futures_util::future::join_all(more).await;
    proxy.signal("KILL");
    proxy.ended().await;
    let kept = totals(&launch).await["sum"]["requests"].as_u64().unwrap();
    assert!((5..=25).contains(&kept), "{kept}");
    let proxy = launch.start();
    Ask::chat(&chat()).send(&proxy).await;
    assert_eq!(usage_of(&proxy).await["totals"]["sum"]["requests"], kept + 1);
    assert!(!proxy.log().contains("damaged"), "{}", proxy.log());
}

#[tokio::test]
async fn a_daemon_writes_pending_usage_on_shutdown() {
    let (_upstream, launch) = daemon().await;
    let mut proxy = launch.start();
    Ask::chat(&chat()).send(&proxy).await;
    proxy.signal("TERM");
    assert_eq!(proxy.ended().await, Some(0));
    assert_eq!(totals(&launch).await["sum"]["input_tokens"], 2000);
}

#[tokio::test]
async fn two_daemons_count_in_one_file() {
    let (_upstream, launch) = daemon().await;
    let (one, two, ask) = (launch.start(), launch.start(), Ask::chat(&chat()));
    for _ in 0..5 {
        tokio::join!(ask.send(&one), ask.send(&two));
    }
    usage_of(&one).await;
    assert_eq!(usage_of(&two).await["totals"]["sum"]["requests"], 10);
    let kept = totals(&launch).await;
    assert_eq!((&kept["sum"]["requests"], kept["rows"].as_array().unwrap().len()), (&json!(10), 1));
}

#[tokio::test]
async fn old_usage_is_deleted_and_the_file_is_private() {
    let (_upstream, launch) = daemon().await;
    drop(launch.start());
    let old = "INSERT INTO totals VALUES (20000, '', 'old', 1, 1, 0, 0, 0)";
    Connection::open(path(&launch)).unwrap().execute_batch(old).unwrap();
    let all = ["--json", "--since", "2020-01-01"];
    assert!(printed(&launch, &all).await.1.contains("old"));
    drop(launch.start());
    assert!(!printed(&launch, &all).await.1.contains("\"old\""));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(path(&launch)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test]
async fn counting_can_be_disabled_or_kept_in_memory() {
    for store in ["off", "memory"] {
        let (_upstream, launch) = daemon().await;
        let launch = launch.setting("usage.store", store);
        let proxy = launch.start();
        Ask::chat(&chat()).send(&proxy).await;
        let totals = usage_of(&proxy).await["totals"].clone();
        assert_eq!(totals["store"], store);
        assert_eq!(totals["sum"]["requests"], u32::from(store == "memory"));
        assert!(!path(&launch).exists());
        let (code, text, stderr) = printed(&launch, &[]).await;
        assert!(code == 0 && text.contains("no usage recorded") && stderr.contains("usage.store"), "{text}{stderr}");
    }
}

#[tokio::test]
async fn an_unusable_usage_file_does_not_prevent_serving() {
    let (_upstream, launch) = daemon().await;
    let connection = Connection::open(path(&launch)).unwrap();
    connection.execute_batch("CREATE TABLE other (x)").unwrap();
    let proxy = launch.start();
    assert!(proxy.log().contains("is not a usage store") && proxy.log().contains("in memory"), "{}", proxy.log());
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
    assert_eq!(usage_of(&proxy).await["totals"]["sum"]["requests"], 1);
    let (code, text, stderr) = printed(&launch, &[]).await;
    assert!(code == 1 && text.is_empty() && stderr.contains("is not a usage store"), "{stderr}");
}

#[tokio::test]
async fn the_command_prints_a_table_and_accepts_a_day() {
    let (_upstream, launch) = daemon().await;
    let proxy = launch.start();
    Ask::chat(&chat()).send(&proxy).await;
    usage_of(&proxy).await;
    let (code, text, _) = printed(&launch, &[]).await;
    assert_eq!((code, text.matches("\u{1b}[").count()), (0, 0), "no colors without a terminal: {text}");
    for part in ["(7 days, in UTC)", "gpt-5.5", "2.00k", "25 %", "all "] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(printed(&launch, &["--since", "today"]).await.1.contains("(1 day, in UTC)"));
    let (code, text, stderr) = printed(&launch, &["--since", "soon"]).await;
    assert!(code == 2 && text.is_empty() && stderr.contains("'7d'"), "{stderr}");
}

#[tokio::test]
async fn a_low_cache_share_is_explained() {
    let bench = Bench::with(|launch| launch).await;
    for (input, cached) in [(2000, 0), (2100, 0), (2200, 100), (2300, 2200)] {
        bench.upstream.on("/responses", spent(input, cached));
    }
    let ask = async |system: &str, turns: usize| {
        let mut messages = vec![json!({"role": "system", "content": system})];
        messages.extend((0..turns).map(|turn| json!({"role": "user", "content": format!("turn {turn}")})));
        let body = json!({"model": "gpt-5.5", "prompt_cache_key": "private words", "messages": messages});
        assert_eq!(Ask::chat(&body).send(&bench.proxy).await.status, 200);
    };
    ask("It is noon.", 1).await;
    ask("It is noon.", 2).await;
    ask("It is one.", 3).await;
    ask("It is one.", 4).await;
    let usage_document = usage_of(&bench.proxy).await;
    assert!(!usage_document.to_string().contains("private words"));
    assert_eq!(usage_document["conversations"].as_array().unwrap().len(), 1);
    let turns = usage_document["conversations"][0]["turns"].as_array().unwrap();
    let of = |turn: &Value| json!([turn["prefix"], turn["changed_in"], turn["low_because"], turn["cached_tokens"]]);
    let expected = [
        json!(["first", null, null, 0]),
        json!(["kept", null, "upstream", 0]),
        json!(["changed", "instructions", "client", 100]),
        json!(["kept", null, null, 2200]),
    ];
    assert_eq!(turns.iter().map(of).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn the_demo_shows_its_quota_and_writes_nothing() {
    let launch = Launch::demo();
    let proxy = launch.start();
    Ask::chat(&chat()).send(&proxy).await;
    let usage_document = usage_of(&proxy).await;
    assert_eq!((&usage_document["demo"], &usage_document["totals"]["store"]), (&json!(true), &json!("memory")));
    assert_eq!(usage_document["totals"]["sum"]["requests"], 1);
    let windows: Vec<_> =
        usage_document["quota"][0]["windows"].as_array().unwrap().iter().map(|one| &one["window"]).collect();
    assert_eq!(windows, ["5-hour", "weekly"]);
    assert!(!path(&launch).exists());
}

fn documented() -> BTreeSet<String> {
    let text = include_str!("../../docs/usage.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(member, _)| member.to_owned()).collect()
}

#[tokio::test]
async fn the_json_matches_the_documentation() {
    let launch = Launch::demo().setting("batch.window_percent", "1");
    let proxy = launch.start();
    Ask::chat(&chat()).send(&proxy).await;
    batches::create(&proxy, &batches::lines(1)).await;
    proxy.says("batch paused", 10 * SECOND).await;
    let mut found = BTreeSet::new();
    members(&usage_of(&proxy).await, "", &mut found);
    assert_eq!(documented(), found);

    let (_upstream, launch) = daemon().await;
    let proxy = launch.start();
    Ask::chat(&chat()).send(&proxy).await;
    usage_of(&proxy).await;
    let mut printed_members = BTreeSet::new();
    members(&serde_json::from_str(&printed(&launch, &["--json"]).await.1).unwrap(), "", &mut printed_members);
    let is_printed = |member: &&String| *member == "version" || member.starts_with("totals");
    assert_eq!(printed_members, documented().iter().filter(is_printed).cloned().collect());
}

/// A name, its labels, a value.
type Sample = (String, BTreeMap<String, String>, f64);

/// The samples of each metric family, with its type; fails if the page is malformed.
fn parsed(page: &str) -> BTreeMap<String, (String, Vec<Sample>)> {
    let mut families: BTreeMap<String, (String, Vec<Sample>)> = BTreeMap::new();
    let mut current = String::new();
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            help.split_once(' ').expect("a name and a sentence").0.clone_into(&mut current);
            assert!(!families.contains_key(&current), "{current} comes twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(name == current && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
            families.insert(current.clone(), (kind.to_owned(), Vec::new()));
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap();
            let pairs = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap());
            let labels = pairs.map(|(label, word)| {
                let word = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap();
                (label.to_owned(), word.to_owned())
            });
            let (kind, samples) = families.get_mut(&current).unwrap();
            let base = if kind == "histogram" {
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap()
            } else {
                name
            };
            assert_eq!(base, current, "{line}");
            samples.push((name.to_owned(), labels.collect(), value.parse().unwrap()));
        }
    }
    families
}

#[tokio::test]
async fn the_metrics_are_in_prometheus_form_and_as_the_readme_lists_them() {
    let (_upstream, launch) = daemon().await;
    let proxy = launch.start();
    Ask::chat(&chat()).send(&proxy).await;
    Ask::chat(&streaming()).send(&proxy).await;
    let messages = json!({"model": "gpt-5.5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    Ask::post("/v1/messages", &messages).send(&proxy).await;
    let families = parsed(Ask::get("/metrics").send(&proxy).await.text());

    let value = |family: &str, name: &str, wanted: &[(&str, &str)]| {
        let has = |labels: &BTreeMap<String, String>| wanted.iter().all(|(label, word)| labels[*label] == *word);
        families[family].1.iter().find(|(own, labels, _)| own == name && has(labels)).map(|(.., value)| *value)
    };
    let tokens = |kind: &str| {
        value("codex_proxy_tokens_total", "codex_proxy_tokens_total", &[("model", "gpt-5.5"), ("kind", kind)])
    };
    let counted = ["input", "cached", "output", "reasoning"].map(tokens);
    assert_eq!(counted, [Some(6000.0), Some(1500.0), Some(21.0), Some(9.0)]);
    let first = "codex_proxy_time_to_first_content_seconds";
    let streamed = "codex_proxy_stream_duration_seconds";
    let chat = [("dialect", "chat")];
    assert_eq!(value(first, &format!("{first}_count"), &chat), Some(2.0));
    assert_eq!(value(first, &format!("{first}_count"), &[("dialect", "messages")]), Some(1.0));
    assert_eq!(value(streamed, &format!("{streamed}_count"), &chat), Some(1.0));
    assert_eq!(value(streamed, &format!("{streamed}_count"), &[("dialect", "messages")]), None);
    let everything = [("dialect", "chat"), ("le", "+Inf")];
    assert_eq!(value(first, &format!("{first}_bucket"), &everything), Some(2.0));
    let ratio = "codex_proxy_quota_used_ratio";
    assert_eq!(value(ratio, ratio, &[("account", "acct-1"), ("limit", "plan"), ("window", "weekly")]), Some(0.42));
    let reset = "codex_proxy_quota_reset_timestamp_seconds";
    assert_eq!(value(reset, reset, &[("window", "weekly")]), Some(4e9));

    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for (_, labels, count) in families[first].1.iter().filter(|(name, ..)| name.ends_with("_bucket")) {
        let before = counts.insert(&labels["dialect"], *count).unwrap_or_default();
        assert!(before <= *count, "buckets add up");
    }
    let page = include_str!("../../docs/operations.md");
    let table = page.split("## Metrics").nth(1).unwrap().split("\n## ").next().unwrap();
    let names = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | ")).map(|(names, _)| names);
    let listed: BTreeSet<_> = names.flat_map(|names| names.split(", ")).map(|name| name.trim_matches('`')).collect();
    let usage_document: BTreeSet<_> = families.keys().map(String::as_str).collect();
    assert_eq!(listed, usage_document);
}
