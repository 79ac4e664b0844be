//! A bundle for a bug report contains what a maintainer needs, and nothing private.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use codex_proxy::auth::Credential;
use codex_proxy::clock::{Clock as _, SystemClock};
use codex_proxy::secret::Secret;
use serde_json::{Value, json};

use crate::fake::{FakeUpstream, Script};
use crate::proxy::Launch;
use crate::wire::Ask;
use crate::{ADDED, COMPLETED, CREATED, DELTA, WHOLE, chat, signed_in, signed_out, store, with};

/// One secret of each kind; each occurs in every source of a report.
const SECRETS: [&str; 12] = [
    "sk-proj-Zq7Canary01",
    "at-Zq7Canary02",
    "rt_Zq7Canary03",
    "eyJhbGciOiJIUzI1NiJ9.eyJacTdDYW5hcnkwNCI6MX0.Zq7CanarySign04",
    "d0a7e5c1-9f42-4c1b-8a55-6c0ffee00005",
    "bob.canary06@example.org",
    "__cf_bm=Zq7Canary07",
    "203.0.113.87",
    "2001:db8::8a2e:370:7334",
    "sess_Zq7Canary10",
    "My Canary Prompt 11",
    "/home/Canary12/file",
];

fn bundle(launch: &Launch, arguments: &[&str]) -> (Output, PathBuf) {
    let path = launch.home().join("bundle.json");
    let _ = std::fs::remove_file(&path);
    let all = [&["report", "--out", path.to_str().unwrap()], arguments].concat();
    (launch.command(&all).run(), path)
}

/// The encodings of a text: plain, Base64 in both alphabets at any offset, percent-encoded, hex.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_lowercase()];
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for before in ["", "x", "xx"] {
            let form = engine.encode(format!("{before}{secret}"));
            forms.push(form.get(before.len().next_multiple_of(2) + 1..form.len() - 2).unwrap().to_lowercase());
        }
    }
    let reserved = secret.replace('@', "%40").replace('/', "%2f").replace(' ', "%20").replace(':', "%3a");
    let hex = |before: &str| secret.bytes().fold(String::new(), |hex, byte| format!("{hex}{before}{byte:02x}"));
    forms.extend([hex("%"), reserved.to_lowercase(), hex("")]);
    forms
}

fn assert_clean(text: &str) {
    let text = text.to_lowercase();
    for form in SECRETS.iter().flat_map(|secret| forms(secret)) {
        assert!(!text.contains(&form), "{form}\n{text}");
    }
    assert!(!text.contains("canary"), "{text}");
}

fn everything() -> String {
    SECRETS.join(" ") + " " + &STANDARD_NO_PAD.encode(SECRETS.join(" ")) + " " + &forms(SECRETS[5])[7]
}

fn settings() -> String {
    let aliases: Vec<String> =
        SECRETS.iter().enumerate().map(|(index, secret)| format!("\"a{index}{secret}\" = \"{secret}\"")).collect();
    format!(
        "default_instructions = '''{}'''\naccount = '{}'\nallowed_hosts = ['{}']\n\
         [[keys]]\nname = '{}'\nkey = '{}'\n\
         [upstream]\nuser_agent_suffix = '{}'\nproxy = 'http://bob:{}@{}:3128'\n\
         [model_aliases]\n{}\n",
        everything(),
        SECRETS[4],
        SECRETS[7],
        SECRETS[5],
        SECRETS[0],
        SECRETS[9],
        SECRETS[9],
        SECRETS[7],
        aliases.join("\n"),
    )
}

/// A cassette that the recorder would not write.
fn cassette() -> String {
    let secrets = everything();
    let object: Value = SECRETS.iter().map(|secret| ((*secret).to_owned(), json!(secret))).collect();
    let headers: Value = ["authorization", "cookie", "x-codex-plan-type", "originator", "content-type"]
        .iter()
        .map(|name| ((*name).to_owned(), json!(secrets)))
        .collect();
    let body = json!({"json": {
        "type": secrets, "model": SECRETS[0], "role": SECRETS[2], "id": SECRETS[9], "error": {"code": SECRETS[1]},
        "input": [object, {"arguments": secrets, "output": secrets, "metadata": object}], "status": SECRETS[3],
    }});
    let request = json!({"method": secrets, "path": secrets, "headers": headers, "sha256": secrets, "body": body});
    let lines = [
        json!({"cassette": {"schema": 1, "version": secrets, "request": request, "more": secrets}}),
        json!({"answer": {"after_ms": 1, "status": 200, "headers": headers, "body": {"text": secrets}}}),
        json!({"event": {"after_ms": 2, "data": body}}),
        json!({"event": {"after_ms": 3, "data": {"text": secrets}}}),
        json!({"end": {"after_ms": 4, "how": "cut"}}),
    ];
    lines.map(|line| line.to_string()).join("\n")
}

fn tokens() -> String {
    let now = SystemClock.now();
    let (access, refresh) = (Secret::new(SECRETS[3]), Secret::new(SECRETS[2]));
    let credential = Credential::from_tokens(Some(SECRETS[4].to_owned()), None, access, Some(refresh), Some(now));
    store(&credential.unwrap())
}

