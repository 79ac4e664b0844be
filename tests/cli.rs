//! The command-line program: its output and exit codes.

#![expect(clippy::unwrap_used, reason = "a test that can't continue has failed")]

#[path = "cli/errors.rs"]
mod errors;
#[cfg(target_os = "linux")]
#[path = "cli/service.rs"]
mod service;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine;

/// A home directory with a config file.
struct Home(tempfile::TempDir);

impl Home {
    fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.toml"), config).unwrap();
        Self(directory)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codex-proxy"));
        command.args(arguments).env_clear().env("CODEX_PROXY_HOME", self.0.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        CommandOutput::from(self.command(arguments).output().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("config.toml")
    }
}

#[derive(Debug)]
struct CommandOutput {
    code: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

#[test]
fn help_describes_the_program_and_its_limits() {
    let ended = Home::new("").run(&["--help"]);
    assert_eq!(ended.code, 0);
    let help = ended.stdout.replace('\n', " ");
    for part in ["Use your ChatGPT subscription", "not a documented public API", "not for sharing or pooling"] {
        assert!(help.contains(part), "{part}\n{}", ended.stdout);
    }
}

#[test]
fn wrong_usage_exits_with_2_and_writes_to_standard_error() {
    let home = Home::new("");
    for arguments in
        [&[][..], &["sevre"], &["config"], &["config", "show", "--colour"], &["-v", "-q", "config", "show"]]
    {
        let ended = home.run(arguments);
        assert_eq!((ended.code, &*ended.stdout), (2, ""), "{arguments:?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn path_prints_the_config_file_in_use() {
    let home = Home::new("");
    assert_eq!(home.run(&["config", "path"]).stdout.trim_end(), home.file().to_str().unwrap());
    let other = home.0.path().join("other.toml");
    let ended = home.run(&["--config", other.to_str().unwrap(), "config", "path"]);
    assert_eq!((ended.code, ended.stdout.trim_end()), (0, other.to_str().unwrap()));
    assert!(ended.stderr.contains("does not exist"));
    let broken = Home::new("nonsense");
    assert_eq!(broken.run(&["config", "path"]).code, 0);
}

#[cfg(unix)]
#[test]
fn without_codex_proxy_home_the_platform_directory_is_used() {
    let home = Home::new("");
    let mut command = home.command(&["config", "path"]);
    let ended =
        CommandOutput::from(command.env_remove("CODEX_PROXY_HOME").env("HOME", home.0.path()).output().unwrap());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let path = Path::new(ended.stdout.trim_end());
    assert!(path.starts_with(home.0.path()) && path.ends_with("codex-proxy/config.toml"), "{}", path.display());
}

#[test]
fn show_prints_the_source_of_each_non_default_value() {
    let home = Home::new("[timing]\ndrain = '1s'\nkeepalive = '1s'");
    let output = home.command(&["-v", "config", "show"]).env("CODEX_PROXY_TIMING_KEEPALIVE", "2s").output().unwrap();
    let ended = CommandOutput::from(output);
    let line = |key: &str| ended.stdout.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    assert_eq!(line("timing.commit_after"), "timing.commit_after = \"5s\"");
    // A source that doesn't fit behind its setting is printed above it.
    for part in [
        "\n# environment variable CODEX_PROXY_TIMING_KEEPALIVE\ntiming.keepalive = \"2s\"\n",
        &format!("# {}:2\n", home.file().display()),
    ] {
        assert!(ended.stdout.contains(part), "{part}\n{}", ended.stdout);
    }
    assert!(ended.stdout.lines().all(|line| line.starts_with('#') || line.chars().count() <= 80), "{}", ended.stdout);
    assert!(line("log.level").ends_with("# -v"));
}

#[test]
fn show_hides_keys_and_passwords() {
    let config = "[[keys]]\nname = 'laptop'\nkey = 'private'\n[upstream]\nproxy = 'http://me:private@127.0.0.1:1'";
    let ended = Home::new(config).run(&["-vv", "config", "show"]);
    assert!(ended.stdout.contains("laptop") && ended.stdout.contains("127.0.0.1:1"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("private") && !ended.stderr.contains("private"), "{ended:?}");
}

#[test]
fn check_reports_every_error_with_its_source_and_a_suggestion() {
    let home = Home::new("lisen = 1\n[limits]\nbody = 'big'\n");
    let output = home.command(&["config", "check"]).env("CODEX_PROXY_LOG_LEVEL", "loud").output().unwrap();
    let ended = CommandOutput::from(output);
    assert_eq!((ended.code, &*ended.stdout), (2, ""));
    for part in [
        &*format!("{}:1: lisen: unknown key; did you mean 'listen'?", home.file().display()),
        &format!("{}:3: limits.body: ", home.file().display()),
        "environment variable CODEX_PROXY_LOG_LEVEL: log.level: ",
    ] {
        assert!(ended.stderr.contains(part), "{part}\n{}", ended.stderr);
    }
}

#[test]
fn check_accepts_valid_settings_and_prints_warnings() {
    let ended = Home::new("").run(&["config", "check"]);
    assert_eq!((ended.code, &*ended.stderr), (0, ""));
    let ended = Home::new("[upstream]\nurl = 'https://relay.example'\ntrust_host = true").run(&["config", "check"]);
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.contains("relay.example"), "{}", ended.stderr);
}

#[test]
fn listening_for_other_machines_requires_a_key() {
    let home = Home::new("listen = '0.0.0.0:8787'");
    let ended = home.run(&["config", "check"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("[[keys]]") && ended.stderr.contains("localhost"), "{}", ended.stderr);
    let check = |keys: &str| home.command(&["config", "check"]).env("CODEX_PROXY_API_KEYS", keys).output().unwrap();
    assert_eq!(check("a-key-of-16-chars").status.code(), Some(0));
    let short = check("k");
    let stderr = String::from_utf8(short.stderr).unwrap();
    assert_eq!(short.status.code(), Some(2));
    assert!(stderr.contains("CODEX_PROXY_API_KEYS") && stderr.contains("fewer than 16 characters"), "{stderr}");
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let home = Home::new("");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = home.command(&["config", "show"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}

/// A daemon that is killed when the test ends.
struct Daemon {
    process: std::process::Child,
    base_url: String,
}

impl Daemon {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut process = home.command(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap()).lines();
        let ready = stderr.by_ref().map(Result::unwrap).find(|line| line.contains(" is ready: ")).unwrap();
        // Keep reading, so that later output doesn't block the daemon.
        std::thread::Builder::new().spawn(move || stderr.for_each(drop)).unwrap();
        let base_url = ready.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        Self { process, base_url }
    }

    fn port(&self) -> &str {
        self.base_url.trim_end_matches("/v1").rsplit(':').next().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_daemon_prints_its_address_and_status_finds_it() {
    let home = Home::new("");
    let status = |home: &Home| -> serde_json::Value {
        let ended = home.run(&["status", "--json"]);
        assert_eq!(ended.code, 3, "{}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    };
    assert_eq!(status(&home)["daemon"], serde_json::Value::Null);
    assert_eq!(home.run(&["status", "--daemon"]).code, 1);
    let daemon = Daemon::start(&home, &["serve", "--demo", "--port", "0"]);
    let found = status(&home);
    assert_eq!(found["daemon"]["base_url"], daemon.base_url.as_str());
    assert_eq!(found["daemon"]["demo"], true);
    assert_eq!(found["signed_in"], false);
    let alone = home.run(&["status", "--daemon"]);
    assert_eq!((alone.code, alone.stdout.trim_end()), (0, &*daemon.base_url));
    // The run file of a killed daemon remains, but must not be trusted.
    drop(daemon);
    assert!(home.0.path().join("run.json").exists());
    assert_eq!(status(&home)["daemon"], serde_json::Value::Null);
}

#[test]
fn a_demo_writes_no_file_except_its_run_file() {
    let home = Home::new("");
    let _daemon = Daemon::start(&home, &["serve", "--demo", "--port", "0"]);
    let mut names: Vec<_> = std::fs::read_dir(home.0.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["config.toml", "run.json"]);
}

#[cfg(unix)]
#[test]
fn a_daemon_exits_with_0_on_a_stop_signal_and_removes_its_run_file() {
    let home = Home::new("");
    for signal in ["-TERM", "-INT"] {
        let mut daemon = Daemon::start(&home, &["serve", "--demo", "--port", "0"]);
        let reported = Command::new("kill").args([signal, &daemon.process.id().to_string()]).status().unwrap();
        assert!(reported.success());
        assert_eq!(daemon.process.wait().unwrap().code(), Some(0), "{signal}");
        assert!(!home.0.path().join("run.json").exists(), "{signal}");
    }
}

#[test]
fn a_port_in_use_is_reported_on_one_line() {
    let (first, second) = (Home::new(""), Home::new(""));
    let daemon = Daemon::start(&first, &["serve", "--demo", "--host", "127.0.0.1", "--port", "0"]);
    let ended = second.run(&["serve", "--demo", "--port", daemon.port()]);
    assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{}", ended.stderr);
    assert!(ended.stderr.contains(daemon.port()), "{}", ended.stderr);
}

#[test]
fn serving_without_a_login_listens_and_names_the_login_command() {
    let home = Home::new("");
    let dead_end = "http://127.0.0.1:1";
    let mut command = home.command(&["serve", "--port", "0"]);
    command.env("CODEX_PROXY_UPSTREAM_URL", dead_end).env("CODEX_PROXY_AUTH_URL", dead_end);
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said: Vec<_> = stderr.take(2).collect();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(said[0].contains("codex-proxy login"), "{said:?}");
    assert!(said[1].contains(" is ready: http://127.0.0.1:"), "{said:?}");
}

#[test]
fn invalid_settings_prevent_the_daemon_from_starting() {
    let ended = Home::new("").run(&["serve", "--host", "0.0.0.0"]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("--host: listen: ") && ended.stderr.contains("[[keys]]"), "{}", ended.stderr);
}

#[test]
fn conflicting_flags_are_wrong_usage() {
    let home = Home::new("");
    for arguments in [
        &["login", "--take-over"][..],
        &["login", "--import", "--port", "1455"],
        &["serve", "--listen", "1", "--port", "2"],
    ] {
        assert_eq!(home.run(arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn without_a_login_status_exits_with_3_and_logout_with_0() {
    let home = Home::new("");
    let status = home.run(&["status", "--offline"]);
    assert_eq!(status.code, 3);
    assert!(status.stdout.contains("codex-proxy login"), "{}", status.stdout);
    let logout = home.run(&["logout"]);
    assert_eq!((logout.code, &*logout.stdout), (0, ""));
}

#[test]
fn a_borrowed_login_is_shown_without_its_tokens_and_its_file_is_unchanged() {
    let home = Home::new("");
    let claims = r#"{"exp":4102444800,"https://api.openai.com/auth":{"chatgpt_account_id":"acc-1","chatgpt_plan_type":"plus"},"https://api.openai.com/profile":{"email":"me@example.com"}}"#;
    let token = format!("e30.{}.c2ln", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims));
    let login =
        format!(r#"{{"auth_mode":"chatgpt","tokens":{{"access_token":"{token}","refresh_token":"rt_private"}}}}"#);
    let codex = home.0.path().join("codex");
    std::fs::create_dir(&codex).unwrap();
    std::fs::write(codex.join("auth.json"), &login).unwrap();
    let imported =
        CommandOutput::from(home.command(&["login", "--import"]).env("CODEX_HOME", &codex).output().unwrap());
    assert_eq!(imported.code, 0, "{}", imported.stderr);
    assert!(imported.stderr.contains("me@example.com (plan plus)"), "{}", imported.stderr);
    let status = home.run(&["status", "--offline"]);
    assert_eq!(status.code, 0, "{}", status.stderr);
    assert!(status.stdout.contains("acc-1") && status.stdout.contains("imported "), "{}", status.stdout);
    for ended in [&imported, &status, &home.run(&["status", "--offline", "--json"])] {
        assert!(!format!("{ended:?}").contains("rt_private") && !format!("{ended:?}").contains(&token), "{ended:?}");
    }
    assert_eq!(std::fs::read_to_string(codex.join("auth.json")).unwrap(), login);
}

#[test]
fn a_login_in_the_keychain_is_explained() {
    let home = Home::new("");
    let absent = home.command(&["login", "--import"]).env("CODEX_HOME", home.0.path()).output().unwrap();
    let absent = CommandOutput::from(absent);
    assert_eq!(absent.code, 1);
    assert!(absent.stderr.contains("auth.json") && !absent.stderr.contains("keychain"), "{}", absent.stderr);
    let codex = home.0.path().join("codex");
    std::fs::create_dir(&codex).unwrap();
    std::fs::write(codex.join("config.toml"), "cli_auth_credentials_store = 'keyring'").unwrap();
    let kept = CommandOutput::from(home.command(&["login", "--import"]).env("CODEX_HOME", &codex).output().unwrap());
    assert_eq!(kept.code, 1);
    assert!(kept.stderr.contains("keychain") && kept.stderr.contains("codex-proxy login"), "{}", kept.stderr);
}
