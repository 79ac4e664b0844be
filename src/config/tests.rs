//! Tests that load settings from all sources.

use std::path::Path;
use std::time::Duration;

use super::schema::{KEYS, PartialValues};
use super::source::variable;
use super::{Config, ConfigErrors, Environment, Flags, ValueSource, load};
use crate::server;

/// A directory with a config file, and the variables that lead to it.
struct Home {
    directory: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Home {
    fn new(file: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.toml"), file).unwrap();
        let home = directory.path().to_str().unwrap().to_owned();
        Self { directory, variables: vec![("CODEX_PROXY_HOME", home)] }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn load(&self, flags: &Flags) -> Result<Config, ConfigErrors> {
        load(flags, &self.variables.iter().map(|(name, value)| (*name, value)).collect::<Environment>())
    }

    fn config(&self) -> Config {
        self.load(&Flags::default()).unwrap()
    }

    fn errors(&self) -> String {
        self.load(&Flags::default()).unwrap_err().to_string()
    }
}

fn listens(config: &Config) -> Vec<String> {
    let server::Listen::Tcp(addresses) = &config.server.listen else { panic!("no ports: {:?}", config.server) };
    addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn without_settings_the_defaults_apply() {
    let home = Home::new("");
    let config = home.config();
    assert_eq!(listens(&config), ["127.0.0.1:8787", "[::1]:8787"]);
    assert_eq!(config.upstream.url.as_str(), "https://chatgpt.com/backend-api/codex");
    assert_eq!(config.upstream.client_version, None);
    assert_eq!(config.upstream.user_agent, format!("codex-proxy/{}", env!("CARGO_PKG_VERSION")));
    assert_eq!(config.upstream.first_event_timeout, Duration::from_secs(120));
    assert_eq!(config.upstream.idle_timeout, Duration::from_secs(300));
    assert_eq!(config.upstream.event_limit_bytes, 32 << 20);
    assert_eq!(config.auth.issuer.as_str(), "https://auth.openai.com");
    assert_eq!(config.auth.scopes, ["openid", "profile", "email", "offline_access"]);
    assert_eq!(config.auth.credentials, home.directory.path().join("credentials.json"));
    assert_eq!(config.server.body_limit_bytes, 64 << 20);
    assert_eq!(config.server.keepalive, Some(Duration::from_secs(15)));
    assert!(!config.history.replays_reasoning);
    assert_eq!(config.chat, crate::protocol::chat::Options::default());
    assert_eq!(config.net.ca_file, None);
    assert!(config.access.keys.is_empty() && config.warnings.is_empty());
    assert!(config.effective.iter().all(|shown| shown.source == ValueSource::Default));
}

#[test]
fn the_example_file_equals_the_defaults_and_names_every_key() {
    let example = include_str!("../../config.example.toml");
    // `#` directly before a name comments out a setting; `#` and a space start a comment.
    let settings: Vec<_> = example.lines().map(|line| line.strip_prefix('#').unwrap_or(line)).collect();
    let settings: Vec<_> = settings.into_iter().filter(|line| !line.starts_with([' ', '#'])).collect();
    let mut errors = ConfigErrors::default();
    let values = super::source::read_file(Path::new("config.example.toml"), &settings.join("\n"), &mut errors);
    assert_eq!(errors, ConfigErrors::default());
    let (given, defaults) = (values.clone().resolve().effective(), PartialValues::default().resolve().effective());
    for (given, default) in given.iter().zip(&defaults) {
        assert_eq!((given.key, &given.value), (default.key, &default.value));
        // The example has no line for the empty list of client keys.
        assert!(given.source != ValueSource::Default || given.key == "keys", "{} is missing", given.key);
    }
}

#[test]
fn the_roles_in_the_example_file_are_routes() {
    let example = include_str!("../../config.example.toml");
    let roles: Vec<_> = example.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    let (start, end) =
        (roles.iter().position(|line| *line == "routes = ["), roles.iter().position(|line| *line == "]"));
    let config = Home::new(&roles[start.unwrap()..=end.unwrap()].join("\n")).config();
    assert_eq!(config.rules.routes.len(), 3);
    assert!(config.effective.iter().any(|shown| shown.key == "routes" && shown.value.contains("claude-*haiku*")));
}

#[test]
fn usage_keep_is_a_number_of_whole_days() {
    let config = Home::new("usage.store = 'memory'\nusage.keep = '7d'").config();
    assert_eq!((config.history.usage_store.name(), config.history.usage_keep_days), ("memory", 7));
    for keep in ["0d", "36h", "-1d", "d"] {
        let errors = Home::new(&format!("usage.keep = '{keep}'")).errors();
        assert!(errors.contains("usage.keep: must be a number of whole days, such as 90d, not"), "{errors}");
    }
}

#[test]
fn flags_override_variables_and_variables_override_the_file() {
    let home = Home::new("listen = 1\nupstream.max_retries = 7\n[timing]\ndrain = '1s'")
        .with("CODEX_PROXY_LISTEN", "127.0.0.1:2")
        .with("CODEX_PROXY_TIMING_DRAIN", "1m30s");
    let config = home.config();
    assert_eq!(listens(&config), ["127.0.0.1:2"]);
    assert_eq!((config.upstream.max_retries, config.server.drain), (7, Duration::from_secs(90)));
    let flags = Flags { listen: Some("3".to_owned()), ..Flags::default() };
    assert_eq!(listens(&home.load(&flags).unwrap()), ["127.0.0.1:3", "[::1]:3"]);
}

#[test]
fn host_and_port_flags_replace_their_part() {
    let home = Home::new("listen = '127.0.0.2:9'");
    let port = Flags { port: Some(0), ..Flags::default() };
    assert_eq!(listens(&home.load(&port).unwrap()), ["127.0.0.2:0"]);
    let host = Flags { host: Some("localhost".to_owned()), ..Flags::default() };
    assert_eq!(listens(&home.load(&host).unwrap()), ["127.0.0.1:9", "[::1]:9"]);
}

#[cfg(unix)]
#[test]
fn a_relative_socket_path_is_relative_to_the_config_file() {
    let home = Home::new("listen = 'unix:run/socket'");
    assert_eq!(home.config().server.listen, server::Listen::Unix(home.directory.path().join("run/socket")));
    let port = Flags { port: Some(7), ..Flags::default() };
    assert_eq!(listens(&home.load(&port).unwrap()), ["127.0.0.1:7", "[::1]:7"]);
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    assert_eq!(variable("upstream.idle_timeout"), "CODEX_PROXY_UPSTREAM_IDLE_TIMEOUT");
    for key in KEYS {
        let variables = [(variable(key.path), "\u{1}".to_owned())];
        let mut errors = ConfigErrors::default();
        let values = super::source::read_environment(&variables.into_iter().collect(), &mut errors);
        assert!(values != PartialValues::default() || errors.has_error(key.path), "{}", key.path);
    }
}

#[test]
fn variables_of_other_programs_are_read_and_ours_take_precedence() {
    let home = Home::new("")
        .with("CHATGPT_API_BASE", "")
        .with("OPENAI_CHATGPT_API_BASE", "https://eu.chatgpt.com/x")
        .with("CHATGPT_ORIGINATOR", "theirs")
        .with("CODEX_PROXY_UPSTREAM_ORIGINATOR", "")
        .with("CHATGPT_USER_AGENT_SUFFIX", "(me)")
        .with("SSL_CERT_FILE", "/bundle.pem")
        .with("CHATGPT_TOKEN_DIR", "/tokens")
        .with("CHATGPT_AUTH_FILE", "their.json")
        .with("CODEX_PROXY_API_KEYS", "a,b");
    let config = home.config();
    assert_eq!(config.upstream.url.as_str(), "https://eu.chatgpt.com/x");
    assert_eq!(config.upstream.originator, "");
    assert!(config.upstream.user_agent.ends_with(" (me)"));
    assert_eq!(config.net.ca_file.as_deref(), Some(Path::new("/bundle.pem")));
    assert_eq!(config.auth.credentials, Path::new("/tokens").join("their.json"));
    assert_eq!(config.paths.credentials, config.auth.credentials);
    assert_eq!(config.access.keys.len(), 2);
}

#[test]
fn all_errors_are_reported_at_once_with_their_sources() {
    let home = Home::new("[upstream]\nidle_timout = '5m'\nmax_retries = -1\n\n[log]\nlevel = 'loud'")
        .with("CODEX_PROXY_LIMITS_BODY", "big")
        .with("CODEX_PROXY_UPSTREAM_URL", "https://example.com");
    let flags = Flags { listen: Some("nowhere".to_owned()), ..Flags::default() };
    let errors = home.load(&flags).unwrap_err().to_string();
    let file = home.directory.path().join("config.toml");
    for part in [
        &*format!("{}:2: upstream.idle_timout: unknown key; did you mean 'upstream.idle_timeout'?", file.display()),
        &format!("{}:3: upstream.max_retries: ", file.display()),
        &format!("{}:6: log.level: must be one of off, ", file.display()),
        "environment variable CODEX_PROXY_LIMITS_BODY: limits.body: ",
        "environment variable CODEX_PROXY_UPSTREAM_URL: upstream.url: ",
        "--listen: listen: ",
    ] {
        assert!(errors.contains(part), "{part}\n{errors}");
    }
    assert_eq!(errors.lines().count(), 6, "{errors}");
}

#[test]
fn a_syntax_error_is_reported_with_its_line_and_without_its_text() {
    let errors = Home::new("listen = 1\n[[keys]]\nname = 'a'\nkey = \"private\nx = 1").errors();
    assert!(errors.contains("config.toml:4"), "{errors}");
    assert!(!errors.contains("private"), "{errors}");
}

#[test]
fn secrets_are_never_printed() {
    let home = Home::new("keys = 'private'\n[upstream]\nproxy = 'private'");
    assert!(!home.errors().contains("private"), "{}", home.errors());
    let home = Home::new("[[keys]]\nname = 'a'\nkey = 'private'\n[upstream]\nproxy = 'http://user:private@proxy:1'");
    let config = home.config();
    assert!(!format!("{:?}", config.effective).contains("private"));
}

#[test]
fn listening_for_other_machines_requires_a_client_key() {
    let errors = Home::new("listen = '0.0.0.0:8787'").errors();
    assert!(errors.contains("config.toml:1: listen: ") && errors.contains("CODEX_PROXY_API_KEYS"), "{errors}");
    let home = Home::new("listen = '0.0.0.0:8787'").with("CODEX_PROXY_API_KEYS", "a-key-of-16-chars");
    assert_eq!(listens(&home.config()), ["0.0.0.0:8787"]);
    // An invalid key gives one error, not two.
    assert_eq!(Home::new("listen = '0.0.0.0:1'\nkeys = 3").errors().lines().count(), 1);
}

#[test]
fn a_short_key_is_rejected_if_other_machines_can_connect() {
    let keys = |key: &str| format!("[[keys]]\nname = 'laptop'\n{key}\n[[keys]]\nname = 'b'\nkey = 'a-key-of-16-chars'");
    let short = keys("key = 'private-key-15c'");
    let errors = Home::new(&format!("listen = '0.0.0.0:1'\n{short}")).errors();
    for part in
        ["config.toml:2: keys: ", "connect to 0.0.0.0:1,", "fewer than 16 characters: laptop;", "openssl", "localhost"]
    {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    assert!(!errors.contains("private") && errors.lines().count() == 1, "{errors}");
    let errors = Home::new("listen = '0.0.0.0:1'").with("CODEX_PROXY_API_KEYS", "a").errors();
    assert!(
        errors.contains("environment variable CODEX_PROXY_API_KEYS: keys: ") && errors.contains("env-1"),
        "{errors}"
    );
    // A short key is allowed if only this machine can connect.
    assert_eq!(Home::new(&short).config().short_keys, ["laptop"]);
    let hashed = keys(&format!("key_sha256 = '{}'", "0".repeat(64)));
    assert_eq!(Home::new(&format!("listen = '0.0.0.0:1'\n{hashed}")).config().access.keys.len(), 2);
}

#[test]
fn an_empty_key_variable_is_an_error() {
    for (variable, value) in [
        ("CODEX_PROXY_API_KEYS", ","),
        ("CODEX_PROXY_API_KEYS", ""),
        ("CODEX_PROXY_API_KEYS", " "),
        ("CODEX_PROXY_KEYS", ""),
        ("CODEX_PROXY_KEYS", " , "),
    ] {
        for file in ["", "[[keys]]\nname = 'a'\nkey = 'x'"] {
            let errors = Home::new(file).with(variable, value).errors();
            assert!(
                errors.contains(&format!("environment variable {variable}: keys: ")),
                "{variable}={value}: {errors}"
            );
            assert!(errors.contains("unset it") && errors.lines().count() == 1, "{errors}");
        }
    }
    assert!(Home::new("keys = []").config().access.keys.is_empty(), "an empty list in the file is valid");
}

#[test]
fn an_unknown_host_requires_trust_host_and_gives_a_warning() {
    let untrusted = Home::new("auth.url = 'https://issuer.example'").errors();
    assert!(untrusted.contains("upstream.trust_host"), "{untrusted}");
    let config = Home::new("auth.url = 'https://issuer.example'\nupstream.trust_host = true").config();
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].contains("issuer.example"));
}

#[test]
fn hosts_and_origins_are_checked_and_normalized() {
    let config = Home::new(
        "allowed_hosts = ['Box.Local']\n\
         allowed_origins = ['https://Chat.example:443/', 'http://localhost:3000', 'chrome-extension://abc']",
    )
    .config();
    assert_eq!(config.access.allowed_hosts, ["box.local"]);
    let origins = ["https://chat.example", "http://localhost:3000", "chrome-extension://abc"];
    assert_eq!(config.access.allowed_origins, origins);
    for bad in ["['*']", "['null']", "['https://a/b']", "['a.example']", "'https://a'"] {
        assert!(Home::new(&format!("allowed_origins = {bad}")).load(&Flags::default()).is_err(), "{bad}");
    }
    for bad in ["['https://a']", "['a:80']", "['a/b']", "['']"] {
        assert!(Home::new(&format!("allowed_hosts = {bad}")).load(&Flags::default()).is_err(), "{bad}");
    }
}

#[test]
fn timers_are_durations_and_a_timeout_must_not_be_zero() {
    let config =
        Home::new("timing.keepalive = 0\ntiming.commit_after = '0s'\nupstream.idle_timeout = '1h30m'").config();
    assert_eq!(config.server.keepalive, None);
    assert_eq!(config.upstream.commit_after, Duration::ZERO);
    assert_eq!(config.upstream.idle_timeout, Duration::from_secs(5400));
    for bad in ["upstream.idle_timeout = '0s'", "timing.drain = 10", "timing.drain = 'soon'", "limits.event = 0"] {
        assert!(Home::new(bad).load(&Flags::default()).is_err(), "{bad}");
    }
}

#[test]
fn limits_memory_must_be_at_least_limits_body() {
    let config = Home::new("limits.body = '1MiB'\nlimits.memory = '1MiB'").config();
    assert_eq!((config.server.body_limit_bytes, config.upstream.memory_limit_bytes), (1 << 20, 1 << 20));
    for (text, at) in [
        ("limits.memory = '63MiB'", "config.toml:1: limits.memory: "),
        ("limits.body = '1GiB'", "config.toml:1: limits.body: "),
        ("limits.body = '2MiB'\nlimits.memory = '1MiB'", "config.toml:2: limits.memory: "),
    ] {
        let error = Home::new(text).load(&Flags::default()).unwrap_err().to_string();
        assert!(error.contains(at) && error.contains("must be at least limits.body"), "{error}");
    }
}

#[test]
fn a_duration_has_an_upper_limit() {
    assert_eq!(Home::new("timing.socket_lifetime = '30d'").config().server.socket_lifetime.as_secs(), 30 * 24 * 3600);
    for duration in ["31d", "300years", "500000000000years"] {
        for key in ["upstream.first_event_timeout", "timing.commit_after", "timing.header", "upstream.retry_budget"] {
            let report = Home::new(&format!("{key} = '{duration}'")).load(&Flags::default()).unwrap_err().to_string();
            assert!(report.contains(key) && report.contains("at most 30d"), "{report}");
        }
    }
}

#[test]
fn a_path_in_the_file_is_relative_to_the_file() {
    let home = Home::new("upstream.ca_file = 'ca.pem'\nauth.credentials = 'sub/c.json'");
    let config = home.config();
    assert_eq!(config.net.ca_file, Some(home.directory.path().join("ca.pem")));
    assert_eq!(config.paths.credentials, home.directory.path().join("sub/c.json"));
}

#[test]
fn the_file_of_the_config_flag_must_exist_and_the_default_one_need_not() {
    let home = Home::new("");
    std::fs::remove_file(home.directory.path().join("config.toml")).unwrap();
    home.config();
    let flags = Flags { file: Some(home.directory.path().join("other.toml")), ..Flags::default() };
    assert!(home.load(&flags).unwrap_err().to_string().contains("other.toml: the file can't be read"));
}

#[test]
fn shown_settings_parse_to_the_same_settings() {
    let home = Home::new("model_aliases = { fast = 'gpt-5.4-fast' }\nlimits.body = '1KiB'\nlisten = '[::1]:5'");
    let shown = home.config().effective;
    let file: Vec<_> = shown.iter().map(|s| format!("{} = {}", s.key, s.value)).collect();
    let again = Home::new(&file.join("\n")).config();
    let pairs = |shown: &[super::EffectiveSetting]| shown.iter().map(|s| (s.key, s.value.clone())).collect::<Vec<_>>();
    assert_eq!(pairs(&again.effective), pairs(&shown));
}

#[test]
fn a_malformed_proxy_variable_gives_a_warning() {
    let home = Home::new("").with("HTTPS_PROXY", "http://me:sk-x@127.0.0.1:notaport").with("ALL_PROXY", "socks5://p");
    let warnings = home.config().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("HTTPS_PROXY") && !warnings[0].contains("sk-x"), "{warnings:?}");
    let chosen = Home::new("[upstream]\nproxy = 'http://p:1'").with("HTTPS_PROXY", "http://p:x");
    assert!(chosen.config().warnings.is_empty(), "upstream.proxy takes precedence");
}

#[test]
fn a_mistyped_variable_gives_a_warning() {
    let warnings = Home::new("").with("CODEX_PROXY_LISTN", "1").with("CODEX_PROXY_SERVICE_HOST", "x").config().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("CODEX_PROXY_LISTEN"), "{warnings:?}");
}
