//! `models` as text and JSON; shell completions and the manual.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::fake::Script;
use crate::proxy::Launch;
use crate::sign_in::Services;
use crate::status::members;

const LIST: &str = "/backend-api/codex/models";

struct Told {
    code: i32,
    answer: String,
    talk: String,
}

async fn told(launch: &Launch, arguments: &[&str]) -> Told {
    let launch = launch.command(arguments);
    let output = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Told { code: output.status.code().unwrap(), answer: text(output.stdout), talk: text(output.stderr) }
}

fn catalogue() -> Script {
    let model = json!({
        "slug": "gpt-live", "display_name": "GPT-Live", "visibility": "list", "context_window": 400_000,
        "supported_reasoning_levels": [{"effort": "low"}, {"effort": "high"}], "default_reasoning_level": "high",
        "service_tiers": [{"id": "priority"}], "input_modalities": ["text"],
    });
    Script::json(200, &json!({"models": [model, {"slug": "gpt-hidden", "visibility": "hide"}]}).to_string())
}

#[tokio::test]
async fn the_table_fits_a_terminal_and_needs_no_request() {
    let services = Services::new().await;
    let told = told(&services.fresh(), &["models"]).await;
    assert_eq!(told.code, 0, "{}", told.talk);
    assert!(told.answer.lines().all(|line| line.chars().count() <= 80), "{}", told.answer);
    for part in ["gpt-6.1-sol", "272,000", "low*", "fast", "visibility"] {
        assert!(told.answer.contains(part), "{part}\n{}", told.answer);
    }
    assert!(!told.answer.contains('\u{1b}') && told.talk.contains("--refresh"), "{}", told.talk);
    assert_eq!(services.upstream.requests("").len(), 0);
}

#[tokio::test]
async fn the_catalog_of_the_backend_is_cached_for_the_next_command() {
    let services = Services::new().await;
    services.upstream.on(LIST, catalogue());
    let launch = services.fresh();
    let fresh = told(&launch, &["models", "--refresh"]).await;
    assert_eq!(fresh.code, 0, "{}", fresh.talk);
    assert!(fresh.answer.contains("gpt-live") && fresh.answer.contains("400,000"), "{}", fresh.answer);
    let kept = told(&launch, &["models", "--json"]).await;
    let list: Value = serde_json::from_str(&kept.answer).unwrap();
    assert_eq!((list["source"].as_str(), list["heard_at"].is_string()), (Some("backend"), true));
    let model = &list["models"][0];
    assert_eq!((&model["id"], &model["efforts"]), (&json!("gpt-live"), &json!(["low", "high"])));
    assert_eq!((&model["default_effort"], &model["speed_tiers"]), (&json!("high"), &json!(["fast"])));
    assert_eq!(list["models"][1]["visibility"], "hide");
    assert_eq!(services.upstream.requests(LIST).len(), 1);
}

#[tokio::test]
async fn a_refresh_that_fails_reports_its_reason() {
    let services = Services::new().await;
    let signed_out = told(&services.launch(), &["models", "--refresh"]).await;
    assert_eq!((signed_out.code, signed_out.answer.as_str()), (3, ""));
    assert!(signed_out.talk.contains("codex-proxy login"), "{}", signed_out.talk);
    services.upstream.on(LIST, Script::json(500, "{}"));
    assert_eq!(told(&services.fresh(), &["models", "--refresh"]).await.code, 1);
}

#[tokio::test]
async fn the_output_matches_the_documentation() {
    let services = Services::new().await;
    let told = told(&services.launch(), &["models", "--json"]).await;
    let mut printed = BTreeSet::new();
    members(&serde_json::from_str(&told.answer).unwrap(), "", &mut printed);
    let text = include_str!("../../docs/models.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    assert_eq!(rows.map(|(member, _)| member.to_owned()).collect::<BTreeSet<_>>(), printed);
}

#[tokio::test]
async fn completions_and_the_manual_name_every_command_whatever_the_settings() {
    let launch = Launch::new().file("config.toml", "nonsense");
    let commands = ["serve", "login", "models", "completions", "man"];
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = told(&launch, &["completions", shell]).await;
        assert_eq!(script.code, 0, "{}", script.talk);
        assert!(commands.iter().all(|command| script.answer.contains(command)), "{shell}");
    }
    let page = told(&launch, &["man"]).await;
    assert_eq!(page.code, 0, "{}", page.talk);
    assert!(page.answer.contains(".TH codex-proxy 1") && page.answer.contains("not a documented public API"));
    assert!(commands.iter().all(|command| page.answer.contains(command)), "{}", page.answer);
    for part in [r"\-\-refresh", r"accounts move", r"\-\-write"] {
        assert!(page.answer.contains(part), "{part}\n{}", page.answer);
    }
}
