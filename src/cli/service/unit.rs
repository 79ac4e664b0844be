//! The systemd user unit.
//!
//! It contains only restrictions that a user's service manager can apply. `ProtectSystem` and similar settings require
//! a user namespace; `--no-sandbox` leaves them out, for systems where unprivileged user namespaces are disabled.

use super::Sandbox;
use super::definition::Definition;
use super::service_file::MARK;

/// Name of the unit.
pub(super) const NAME: &str = "codex-proxy.service";

/// Restrictions that require only seccomp and prctl.
const BASIC_RESTRICTIONS: &str = "\
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
";

/// Restrictions that require a user namespace.
const NAMESPACE_RESTRICTIONS: &str = "\
ProtectSystem=strict
PrivateDevices=yes
ProtectControlGroups=yes
ProtectKernelTunables=yes
";

/// Returns the text of the unit.
pub(super) fn text(definition: &Definition, sandbox: Sandbox) -> String {
    let command: Vec<String> =
        definition.command.iter().enumerate().map(|(index, word)| argument(index, word)).collect();
    let mut text = format!(
        "# {MARK}; run it again to update this file.\n\
         # Put your own changes in a drop-in: systemctl --user edit {NAME}\n\
         [Unit]\n\
         Description=codex-proxy, a local API for your ChatGPT subscription\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={}\n\
         ExecReload=kill -HUP $MAINPID\n\
         WatchdogSec=30\n\
         Restart=on-failure\n\
         RestartSec=5\n\
         # Exit code 2: invalid settings, which a restart doesn't fix.\n\
         RestartPreventExitStatus=2\n\
         TimeoutStopSec={}\n\
         UMask=0077\n\
         LimitCORE=0\n",
        command.join(" "),
        definition.stop_timeout.as_secs(),
    );
    let variable = |(name, value): &(&str, String)| format!("Environment={}\n", quoted(&format!("{name}={value}")));
    text.extend(definition.variables.iter().map(variable));
    let runtime = |directory: &String| format!("RuntimeDirectory={}\nRuntimeDirectoryMode=0700\n", path(directory));
    text.extend(definition.runtime_directory.iter().map(runtime));
    text += "\n";
    text += BASIC_RESTRICTIONS;
    if sandbox == Sandbox::Full {
        text += NAMESPACE_RESTRICTIONS;
        text += &writable_paths(definition);
    }
    text + "\n[Install]\nWantedBy=default.target\n"
}

/// Returns the directives that allow the daemon to write to its directories.
fn writable_paths(definition: &Definition) -> String {
    // `-`: the daemon starts even if the directory was removed.
    let list: Vec<String> = definition.directories.iter().map(|directory| path(&format!("-{directory}"))).collect();
    let is_temporary = |directory: &String| ["/tmp/", "/var/tmp/"].iter().any(|place| directory.starts_with(place));
    let mut text = format!("ReadWritePaths={}\n", list.join(" "));
    // A private /tmp would hide the program's own files there.
    if !definition.directories.iter().any(is_temporary) {
        text += "PrivateTmp=yes\n";
    }
    text
}

/// Quotes a word of the command line. `$` is special in all but the first.
fn argument(index: usize, word: &str) -> String {
    let word = quoted(word);
    if index == 0 { word } else { word.replace('$', "$$") }
}

/// Quotes a text, if necessary, and escapes the characters that systemd expands.
fn quoted(word: &str) -> String {
    let is_plain = |sign: char| sign.is_ascii_alphanumeric() || "/._+:@,=-$".contains(sign);
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    if !word.is_empty() && word.chars().all(is_plain) { escaped } else { format!("\"{escaped}\"") }
}

/// Quotes a path in a list of paths, where a backslash isn't special.
fn path(path: &str) -> String {
    let escaped = path.replace('%', "%%");
    if path.contains(char::is_whitespace) { format!("\"{escaped}\"") } else { escaped }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::super::Sandbox;
    use super::super::definition::Definition;
    use super::{NAME, text};

    fn definition(directory: &str) -> Definition {
        Definition {
            command: ["/bin/sh", "serve", "--config", "/home/a b/50%/$x.toml"].map(str::to_owned).to_vec(),
            variables: vec![("CODEX_PROXY_HOME", directory.to_owned())],
            directories: vec![directory.to_owned(), "/home/ann/.cache".to_owned()],
            runtime_directory: Some("codex-proxy".to_owned()),
            log_file: None,
            stop_timeout: Duration::from_secs(20),
        }
    }

    #[test]
    fn special_characters_are_quoted() {
        let text = text(&definition("/home/a b/50%"), Sandbox::Full);
        for line in [
            "ExecStart=/bin/sh serve --config \"/home/a b/50%%/$$x.toml\"",
            "Environment=\"CODEX_PROXY_HOME=/home/a b/50%%\"",
            "ReadWritePaths=\"-/home/a b/50%%\" -/home/ann/.cache",
            "TimeoutStopSec=20",
            "LimitCORE=0",
            "PrivateTmp=yes",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn files_in_tmp_rule_out_a_private_tmp() {
        assert!(!text(&definition("/tmp/home"), Sandbox::Full).contains("PrivateTmp"));
    }

    #[test]
    fn without_namespaces_the_other_restrictions_stay() {
        let text = text(&definition("/home/ann"), Sandbox::NoNamespaces);
        assert!(text.contains("SystemCallFilter=@system-service") && !text.contains("Protect"), "{text}");
    }

    #[test]
    fn systemd_accepts_the_unit() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(NAME);
        for sandbox in [Sandbox::Full, Sandbox::NoNamespaces] {
            std::fs::write(&file, text(&definition("/home/a b"), sandbox)).unwrap();
            let mut command = Command::new("systemd-analyze");
            command.args(["--user", "verify"]).arg(&file).env("XDG_RUNTIME_DIR", directory.path());
            let Ok(output) = command.output() else {
                eprintln!("skipped: there is no systemd-analyze here");
                return;
            };
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && !errors.contains(NAME), "{errors}");
        }
    }
}
