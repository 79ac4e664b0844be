//! The systemd user unit.
//!
//! Only what a *user's* manager can do stands in it. What needs namespaces of its own (`ProtectSystem`
//! and its like) makes the manager use a user namespace; a system that allows none of these to users
//! is what `--no-sandbox` is for.

use super::Sandbox;
use super::definition::Definition;
use super::service_file::MARK;

/// The name of the unit.
pub(super) const NAME: &str = "codex-proxy.service";

/// Needs seccomp and prctl only.
const PLAIN: &str = "\
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

const NAMESPACES: &str = "\
ProtectSystem=strict
PrivateDevices=yes
ProtectControlGroups=yes
ProtectKernelTunables=yes
";

/// The text of the unit.
pub(super) fn text(definition: &Definition, sandbox: Sandbox) -> String {
    let command: Vec<String> =
        definition.command.iter().enumerate().map(|(index, word)| argument(index, word)).collect();
    let mut text = format!(
        "# {MARK}, which brings it up to date.\n\
         # Your own changes go into a drop-in: systemctl --user edit {NAME}\n\
         [Unit]\n\
         Description=Your own ChatGPT subscription, as an API on your own machine\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={}\n\
         ExecReload=kill -HUP $MAINPID\n\
         WatchdogSec=30\n\
         Restart=on-failure\n\
         RestartSec=5\n\
         # Settings at fault stay at fault.\n\
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
    text += PLAIN;
    if sandbox == Sandbox::Full {
        text += NAMESPACES;
        text += &room(definition);
    }
    text + "\n[Install]\nWantedBy=default.target\n"
}

/// What may be written, beside nothing.
fn room(definition: &Definition) -> String {
    // One that has gone must not keep the daemon from starting.
    let list: Vec<String> = definition.directories.iter().map(|directory| path(&format!("-{directory}"))).collect();
    let is_temporary = |directory: &String| ["/tmp/", "/var/tmp/"].iter().any(|place| directory.starts_with(place));
    let mut text = format!("ReadWritePaths={}\n", list.join(" "));
    // A private one would hide our own files.
    if !definition.directories.iter().any(is_temporary) {
        text += "PrivateTmp=yes\n";
    }
    text
}

/// A word of a command line: `$` would name a variable in all but the first.
fn argument(index: usize, word: &str) -> String {
    let word = quoted(word);
    if index == 0 { word } else { word.replace('$', "$$") }
}

/// A word that may hold anything.
fn quoted(word: &str) -> String {
    let is_plain = |sign: char| sign.is_ascii_alphanumeric() || "/._+:@,=-$".contains(sign);
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    if !word.is_empty() && word.chars().all(is_plain) { escaped } else { format!("\"{escaped}\"") }
}

/// A path in a list of paths, where a backslash means itself.
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
    fn words_are_what_they_are_whatever_stands_in_them() {
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
    fn our_own_files_are_not_hidden_behind_a_private_directory() {
        assert!(!text(&definition("/tmp/home"), Sandbox::Full).contains("PrivateTmp"));
    }

    #[test]
    fn without_namespaces_only_what_needs_none_is_left() {
        let text = text(&definition("/home/ann"), Sandbox::NoNamespaces);
        assert!(text.contains("SystemCallFilter=@system-service") && !text.contains("Protect"), "{text}");
    }

    #[test]
    fn systemd_knows_every_line() {
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
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && !told.contains(NAME), "{told}");
        }
    }
}
