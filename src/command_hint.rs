//! Commands in messages, in a form that the user can paste into a shell.
//!
//! If this process was started with a config file, the commands name it too: without it, they would use other settings,
//! another store and another daemon. The file is set once when the process starts.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static CONFIG: OnceLock<PathBuf> = OnceLock::new();

/// Formats commands of this program. A value, so that code without access to process state can format them too.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommandHint {
    config: Option<&'static Path>,
}

impl CommandHint {
    /// Returns a command, such as `codex-proxy login` for `login`.
    #[must_use]
    pub fn command(self, arguments: &str) -> String {
        with_config(self.config, arguments)
    }
}

/// Sets the config file that all commands name. Only the first call has an effect.
pub fn set_config_file(file: PathBuf) {
    let _ = CONFIG.set(file);
}

/// Returns the formatter for commands of this process.
#[must_use]
pub fn current() -> CommandHint {
    CommandHint { config: CONFIG.get().map(PathBuf::as_path) }
}

/// Returns a command of this program, such as `codex-proxy login` for `login`.
#[must_use]
pub fn command(arguments: &str) -> String {
    current().command(arguments)
}

fn with_config(config: Option<&Path>, arguments: &str) -> String {
    match config {
        Some(file) => format!("codex-proxy --config {} {arguments}", quoted(file)),
        None => format!("codex-proxy {arguments}"),
    }
}

/// Returns the command that unsets an environment variable.
#[must_use]
pub fn unset(variable: &str) -> String {
    if cfg!(windows) { format!("set {variable}=") } else { format!("unset {variable}") }
}

/// Quotes a path for a shell, if necessary.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if is_plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{quoted, with_config};

    #[test]
    fn a_command_names_the_config_file_that_was_given() {
        assert_eq!(with_config(None, "login"), "codex-proxy login");
        let given = with_config(Some(Path::new("/my conf/c.toml")), "login");
        assert_eq!(given, "codex-proxy --config '/my conf/c.toml' login");
    }

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        assert_eq!(quoted(Path::new("/a/b-c.d")), "/a/b-c.d");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
