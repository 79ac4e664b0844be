//! `service`, with a service manager that records its arguments and does nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::CommandOutput;

/// Records its arguments; fails if a file says so, and reports the state from another file.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >> "$HOME/calls"
if [ -e "$HOME/refuse" ]; then echo "Failed to connect to bus" >&2; exit 1; fi
if [ "$2" = show ]; then while read -r line; do echo "$line"; done < "$HOME/state"; fi
"#;

const RUNNING: &str = "MainPID=12\nActiveState=active\nSubState=running\nUnitFileState=enabled\n";
const FAILED: &str = "MainPID=0\nActiveState=failed\nSubState=failed\nUnitFileState=enabled\n";

/// A user of a machine with a service manager.
struct User(tempfile::TempDir);

impl User {
    fn new() -> Self {
        let user = Self(tempfile::tempdir().unwrap());
        fs::create_dir(user.home().join("bin")).unwrap();
        let program = user.home().join("bin/systemctl");
        fs::write(&program, SYSTEMCTL).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        user.set_state("");
        user
    }

    fn home(&self) -> &Path {
        self.0.path()
    }

    fn unit(&self) -> PathBuf {
        self.home().join("xdg/systemd/user/codex-proxy.service")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.unit()).unwrap()
    }

    /// The state that the service manager reports.
    fn set_state(&self, state: &str) {
        fs::write(self.home().join("state"), state).unwrap();
    }

    fn refuses(&self) {
        fs::write(self.home().join("refuse"), "").unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codex-proxy"));
        command.args(arguments).env_clear().env("HOME", self.home());
        command.env("XDG_CONFIG_HOME", self.home().join("xdg")).env("PATH", self.home().join("bin"));
        command
    }

    fn run(&self, arguments: &[&str]) -> CommandOutput {
        CommandOutput::from(self.command(arguments).output().unwrap())
    }

    /// The arguments since the last call.
    fn calls(&self) -> Vec<String> {
        let file = self.home().join("calls");
        let calls = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(file);
        calls.lines().map(|call| call.strip_prefix("--user ").unwrap().to_owned()).collect()
    }
}

