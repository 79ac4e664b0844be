//! The commands that messages name, as a person can paste them where this program was called.
//!
//! A message that says what to do ends in one command. Where the program was given a config file,
//! that command has to name the file as well: without it, it would look at other settings, another
//! store and another daemon. Which file that is, is known once and for all when the process begins.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static CONFIG: OnceLock<PathBuf> = OnceLock::new();

/// Has every command name this config file from now on. A second call changes nothing.
pub fn name_config(file: PathBuf) {
    // Whoever came first is how the process was called.
    let _ = CONFIG.set(file);
}

/// A command of this program, from its name on: `codex-proxy login` for `login`.
#[must_use]
pub fn command(arguments: &str) -> String {
    called_with(CONFIG.get().map(PathBuf::as_path), arguments)
}

fn called_with(config: Option<&Path>, arguments: &str) -> String {
    match config {
        Some(file) => format!("codex-proxy --config {} {arguments}", quoted(file)),
        None => format!("codex-proxy {arguments}"),
    }
}

/// Takes a variable out of the shell, for every command that follows.
#[must_use]
pub fn unset(variable: &str) -> String {
    if cfg!(windows) { format!("set {variable}=") } else { format!("unset {variable}") }
}

/// A path as a shell takes it for one word.
#[must_use]
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if is_plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{called_with, quoted};

    #[test]
    fn a_command_names_the_config_file_that_was_given() {
        assert_eq!(called_with(None, "login"), "codex-proxy login");
        let given = called_with(Some(Path::new("/my conf/c.toml")), "login");
        assert_eq!(given, "codex-proxy --config '/my conf/c.toml' login");
    }

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        assert_eq!(quoted(Path::new("/a/b-c.d")), "/a/b-c.d");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
