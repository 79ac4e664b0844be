//! `status` in every state of a session, as text and JSON.

use std::collections::BTreeSet;
use std::time::Duration;

use codex_proxy::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::fake::Script;
use crate::fake_issuer::Scripted;
use crate::proxy::Launch;
use crate::sign_in::Services;
use crate::signed_out;

const CHECK: &str = "/backend-api/wham/accounts/check";
const USAGE: &str = "/backend-api/wham/usage";
const REFUSED: &str = r#"{"detail":"Unauthorized"}"#;

/// The output of `status` in both formats.
struct StatusRun {
    code: i32,
    text: String,
    json: Value,
}

impl StatusRun {
    /// Each format runs on its own; the first may refresh a token, which the second finds.
    async fn by(launch: &Launch, more: &[&str]) -> Self {
        let run = async |arguments: Vec<&str>| {
            let launch = launch.command(&arguments);
            let output = tokio::task::spawn_blocking(move || launch.run()).await.unwrap();
            // Refreshes in the meantime aren't reported.
            assert!(!String::from_utf8(output.stderr).unwrap().contains(" INFO "));
            (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
        };
        let (code, text) = run([&["status"], more].concat()).await;
        let (again, json) = run([&["status", "--json"], more].concat()).await;
        assert_eq!(code, again, "{text}\n{json}");
        for secret in ["rt_", "e30."] {
            assert!(!text.contains(secret) && !json.contains(secret), "{text}\n{json}");
        }
        Self { code, text, json: serde_json::from_str(&json).unwrap() }
    }

    fn check(&self) -> &str {
        self.json["check"]["state"].as_str().unwrap_or("no request was made")
    }

    fn says(&self, parts: &[&str]) {
        // A sentence may wrap to the next line.
        let even = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(even(&self.text).contains(&even(part)), "{part}\n{}", self.text);
        }
        let paths = ["config ", "credentials ", "catalogue ", "usage ", "log ", "imported "];
        let mut lines = self.text.lines().filter(|line| !paths.iter().any(|name| line.starts_with(name)));
        assert!(lines.all(|line| line.chars().count() <= 80), "{}", self.text);
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
    services
}

#[tokio::test]
async fn the_user_is_not_signed_in() {
    let services = services().await;
    let reported = StatusRun::by(&services.launch(), &[]).await;
    assert_eq!(
        (reported.code, reported.check(), &reported.json["signed_in"]),
        (3, "no request was made", &json!(false))
    );
    reported.says(&["not signed in", "codex-proxy login"]);
    assert_eq!(services.upstream.requests("").len(), 0);
}

#[tokio::test]
async fn a_valid_session_is_accepted_by_the_backend() {
    let services = services().await;
    let reported = StatusRun::by(&services.fresh(), &[]).await;
    assert_eq!((reported.code, reported.check(), &reported.json["signed_in"]), (0, "good", &json!(true)));
    assert_eq!(
        (&reported.json["accounts"][0]["state"], &reported.json["store"]["place"]),
        (&json!("fresh"), &json!("file"))
    );
    reported.says(&["ann@example.com", "valid until ", "the backend accepts the account", "credentials.json"]);
    assert_eq!(services.issuer.calls().len(), 0);
}

#[tokio::test]
async fn an_expiring_or_expired_token_is_refreshed_once() {
    for left in [Some(Duration::from_secs(60)), None] {
        let services = services().await;
        let end = SystemClock.now();
        let end = left.map_or(end - Duration::from_secs(60), |left| end + left);
        let launch = services.ending(end);
        let offline = StatusRun::by(&launch, &["--offline"]).await;
        assert_eq!((offline.code, offline.check()), (0, "no request was made"));
        offline.says(&["refreshed at its next use"]);
        assert_eq!(services.issuer.calls().len(), 0);
        let reported = StatusRun::by(&launch, &[]).await;
        assert_eq!(
            (reported.code, reported.check(), &reported.json["accounts"][0]["state"]),
            (0, "good", &json!("fresh"))
        );
        assert_eq!((services.issuer.calls().len(), services.issuer.reused()), (1, 0));
    }
}

#[tokio::test]
async fn a_rejected_refresh_is_reported_with_its_reason_and_not_repeated() {
    for (code, word) in [
        ("refresh_token_reused", "already used"),
        ("refresh_token_expired", "has expired"),
        ("refresh_token_invalidated", "revoked"),
    ] {
        let services = services().await;
        services.issuer.script([Scripted::Answer(401, json!({"error": {"code": code}}))]);
        let launch = services.expired();
        let reported = StatusRun::by(&launch, &[]).await;
        assert_eq!((reported.code, reported.check()), (3, "refused"), "{}", reported.text);
        reported.says(&["expired at", word, code, "codex-proxy login"]);
        assert!(reported.json["accounts"][0]["refusal"]["reason"].as_str().unwrap().contains(code));
        let offline = StatusRun::by(&launch, &["--offline"]).await;
        assert_eq!((offline.code, offline.check()), (3, "no request was made"));
        offline.says(&[word]);
        let token = launch.command(&["token"]).run();
        assert_eq!(token.status.code(), Some(3));
        assert_eq!(services.issuer.calls().len(), 1, "one process has seen the rejection, and all know it");
    }
}

#[tokio::test]
async fn a_session_revoked_before_its_expiry_is_rejected() {
    let services = services().await;
    services.upstream.replace(CHECK, Script::json(401, REFUSED));
    services.issuer.script([Scripted::Answer(401, json!({"error": {"code": "refresh_token_invalidated"}}))]);
    let reported = StatusRun::by(&services.fresh(), &[]).await;
    assert_eq!((reported.code, reported.check(), &reported.json["signed_in"]), (3, "refused", &json!(false)));
    reported.says(&["no longer accepted", "revoked", "codex-proxy login"]);
    assert!(!reported.text.contains("good until"), "{}", reported.text);
    assert_eq!(services.issuer.calls().len(), 1);
}

#[tokio::test]
async fn after_a_rejected_refresh_the_token_is_valid_until_its_expiry() {
    let services = services().await;
    services.issuer.script([Scripted::Answer(401, json!({"error": {"code": "refresh_token_reused"}}))]);
    let reported = StatusRun::by(&services.ending(SystemClock.now() + Duration::from_secs(100)), &[]).await;
    assert_eq!((reported.code, reported.check()), (0, "good"), "{}", reported.text);
    reported.says(&["but not longer", "already used", "codex-proxy login"]);
}

#[tokio::test]
async fn a_disabled_workspace_does_not_suggest_a_login() {
    let by_member = account(true);
    let by_status = Script::json(402, r#"{"detail":{"code":"deactivated_workspace"}}"#);
    for script in [by_member, by_status] {
        let services = Services::new().await;
        services.upstream.on(CHECK, script);
        let reported = StatusRun::by(&services.fresh(), &[]).await;
        assert_eq!(
            (reported.code, reported.check(), &reported.json["signed_in"]),
            (1, "disabled", &json!(true)),
            "{}",
            reported.text
        );
        reported.says(&["workspace is disabled", "administrator"]);
        assert!(!reported.text.contains("codex-proxy login"), "{}", reported.text);
        assert_eq!(services.issuer.calls().len(), 0);
    }
}

#[tokio::test]
async fn without_a_network_status_shows_local_state() {
    let services = services().await;
    let nowhere = |launch: Launch| launch.setting("upstream.url", "http://127.0.0.1:9/backend-api/codex");
    let reported = StatusRun::by(&nowhere(services.fresh()), &[]).await;
    assert_eq!((reported.code, reported.check()), (0, "unreachable"), "{}", reported.text);
    reported.says(&["valid until ", "failed (", "local information", "`codex-proxy doctor`"]);
    let ended = nowhere(services.expired()).setting("auth.url", "http://127.0.0.1:9");
    let reported = StatusRun::by(&ended, &[]).await;
    assert_eq!((reported.code, reported.check()), (0, "unreachable"), "{}", reported.text);
    reported.says(&["refreshed at its next use", "sign-in service"]);
}

#[tokio::test]
async fn an_unresponsive_backend_times_out() {
    let services = services().await;
    services.upstream.replace(CHECK, Script::silence());
    let began = tokio::time::Instant::now();
    let reported = StatusRun::by(&services.fresh(), &[]).await;
    assert_eq!((reported.code, reported.check()), (0, "unreachable"));
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_response_without_the_account_is_not_a_rejection() {
    for script in [Script::json(200, "{}"), Script::json(500, "{}"), Script::answer(404, &[], "")] {
        let services = Services::new().await;
        services.upstream.on(CHECK, script);
        let reported = StatusRun::by(&services.fresh(), &[]).await;
        assert_eq!((reported.code, reported.check()), (0, "unclear"), "{}", reported.text);
    }
}

fn usage() -> Script {
    let window = |used: u32, seconds: u32| json!({"used_percent": used, "limit_window_seconds": seconds, "reset_after_seconds": seconds / 2 + 30});
    let limit = json!({"primary_window": window(3, 604_800), "secondary_window": window(80, 18_000)});
    Script::json(200, &json!({"plan_type": "plus", "rate_limit": limit}).to_string())
}

#[tokio::test]
async fn the_quota_is_shown_with_its_pace() {
    let services = services().await;
    let reported = StatusRun::by(&services.fresh(), &[]).await;
    assert_eq!((reported.check(), &reported.json["quota"]), ("good", &Value::Null), "the backend didn't report it");
    services.upstream.on(USAGE, usage());
    let reported = StatusRun::by(&services.fresh(), &[]).await;
    reported
        .says(&["5-hour quota ████████████▊░░░  80 %; resets in 2 h 30 min, ", "used up in 37 min, 1 h 53 min before"]);
    reported.says(&["weekly quota ▍░░░░░░░░░░░░░░░   3 %; resets in 3 days 12 h, ", "at this pace 6 % used when it"]);
    let windows = &reported.json["quota"]["windows"];
    assert_eq!((&windows[0]["window"], &windows[0]["used_percent"]), (&json!("5-hour"), &json!(80.0)));
    assert_eq!((&windows[1]["window"], &windows[1]["pace"]["spent_at"]), (&json!("weekly"), &Value::Null));
    let offline = StatusRun::by(&services.fresh(), &["--offline"]).await;
    assert_eq!(offline.json["quota"], Value::Null);
}

/// All members of a value, as the documentation lists them.
pub(crate) fn members(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, member) in object {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let is_list = member.is_array();
                found.insert(if is_list { format!("{path}[]") } else { path.clone() });
                // The account of a token in the environment has the same format as any other.
                if path != "access_token.account" {
                    members(member, &path, found);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|member| members(member, &format!("{path}[]"), found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_output_matches_the_documentation() {
    let services = services().await;
    services.issuer.script([Scripted::Answer(401, json!({"error": {"code": "refresh_token_reused"}}))]);
    let launch = services.expired();
    StatusRun::by(&launch, &[]).await.says(&["already used"]);
    services.upstream.on(USAGE, usage());
    let lent = crate::fake_issuer::jwt("acct-2", SystemClock.now() + Duration::from_secs(9999), 1);
    let launch = launch.file("lent.json", &json!({"tokens": {"access_token": lent}}).to_string());
    let path = launch.home().join("lent.json");
    let imported = launch.command(&["login", "--import", path.to_str().unwrap()]).run();
    assert!(imported.status.success());
    let _running = launch.start();
    let mut printed = BTreeSet::new();
    let at_home = StatusRun::by(&launch, &["--account", "acct-1"]).await;
    members(&at_home.json, "", &mut printed);
    // The first account is rejected, so its quota isn't requested.
    members(&StatusRun::by(&launch, &["--account", "acct-2"]).await.json, "", &mut printed);
    let given = StatusRun::by(&launch.setting("access_token", "at-none"), &["--offline"]).await;
    members(&given.json, "", &mut printed);
    let text = include_str!("../../docs/status.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<String> = rows.map(|(member, _)| member.to_owned()).collect();
    assert_eq!(documented, printed);
}

#[tokio::test]
async fn a_marker_shows_that_the_login_is_in_an_unavailable_keyring() {
    let services = services().await;
    let launch = signed_out(&services.upstream).file("credentials.json.keyring", "{}");
    let output = launch.command(&["status"]).run();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("keyring") && stderr.contains("credentials.json.keyring"), "{stderr}");
}