#[tokio::test]
async fn a_bundle_holds_no_secret_of_any_kind_in_any_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let log: String = ["WARN", "ERROR"]
        .iter()
        .flat_map(|level| {
            SECRETS.map(|secret| {
                format!("2026-11-21T09:45:00Z {level} refused key={secret}: \"{secret}\" {}\n", everything())
            })
        })
        .collect();
    std::fs::write(path("proxy.log"), log).unwrap();
    std::fs::write(path("2026-11-21T09-45-00Z-000001.cassette.jsonl"), cassette()).unwrap();
    let upstream = FakeUpstream::start().await;
    let launch = signed_out(&upstream)
        .file("config.toml", &settings())
        .file("credentials.json", &tokens())
        .variable("CODEX_ACCESS_TOKEN", SECRETS[1])
        .variable("CODEX_PROXY_API_KEYS", SECRETS[0])
        .variable("HTTPS_PROXY", &format!("http://bob:{}@127.0.0.1:9", SECRETS[9]))
        .variable("HOME", SECRETS[11]);
    let (output, file) = bundle(&launch, &["--log", &path("proxy.log"), "--cassettes", &path("")]);
    let talk = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{talk}");
    let text = std::fs::read_to_string(file).unwrap();
    assert_clean(&text);
    let report: Value = serde_json::from_str(&text).unwrap();
    // The bundle isn't empty.
    assert_eq!(report["log"].as_array().unwrap().len(), 2 * SECRETS.len());
    assert_eq!(report["cassette"].as_array().unwrap().len(), 5);
    assert_eq!(report["sign_in"]["accounts"].as_array().unwrap().len(), 1);
    assert_eq!(
        report["variables"],
        json!(["CODEX_ACCESS_TOKEN", "CODEX_PROXY_API_KEYS", "CODEX_PROXY_HOME", "HTTPS_PROXY"])
    );
}

#[tokio::test]
async fn a_bundle_contains_what_the_daemon_has_seen_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start().await;
    let launch = signed_in(&upstream);
    let recording = launch.clone().argument("--record").argument(folder.path().to_str().unwrap());
    let proxy = recording.start();
    let strange = r#"{"type":"response.dream.started"}"#;
    upstream.on("/responses", Script::events(&[CREATED, strange, ADDED, DELTA, COMPLETED]));
    assert_eq!(Ask::chat(&chat()).send(&proxy).await.status, 200);
    // A separate thread writes a file after its exchange has ended.
    let written = async {
        while std::fs::read_dir(folder.path()).unwrap().next().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), written).await.unwrap();
    let (output, file) = tokio::task::spawn_blocking(move || bundle(&launch, &[])).await.unwrap();
    let (reported, talk) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), reported.trim_end()), (Some(0), file.to_str().unwrap()), "{talk}");
    assert!(talk.contains("Contents: ") && talk.contains("the latest cassette in 8 lines"), "{talk}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(report["daemon"]["health"]["drift"][0]["name"], "response.dream.started");
    assert_eq!(report["cassette"][0]["cassette"]["request"]["body"]["json"]["model"], "gpt-5.5");
    let setting =
        report["settings"].as_array().unwrap().iter().find(|setting| setting["key"] == "timing.drain").unwrap();
    assert_eq!((&setting["value"], &setting["source"]), (&json!("\"10s\""), &json!("default")));
}

#[tokio::test]
async fn a_cassette_from_a_bundle_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = FakeUpstream::start().await;
    let launch = signed_in(&upstream);
    let mut proxy = launch.clone().argument("--record").argument(folder.path().to_str().unwrap()).start();
    upstream.on("/responses", Script::events(&WHOLE));
    let tool = json!([{"type": "function", "function": {"name": "my_tool", "parameters": {"type": "object", "properties": {"Privat": {"type": "string"}}, "required": ["Privat"]}}}]);
    let request = with(chat(), "tools", tool);
    assert_eq!(Ask::chat(&request).send(&proxy).await.status, 200);
    proxy.signal("TERM");
    assert_eq!(proxy.ended().await, Some(0));
    let (_, file) = bundle(&launch, &["--cassettes", folder.path().to_str().unwrap()]);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let lines: Vec<String> = report["cassette"].as_array().unwrap().iter().map(Value::to_string).collect();
    let again = tempfile::tempdir().unwrap();
    std::fs::write(again.path().join("one.cassette.jsonl"), lines.join("\n")).unwrap();
    let proxy = Launch::new().argument("--replay").argument(again.path().to_str().unwrap()).start();
    let answer = Ask::chat(&request).send(&proxy).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_report_overwrites_nothing() {
    let upstream = FakeUpstream::start().await;
    let launch = signed_in(&upstream).file("bundle.json", "mine");
    let path = launch.home().join("bundle.json");
    let output = launch.command(&["report", "--out", path.to_str().unwrap()]).run();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "mine");
}