#[test]
fn install_writes_enables_and_starts_the_unit_once() {
    let user = User::new();
    let first = user.run(&["service", "install"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(user.calls(), ["daemon-reload", "enable --now codex-proxy.service"]);
    let text = user.text();
    assert_eq!(first.stdout.trim_end(), text.trim_end());
    let program = env!("CARGO_BIN_EXE_codex-proxy");
    let data = user.home().join(".local/share/codex-proxy");
    for line in [
        &*format!("ExecStart={program} serve"),
        "Type=notify",
        "ExecReload=kill -HUP $MAINPID",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        &format!("Environment=XDG_CONFIG_HOME={}", user.home().join("xdg").display()),
        "WantedBy=default.target",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(text.contains(&format!("-{}", data.display())), "{text}");
    assert_eq!(fs::metadata(data).unwrap().permissions().mode() & 0o777, 0o700);
    let second = user.run(&["service", "install"]);
    assert!(second.code == 0 && second.stderr.contains("already"), "{}", second.stderr);
    assert_eq!(
        (user.text(), user.calls()),
        (text, vec!["daemon-reload".into(), "enable --now codex-proxy.service".into()])
    );
}

#[test]
fn a_changed_unit_is_restarted() {
    let user = User::new();
    user.run(&["service", "install"]);
    user.calls();
    let config = user.home().join("my settings.toml");
    fs::write(&config, "log.file = 'logs/a.log'").unwrap();
    let ended = user.run(&["--config", config.to_str().unwrap(), "--account", "a-1", "service", "install"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(user.calls(), ["daemon-reload", "enable codex-proxy.service", "restart codex-proxy.service"]);
    let text = user.text();
    assert!(text.contains(&format!(" serve --config \"{}\" --account a-1\n", config.display())), "{text}");
    assert!(text.contains(&format!("-{}", user.home().join("logs").display())), "{text}");
    assert!(user.home().join("logs").is_dir());
}

#[test]
fn uninstall_removes_the_unit_and_nothing_else() {
    let user = User::new();
    user.run(&["service", "install"]);
    user.calls();
    let ended = user.run(&["service", "uninstall"]);
    assert!(ended.code == 0 && !user.unit().exists(), "{}", ended.stderr);
    let calls = ["disable --now codex-proxy.service", "daemon-reload", "reset-failed codex-proxy.service"];
    assert_eq!(user.calls(), calls);
    let again = user.run(&["service", "uninstall"]);
    assert!(again.code == 0 && again.stderr.contains("isn't installed"), "{}", again.stderr);
    assert_eq!(user.calls().len(), 0);
}

#[test]
fn a_unit_written_by_another_program_is_not_changed() {
    let user = User::new();
    fs::create_dir_all(user.unit().parent().unwrap()).unwrap();
    fs::write(user.unit(), "[Service]\n").unwrap();
    for arguments in [["service", "install"], ["service", "uninstall"]] {
        let ended = user.run(&arguments);
        assert!(ended.code == 1 && ended.stderr.contains("not written by codex-proxy"), "{}", ended.stderr);
    }
    assert_eq!((&*user.text(), user.calls().len()), ("[Service]\n", 0));
}

#[test]
fn a_command_that_the_manager_rejects_is_printed_for_the_user_to_run() {
    let user = User::new();
    user.refuses();
    let ended = user.run(&["service", "install"]);
    assert_eq!(ended.code, 1);
    for part in [
        "`systemctl --user daemon-reload` failed: Failed to connect to bus",
        "\n  systemctl --user daemon-reload\n  systemctl --user enable --now codex-proxy.service\n",
    ] {
        assert!(ended.stderr.contains(part), "{part}\n{}", ended.stderr);
    }
    let ended = user.run(&["service", "uninstall"]);
    assert!(ended.code == 1 && ended.stderr.contains("still installed"), "{}", ended.stderr);
    assert!(user.unit().exists());
}

#[test]
fn without_a_manager_nothing_is_written() {
    let user = User::new();
    let output = user.command(&["service", "install"]).env("PATH", user.home()).output().unwrap();
    let ended = CommandOutput::from(output);
    assert!(ended.code == 1 && ended.stderr.contains("systemctl is not in PATH"), "{}", ended.stderr);
    assert!(!user.unit().exists());
}

#[test]
fn printing_changes_nothing() {
    let user = User::new();
    let full = user.run(&["service", "install", "--print"]);
    let plain = user.run(&["service", "install", "--print", "--no-sandbox"]);
    assert!(full.code == 0 && full.stdout.contains("ProtectSystem=strict"), "{}", full.stdout);
    assert!(plain.stdout.contains("NoNewPrivileges") && !plain.stdout.contains("ProtectSystem"), "{}", plain.stdout);
    assert!(!user.unit().exists() && user.calls().is_empty());
}

#[test]
fn settings_of_this_shell_are_named_and_path_variables_are_passed_on() {
    let user = User::new();
    let mut command = user.command(&["service", "install"]);
    command.env("CODEX_PROXY_LOG_LEVEL", "debug").env("HTTPS_PROXY", "http://127.0.0.1:9");
    let home = user.home().join("all of it");
    let ended = CommandOutput::from(command.env("CODEX_PROXY_HOME", &home).output().unwrap());
    assert!(ended.stderr.contains("environment variables: CODEX_PROXY_LOG_LEVEL, HTTPS_PROXY."), "{}", ended.stderr);
    assert!(!user.text().contains("127.0.0.1:9"), "{}", user.text());
    let line = format!("Environment=\"CODEX_PROXY_HOME={}\"", home.display());
    assert!(user.text().contains(&line), "{}", user.text());
}

#[test]
fn status_reports_whether_the_unit_is_installed_enabled_and_running() {
    let user = User::new();
    let status = |user: &User| {
        let (text, json) = (user.run(&["service", "status"]), user.run(&["service", "status", "--json"]));
        assert_eq!(text.code, json.code);
        let json: Value = serde_json::from_str(&json.stdout).unwrap();
        (text.code, text.stdout, json)
    };
    user.set_state("ActiveState=inactive\nSubState=dead\n");
    let (code, text, json) = status(&user);
    assert!(code == 1 && text.contains("codex-proxy service install"), "{text}");
    assert_eq!((&json["installed"], &json["enabled"], &json["running"]), (&json!(false), &json!(false), &json!(false)));
    user.run(&["service", "install"]);
    user.set_state(RUNNING);
    let (code, text, json) = status(&user);
    assert!(code == 0 && text.contains("yes (process 12)") && text.contains("journalctl --user"), "{text}");
    assert_eq!((&json["installed"], &json["enabled"], &json["pid"]), (&json!(true), &json!(true), &json!(12)));
    user.set_state(FAILED);
    let (code, text, json) = status(&user);
    assert!(code == 1 && text.contains("no; failed (failed)"), "{text}");
    assert_eq!(json["running"], json!(false));
    user.refuses();
    let (code, text, json) = status(&user);
    assert!(code == 1 && text.contains("systemd didn't report it"), "{text}");
    assert_eq!(json["running"], Value::Null);
    let documented = include_str!("../../docs/service.md");
    let rows = documented.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut members: Vec<&str> = rows.map(|(member, _)| member).collect();
    members.sort_unstable();
    let mut printed: Vec<&String> = json.as_object().unwrap().keys().collect();
    printed.sort_unstable();
    assert_eq!(members, printed);
}

#[test]
fn invalid_settings_prevent_only_the_installation() {
    let user = User::new();
    fs::create_dir_all(user.home().join("xdg/codex-proxy")).unwrap();
    fs::write(user.home().join("xdg/codex-proxy/config.toml"), "nonsense = 1").unwrap();
    assert_eq!(user.run(&["service", "install"]).code, 2);
    assert_eq!(user.run(&["service", "status"]).code, 1);
    assert_eq!(user.run(&["service", "uninstall"]).code, 0);
}

#[test]
fn the_service_manager_gets_no_secrets() {
    let user = User::new();
    let environment = user.home().join("environment");
    fs::write(user.home().join("bin/systemctl"), format!("#!/bin/sh\n/usr/bin/env >> {}\n", environment.display()))
        .unwrap();
    let mut command = user.command(&["service", "install"]);
    for name in ["CODEX_PROXY_API_KEYS", "CODEX_PROXY_KEY", "CODEX_PROXY_ACCESS_TOKEN", "CODEX_ACCESS_TOKEN"] {
        command.env(name, "canary-of-sixteen-letters");
    }
    let output = command.output().unwrap();
    let seen =
        fs::read_to_string(environment).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert!(seen.contains("PATH=") && !seen.contains("canary"), "{seen}");
}

#[test]
fn a_line_break_does_not_reach_the_unit() {
    let user = User::new();
    let account = "a\nExecStartPre=/bin/false";
    let ended = user.run(&["--account", account, "service", "install"]);
    assert!(ended.code == 2 && ended.stderr.contains("control character"), "{}", ended.stderr);
    assert!(!user.unit().exists());
}
