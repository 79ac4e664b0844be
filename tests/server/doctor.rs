//! `doctor`, on working and broken setups: findings, severities and exit codes.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use codex_proxy::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::fake::Script;
use crate::fake_issuer::Scripted;
use crate::proxy::Launch;
use crate::sign_in::Services;
use crate::status::members;
use crate::wire::Ask;
use crate::{ADDED, COMPLETED, CREATED, DELTA, SECOND, chat};

const CHECK: &str = "/backend-api/wham/accounts/check";
const MODELS: &str = "/backend-api/codex/models";
const USAGE: &str = "/backend-api/wham/usage";

/// A report as text and as JSON.
struct DoctorOutput {
    code: i32,
    text: String,
    json: Value,
}

impl DoctorOutput {
    async fn by(launch: &Launch) -> Self {
        let run = async |arguments: &[&str]| {
            let launch = launch.command(arguments);
            let output = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
            (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
        };
        let (code, text) = run(&["doctor"]).await;
        let (again, json) = run(&["doctor", "--json"]).await;
        assert_eq!(code, again, "{text}\n{json}");
        for secret in ["rt_", "e30.", "sk-"] {
            assert!(!text.contains(secret) && !json.contains(secret), "{text}\n{json}");
        }
        Self { code, text, json: serde_json::from_str(&json).unwrap() }
    }

    /// The worst finding of a check, with its message and its command.
    fn found(&self, check: &str) -> (&str, &str, &str) {
        let findings = self.json["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check);
        let rank =
            |finding: &&Value| ["ok", "unknown", "warning", "error"].iter().position(|s| finding["severity"] == *s);
        let worst = findings.max_by_key(rank).unwrap_or_else(|| panic!("{check}: {}", self.text));
        let text = |name: &str| worst[name].as_str().unwrap_or_default();
        (text("severity"), text("message"), text("command"))
    }
}

fn account(is_deactivated: bool) -> Script {
    let account =
        json!({"id": "acct-1", "workspace_backend_origin": "NO_CONSTRAINT", "is_deactivated": is_deactivated});
    Script::json(200, &json!({"accounts": [account]}).to_string())
}

async fn services() -> Services {
    let services = Services::new().await;
    services.upstream.on(CHECK, account(false));
    services.upstream.on(MODELS, Script::json(200, r#"{"models":[{"slug":"gpt-live"},{"slug":"gpt-live-mini"}]}"#));
    services
}

/// On a port that is certainly free.
fn anywhere(launch: Launch) -> Launch {
    launch.setting("listen", "127.0.0.1:0")
}

#[tokio::test]
async fn a_working_setup_is_reported_as_such() {
    let services = services().await;
    let launch = anywhere(services.fresh());
    let _running = launch.start();
    let reported = DoctorOutput::by(&launch).await;
    assert_eq!(
        (reported.code, &reported.json["healthy"], &reported.json["signed_in"]),
        (0, &json!(true), &json!(true))
    );
    let checks = [
        "settings",
        "files",
        "store",
        "token",
        "network",
        "clock",
        "issuer",
        "backend",
        "workspace",
        "catalogue",
        "port",
        "drift",
    ];
    for check in checks {
        assert_eq!(reported.found(check).0, "ok", "{check}: {}", reported.text);
    }
    assert_eq!(reported.text.lines().count(), checks.len(), "{}", reported.text);
    assert!(reported.found("catalogue").1.contains("2 models"), "{}", reported.text);
}

#[tokio::test]
async fn unknown_backend_events_are_reported_with_the_report_command() {
    let services = services().await;
    let launch = anywhere(services.fresh());
    let proxy = launch.start();
    let strange = r#"{"type":"response.dream.started"}"#;
    services.upstream.on("/responses", Script::events(&[CREATED, strange, ADDED, DELTA, COMPLETED]));
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
    let reported = DoctorOutput::by(&launch).await;
    let (severity, message, command) = reported.found("drift");
    assert_eq!((reported.code, severity, command), (0, "warning", "codex-proxy report"), "{}", reported.text);
    assert!(message.contains("(response.dream.started)"), "{message}");
}

#[tokio::test]
async fn rejected_parameters_are_reported() {
    let services = services().await;
    let launch = anywhere(services.fresh());
    let proxy = launch.start();
    services.upstream.on("/responses", Script::json(400, r#"{"detail":"Unsupported parameter: prompt_cache_key"}"#));
    services.upstream.on("/responses", Script::events(&[CREATED, ADDED, DELTA, COMPLETED]));
    let answer = Ask::chat(&chat()).send(&proxy).await;
    assert_eq!((answer.status, answer.header("x-proxy-warnings")), (200, "ignored:prompt_cache_key"));
    let reported = DoctorOutput::by(&launch).await;
    let (severity, message, command) = reported.found("members");
    assert_eq!((reported.code, severity, command), (0, "warning", "codex-proxy report"), "{}", reported.text);
    assert!(message.contains("prompt_cache_key (gpt-5.5)"), "{message}");
}

#[tokio::test]
async fn every_bad_finding_ends_with_a_command() {
    let services = services().await;
    let reported = DoctorOutput::by(&anywhere(services.launch()).setting("auth.url", "http://127.0.0.1:9")).await;
    for line in reported.text.lines().filter(|line| line.starts_with("wrong") || line.starts_with("warning")) {
        assert!(line.ends_with('`') && line.matches('`').count() == 2, "{line}");
    }
    assert!(reported.text.lines().any(|line| line.starts_with("wrong    issuer")), "{}", reported.text);
}

#[tokio::test]
async fn the_user_is_not_signed_in() {
    let services = services().await;
    let reported = DoctorOutput::by(&anywhere(services.launch())).await;
    assert_eq!((reported.code, &reported.json["signed_in"]), (3, &json!(false)), "{}", reported.text);
    assert_eq!(reported.found("token"), ("error", "not signed in", "codex-proxy login"));
    assert_eq!(reported.found("backend").0, "ok", "it is reached without a sign-in: {}", reported.text);
}

#[tokio::test]
async fn a_session_that_cannot_be_refreshed_is_reported_with_its_reason() {
    let services = services().await;
    services.issuer.script([Scripted::Answer(401, json!({"error": {"code": "refresh_token_reused"}}))]);
    let reported = DoctorOutput::by(&anywhere(services.expired())).await;
    assert_eq!(reported.code, 3, "{}", reported.text);
    let (severity, message, command) = reported.found("token");
    assert_eq!((severity, command), ("error", "codex-proxy login"));
    assert!(message.contains("already used"), "{message}");
}

#[tokio::test]
async fn errors_in_the_settings_are_findings() {
    let launch = Launch::new().file("config.toml", "listne = 5\n[upstream]\nmax_retries = 'x'\n");
    let reported = DoctorOutput::by(&launch).await;
    assert_eq!((reported.code, &reported.json["signed_in"]), (1, &Value::Null), "{}", reported.text);
    assert_eq!(reported.text.matches("wrong    settings").count(), 2, "{}", reported.text);
    assert_eq!(reported.found("settings").2, "codex-proxy config check");
}

#[tokio::test]
async fn an_unreachable_proxy_is_reported() {
    let services = services().await;
    let reported =
        DoctorOutput::by(&anywhere(services.fresh()).variable("HTTPS_PROXY", "http://me:sk-x@127.0.0.1:9")).await;
    assert_eq!(reported.code, 1, "{}", reported.text);
    let (severity, message, command) = reported.found("network");
    let unset = if cfg!(windows) { "set HTTPS_PROXY=" } else { "unset HTTPS_PROXY" };
    assert_eq!((severity, command), ("error", unset));
    assert!(message.contains("127.0.0.1:9") && !message.contains("me"), "{message}");
}

#[tokio::test]
async fn a_malformed_proxy_variable_is_reported_without_its_value() {
    let services = services().await;
    let launch = anywhere(services.fresh()).variable("HTTPS_PROXY", "http://me:sk-x@127.0.0.1:notaport");
    let proxy = launch.start();
    let words = "environment variable HTTPS_PROXY must be a proxy address";
    proxy.says_times(words, 1, SECOND).await;
    let reported = DoctorOutput::by(&launch).await;
    assert_eq!((reported.code, reported.found("network").0), (1, "error"), "{}", reported.text);
    assert!(reported.text.contains(words) && !reported.text.contains("sk-x"), "{}", reported.text);
    assert!(reported.found("network").1.contains("HTTPS_PROXY"), "{}", reported.text);
    assert!(!proxy.log().contains("sk-x"));
}

#[tokio::test]
async fn clock_skew_of_an_hour_is_reported_and_harmless() {
    let services = services().await;
    let hour = Duration::from_secs(3600);
    let date = httpdate::fmt_http_date(SystemClock.now() + hour);
    services.upstream.replace(MODELS, Script::answer(401, &[("date", &date)], "{}"));
    let reported = DoctorOutput::by(&anywhere(services.launch()).setting("auth.url", "http://127.0.0.1:9")).await;
    let (severity, message, command) = reported.found("clock");
    assert_eq!(severity, "warning", "{}", reported.text);
    assert!(
        (message.contains("60 min behind") || message.contains("59 min behind")) && !command.is_empty(),
        "{message}"
    );
}

#[tokio::test]
async fn a_port_used_by_another_program_is_reported() {
    let services = services().await;
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let reported = DoctorOutput::by(&services.fresh().setting("listen", &address)).await;
    assert_eq!(reported.code, 1, "{}", reported.text);
    let (severity, message, command) = reported.found("port");
    assert!(severity == "error" && message.contains("is in use by"), "{message}");
    assert_eq!(message.contains(&format!("(process {})", std::process::id())), cfg!(target_os = "linux"), "{message}");
    let other: u16 = command.strip_prefix("codex-proxy serve --port ").unwrap().parse().unwrap();
    TcpListener::bind(("127.0.0.1", other)).unwrap();
}

#[tokio::test]
async fn a_disabled_workspace_and_an_unknown_model_are_reported() {
    let services = services().await;
    services.upstream.replace(CHECK, account(true));
    let reported = DoctorOutput::by(&anywhere(services.fresh()).setting("default_model", "gpt-lvie")).await;
    assert_eq!((reported.code, &reported.json["signed_in"]), (1, &json!(true)), "{}", reported.text);
    assert_eq!(reported.found("workspace").0, "error");
    let (severity, message, _) = reported.found("catalogue");
    assert!(severity == "warning" && message.contains("did you mean 'gpt-live'"), "{message}");
}

#[tokio::test]
async fn a_used_up_quota_is_reported() {
    for (used, severity, code) in [(12, "ok", 0), (93, "warning", 0), (100, "error", 1)] {
        let services = services().await;
        let window = json!({"used_percent": used, "limit_window_seconds": 604_800, "reset_after_seconds": 3600});
        let usage = json!({"plan_type": "plus", "rate_limit": {"primary_window": window}});
        services.upstream.on(USAGE, Script::json(200, &usage.to_string()));
        let reported = DoctorOutput::by(&anywhere(services.fresh())).await;
        assert_eq!((reported.code, reported.found("quota").0), (code, severity), "{}", reported.text);
        assert!(reported.found("quota").1.contains("weekly window"), "{}", reported.text);
    }
}

#[tokio::test]
async fn a_damaged_store_is_not_reported_as_signed_out() {
    let services = services().await;
    let launch = anywhere(services.launch()).file("credentials.json.bak", "{}").file("credentials.json", "{");
    let reported = DoctorOutput::by(&launch).await;
    assert_eq!((reported.code, &reported.json["signed_in"]), (1, &Value::Null), "{}", reported.text);
    assert_eq!((reported.found("store").0, reported.found("token").0), ("error", "unknown"), "{}", reported.text);
}

#[cfg(unix)]
#[tokio::test]
async fn credentials_readable_by_others_are_reported() {
    use std::os::unix::fs::PermissionsExt;
    let services = services().await;
    let launch = anywhere(services.fresh());
    let path = launch.home().join("credentials.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let launch = launch.command(&["doctor"]);
    let output = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("warning  files")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("644") && line.ends_with(&format!("`chmod 600 {}`", path.display())), "{line}");
}

#[cfg(unix)]
#[tokio::test]
async fn directories_writable_by_others_are_reported_with_the_command_that_fixes_them() {
    use std::os::unix::fs::PermissionsExt;
    let services = services().await;
    let launch = services.fresh();
    let open = |name: &str, mode: u32| {
        let directory = launch.home().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::canonicalize(directory).unwrap()
    };
    let socket = open("socket", 0o777);
    let doctor = launch.clone().without_port().setting("listen", &format!("unix:{}", socket.join("s").display()));
    let reported = DoctorOutput::by(&doctor).await;
    let (severity, message, command) = reported.found("files");
    assert_eq!((severity, command), ("warning", &*format!("chmod go-w {}", socket.display())), "{}", reported.text);
    assert!(message.contains("(mode 0777)"), "{message}");
    open("socket", 0o1777);
    assert_eq!(DoctorOutput::by(&doctor).await.found("files").0, "ok");

    let home = open("", 0o770);
    let reported = DoctorOutput::by(&doctor).await;
    let fix = format!("chmod go-w {}", home.display());
    for check in ["files", "store"] {
        let (severity, _, command) = reported.found(check);
        assert_eq!((severity, command), ("error", &*fix), "{check}: {}", reported.text);
    }
    assert_eq!((reported.code, &reported.json["signed_in"]), (1, &Value::Null), "{}", reported.text);
}

#[tokio::test]
async fn unresponsive_services_time_out() {
    let services = services().await;
    for path in [CHECK, MODELS] {
        services.upstream.replace(path, Script::silence());
    }
    let launch = anywhere(services.fresh()).command(&["doctor"]);
    let began = tokio::time::Instant::now();
    let output = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn the_output_matches_the_documentation() {
    let services = services().await;
    let reported = DoctorOutput::by(&anywhere(services.launch())).await;
    let mut printed = BTreeSet::new();
    members(&reported.json, "", &mut printed);
    let text = include_str!("../../docs/doctor.md");
    let (checks, rest) = text.split_once("| exit code").unwrap();
    let rows = |text: &'static str| text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let documented: BTreeSet<String> = rows(rest).map(|(member, _)| member.to_owned()).collect();
    assert_eq!(documented, printed);
    for finding in reported.json["findings"].as_array().unwrap() {
        let check = finding["check"].as_str().unwrap();
        assert!(checks.contains(&format!("`{check}`")), "{check}");
    }
}
