//! `models` as text and JSON; shell completions and the manual.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::fake::Script;
use crate::proxy::Launch;
use crate::sign_in::Services;
use crate::status::members;
use crate::wire::Ask;

const LIST: &str = "/backend-api/codex/models";

struct CommandOutput {
    code: i32,
    stdout: String,
    stderr: String,
}

async fn run(launch: &Launch, arguments: &[&str]) -> CommandOutput {
    let launch = launch.command(arguments);
    let output = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    CommandOutput { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
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
    let output = run(&services.fresh(), &["models"]).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stdout.lines().all(|line| line.chars().count() <= 80), "{}", output.stdout);
    for part in ["gpt-6.2-sol", "500,000", "low*", "fast", "visibility"] {
        assert!(output.stdout.contains(part), "{part}\n{}", output.stdout);
    }
    assert!(!output.stdout.contains('\u{1b}') && output.stderr.contains("--refresh"), "{}", output.stderr);
    assert_eq!(services.upstream.requests("").len(), 0);
}

#[tokio::test]
async fn the_catalog_of_the_backend_is_cached_for_the_next_command() {
    let services = Services::new().await;
    services.upstream.on(LIST, catalogue());
    let launch = services.fresh();
    let fresh = run(&launch, &["models", "--refresh"]).await;
    assert_eq!(fresh.code, 0, "{}", fresh.stderr);
    assert!(fresh.stdout.contains("gpt-live") && fresh.stdout.contains("400,000"), "{}", fresh.stdout);
    let kept = run(&launch, &["models", "--json"]).await;
    let list: Value = serde_json::from_str(&kept.stdout).unwrap();
    assert_eq!((list["source"].as_str(), list["heard_at"].is_string()), (Some("backend"), true));
    let model = &list["models"][0];
    assert_eq!((&model["id"], &model["efforts"]), (&json!("gpt-live"), &json!(["low", "high"])));
    assert_eq!((&model["default_effort"], &model["speed_tiers"]), (&json!("high"), &json!(["fast"])));
    assert_eq!(list["models"][1]["visibility"], "hide");
    assert_eq!(services.upstream.requests(LIST).len(), 1);
}

/// The catalog of a later release of the backend. Its members, their order and its number formats are invented.
const LATER: &str = r#"{"models":[{"slug":"gpt-live","tool_mode":"of_tomorrow","truncation_policy":{"mode":"tokens","limit":1.0e4},
  "experimental_supported_tools":["clock"],"invented":{"a":[null,true]}}],"later":1}"#;

#[tokio::test]
async fn codex_clients_get_the_catalog_as_the_backend_sent_it() {
    let services = Services::new().await;
    services.upstream.on(LIST, Script::answer(200, &[("etag", "W/\"live-1\"")], LATER));
    services.upstream.on(LIST, Script::json(500, "{}"));
    let launch = services.fresh();
    assert_eq!(run(&launch, &["models", "--refresh"]).await.code, 0);
    let proxy = launch.start();
    // The daemon has loaded the saved catalog when it requests a new one.
    services.upstream.received(LIST, 2).await;
    for path in ["/models", "/v1/models", "/backend-api/codex/models"] {
        let answer = Ask::get(&format!("{path}?client_version=0.171.0")).send(&proxy).await;
        assert_eq!((answer.status, answer.text()), (200, LATER), "{path}");
        assert_eq!(
            answer.header("etag"),
            "W/\"live-1\"",
            "without it, the client requests the catalog again and again"
        );
    }
}

#[tokio::test]
async fn a_refresh_that_fails_reports_its_reason() {
    let services = Services::new().await;
    let signed_out = run(&services.launch(), &["models", "--refresh"]).await;
    assert_eq!((signed_out.code, signed_out.stdout.as_str()), (3, ""));
    assert!(signed_out.stderr.contains("codex-proxy login"), "{}", signed_out.stderr);
    services.upstream.on(LIST, Script::json(500, "{}"));
    assert_eq!(run(&services.fresh(), &["models", "--refresh"]).await.code, 1);
}

#[tokio::test]
async fn the_output_matches_the_documentation() {
    let services = Services::new().await;
    let output = run(&services.launch(), &["models", "--json"]).await;
    let mut printed = BTreeSet::new();
    members(&serde_json::from_str(&output.stdout).unwrap(), "", &mut printed);
    let text = include_str!("../../docs/models.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    assert_eq!(rows.map(|(member, _)| member.to_owned()).collect::<BTreeSet<_>>(), printed);
}

#[tokio::test]
async fn completions_and_the_manual_name_every_command_whatever_the_settings() {
    let launch = Launch::new().file("config.toml", "nonsense");
    let commands = ["serve", "login", "models", "completions", "man"];
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&launch, &["completions", shell]).await;
        assert_eq!(script.code, 0, "{}", script.stderr);
        assert!(commands.iter().all(|command| script.stdout.contains(command)), "{shell}");
    }
    let page = run(&launch, &["man"]).await;
    assert_eq!(page.code, 0, "{}", page.stderr);
    assert!(page.stdout.contains(".TH codex-proxy 1") && page.stdout.contains("not a documented public API"));
    assert!(commands.iter().all(|command| page.stdout.contains(command)), "{}", page.stdout);
    for part in [r"\-\-refresh", r"accounts move", r"\-\-write"] {
        assert!(page.stdout.contains(part), "{part}\n{}", page.stdout);
    }
}
