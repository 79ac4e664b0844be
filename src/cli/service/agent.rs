//! The launchd agent, a property list.
//!
//! launchd has no log and rotates no files, so the daemon gets a log file if none is configured.

use std::path::Path;

use super::definition::Definition;
use super::service_file::MARK;

/// Name of the agent.
pub(super) const LABEL: &str = "codex-proxy";

/// The default log file, relative to the home directory.
pub(super) const LOG: &str = "Library/Logs/codex-proxy/codex-proxy.log";
/// File for the standard error of the daemon, relative to the home directory.
const STDERR_FILE: &str = "Library/Logs/codex-proxy/start.log";

/// Returns the text of the property list.
pub(super) fn text(definition: &Definition, home: &Path) -> String {
    let below = |path: &str| home.join(path).display().to_string();
    let command: Vec<_> = definition.command.iter().map(|word| format!("    {}\n", string(word))).collect();
    let mut variables = definition.variables.clone();
    if definition.log_file.is_none() {
        variables.push(("CODEX_PROXY_LOG_FILE", below(LOG)));
    }
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| format!("    <key>{name}</key>{}\n", string(value))).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!-- {MARK}; run it again to update this file. -->\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n\
         \x20 <key>Label</key>{}\n\
         \x20 <key>ProgramArguments</key>\n  <array>\n{}  </array>\n\
         \x20 <key>EnvironmentVariables</key>\n  <dict>\n{}  </dict>\n\
         \x20 <key>RunAtLoad</key><true/>\n\
         \x20 <key>KeepAlive</key>\n  <dict>\n    <key>SuccessfulExit</key><false/>\n  </dict>\n\
         \x20 <key>ThrottleInterval</key><integer>10</integer>\n\
         \x20 <key>ExitTimeOut</key><integer>{}</integer>\n\
         \x20 <key>Umask</key><integer>{}</integer>\n\
         \x20 <key>SoftResourceLimits</key>\n  <dict>\n    <key>Core</key><integer>0</integer>\n  </dict>\n\
         \x20 <key>StandardErrorPath</key>{}\n\
         </dict>\n</plist>\n",
        string(LABEL),
        command.concat(),
        variables.concat(),
        definition.stop_timeout.as_secs(),
        0o077,
        string(&below(STDERR_FILE)),
    )
}

fn string(text: &str) -> String {
    format!("<string>{}</string>", text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::definition::Definition;
    use super::text;

    fn definition(log_file: Option<&str>) -> Definition {
        Definition {
            command: ["/opt/a & b/codex-proxy", "serve"].map(str::to_owned).to_vec(),
            variables: Vec::new(),
            directories: Vec::new(),
            runtime_directory: None,
            log_file: log_file.map(str::to_owned),
            stop_timeout: Duration::from_secs(20),
        }
    }

    #[test]
    fn it_starts_at_login_and_restarts_after_a_failure() {
        let text = text(&definition(None), Path::new("/Users/ann"));
        for part in [
            "<string>/opt/a &amp; b/codex-proxy</string>\n    <string>serve</string>\n  </array>",
            "<key>RunAtLoad</key><true/>",
            "<key>SuccessfulExit</key><false/>",
            "<key>Umask</key><integer>63</integer>",
            "<key>Core</key><integer>0</integer>",
            "<key>CODEX_PROXY_LOG_FILE</key><string>/Users/ann/Library/Logs/codex-proxy/codex-proxy.log</string>",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_configured_log_file_is_kept() {
        let text = text(&definition(Some("/var/log/x")), Path::new("/Users/ann"));
        assert!(!text.contains("CODEX_PROXY_LOG_FILE"), "{text}");
    }
}
