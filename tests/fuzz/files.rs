//! Files and variables from outside: the credential store and the settings.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use codex_proxy::auth::{Credential, Document};
use codex_proxy::config::{Environment, Flags, load};
use codex_proxy::secret::Secret;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use crate::attempts;
use crate::mutate::{Damage, damages, odd_value, replace, spoilt};

const SETTINGS: &str = include_str!("../../config.example.toml");

fn store() -> String {
    let mut document = Document::empty();
    for account in ["acct-1", "acct-2"] {
        let secret = |kind: &str| Secret::new(format!("{kind}-canary"));
        let (id, renewed) = (Some(account.to_owned()), Some(UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
        let credential = Credential::from_tokens(id, Some(secret("id")), secret("at"), Some(secret("rt")), renewed);
        document.put(&credential.unwrap());
    }
    document.set_active("acct-1");
    document.to_text()
}

/// Any file content is read or rejected; content that was read survives a write.
fn assert_store(text: &[u8]) {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => return assert!(!error.to_string().contains("canary"), "{error}"),
    };
    assert!(!format!("{document:?}").contains("canary"));
    for id in document.ids() {
        match document.get(id) {
            Ok(credential) => assert!(!format!("{credential:?}").contains("-canary")),
            Err(error) => assert!(!error.to_string().contains("canary"), "{error}"),
        }
    }
    let again = Document::parse(document.to_text().as_bytes()).expect("written files are readable");
    assert!(again.ids().eq(document.ids()) && again.active() == document.active());
}

/// Settings and variables are accepted or rejected with a message; a key is never printed.
fn assert_settings(file: &[u8], variables: &[(String, String)]) {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("config.toml"), file).unwrap();
    let place = [("CODEX_PROXY_HOME".to_owned(), home.path().to_str().unwrap().to_owned())];
    let environment: Environment = variables.iter().cloned().chain(place).collect();
    match load(&Flags::default(), &environment) {
        Ok(config) => assert!(!format!("{config:?}").contains("canary-key")),
        Err(faults) => {
            assert!(!faults.0.is_empty());
            assert!(!format!("{faults} {faults:?}").contains("canary-key"), "{faults}");
        }
    }
}

/// The example file with all settings enabled and a key.
fn settings() -> String {
    let switched = SETTINGS.lines().map(|line| {
        let bare = line.strip_prefix('#').unwrap_or(line);
        let is_setting = !bare.starts_with(' ') && (bare.contains(" = ") || bare.starts_with('['));
        if is_setting { bare } else { line }
    });
    let switched: Vec<&str> = switched.collect();
    format!("{}\n[[keys]]\nname = \"x\"\nkey = \"canary-key-0123456789\"\n", switched.join("\n"))
}

fn variables() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop::sample::select(vec![
        "CODEX_PROXY_LISTEN",
        "CODEX_PROXY_ALLOWED_HOSTS",
        "CODEX_PROXY_ALLOWED_ORIGINS",
        "CODEX_PROXY_MODEL_ALIASES",
        "CODEX_PROXY_API_KEYS",
        "CODEX_PROXY_UPSTREAM_URL",
        "CODEX_PROXY_UPSTREAM_IDLE_TIMEOUT",
        "CODEX_PROXY_LIMITS_BODY",
        "CODEX_PROXY_AUTH_SCOPES",
        "CODEX_PROXY_LOG_LEVEL",
        "CODEX_PROXY_UNKNOWN",
        "CHATGPT_API_BASE",
        "CHATGPT_TOKEN_DIR",
        "HTTPS_PROXY",
        "PATH",
    ]);
    let value = prop_oneof![
        "[ -~]{0,30}",
        "\\PC{0,12}",
        prop::sample::select(vec![
            "",
            "1",
            "0s",
            "5m",
            "99999999999999999999d",
            "64MiB",
            "true",
            ",,",
            "[::1]:0",
            "unix:/"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec((name.prop_map(str::to_owned), value), 0..4)
}

#[test]
fn unmodified_inputs_are_valid() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("config.toml"), settings()).unwrap();
    let environment = [("CODEX_PROXY_HOME", home.path().to_str().unwrap())].into_iter().collect();
    let config = load(&Flags::default(), &environment).unwrap();
    assert_eq!(config.access.keys.len(), 1);
    assert!(!format!("{config:?}").contains("canary-key"));
    assert_eq!(Document::parse(store().as_bytes()).unwrap().ids().count(), 2);
}

proptest! {
    #![proptest_config(attempts())]

    #[test]
    fn the_store(damages in damages(), odd in prop::collection::vec((any::<Index>(), odd_value()), 0..4)) {
        assert_store(&spoilt(store().as_bytes(), &damages));
        let mut document: Value = serde_json::from_str(&store()).unwrap();
        for (at, value) in odd {
            replace(&mut document, at, value);
        }
        assert_store(document.to_string().as_bytes());
    }

    #[test]
    fn the_settings(damages in damages(), variables in variables(), plain in any::<bool>()) {
        let damages: &[Damage] = if plain { &[] } else { &damages };
        assert_settings(&spoilt(SETTINGS.as_bytes(), damages), &variables);
        assert_settings(&spoilt(settings().as_bytes(), damages), &variables);
    }
}
