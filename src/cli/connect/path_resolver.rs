//! Resolves the locations of recipes to paths on this machine.
//!
//! A location begins with `~`, `/`, `$VARIABLE` (an environment variable of the client), `{settings}` (the platform's
//! directory for settings) or `{xdg}` (`XDG_CONFIG_HOME`, by default `~/.config`, on every platform). If its base isn't
//! known, it resolves to `None`. Read-only.

use std::env::split_paths;
use std::fs;
use std::path::{Path, PathBuf};

use directories::BaseDirs;

use crate::config::Environment;

/// The base directories of this machine.
#[derive(Clone, Debug)]
pub(super) struct PathResolver {
    home: Option<PathBuf>,
    /// The platform's directory for settings.
    settings: Option<PathBuf>,
    xdg: Option<PathBuf>,
    environment: Environment,
}

impl PathResolver {
    pub(super) fn of(environment: &Environment) -> Self {
        let dirs = BaseDirs::new();
        let home = dirs.as_ref().map(|dirs| dirs.home_dir().to_owned());
        let xdg = environment.path("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
        let settings = dirs.map(|dirs| dirs.config_dir().to_owned());
        Self { home, settings, xdg, environment: environment.clone() }
    }

    /// Returns the path of a location.
    pub(super) fn resolve(&self, location: &str) -> Option<PathBuf> {
        let (first, rest) = location.split_once('/').unwrap_or((location, ""));
        let base = match first {
            "~" => self.home.clone()?,
            "{settings}" => self.settings.clone()?,
            "{xdg}" => self.xdg.clone()?,
            "" => PathBuf::from("/"),
            variable => self.environment.path(variable.strip_prefix('$')?)?,
        };
        Some(if rest.is_empty() { base } else { base.join(rest) })
    }

    /// Whether a location exists. Its last component may end in `*`.
    pub(super) fn exists(&self, location: &str) -> bool {
        let Some(path) = self.resolve(location) else { return false };
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix('*'));
        match (name, path.parent()) {
            (Some(prefix), Some(directory)) => fs::read_dir(directory).is_ok_and(|entries| {
                entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            }),
            _ => path.exists(),
        }
    }

    /// Whether a program is in `PATH`.
    pub(super) fn has_program(&self, name: &str) -> bool {
        let Some(search) = self.environment.get("PATH") else { return false };
        let names = [name.to_owned(), format!("{name}.exe"), format!("{name}.cmd")];
        split_paths(search)
            .filter(|directory| directory.is_absolute())
            .any(|directory| names.iter().any(|name| directory.join(name).is_file()))
    }

    /// Formats a path, with `~` for the home directory.
    pub(super) fn display(&self, path: &Path) -> String {
        match self.home.as_ref().and_then(|home| path.strip_prefix(home).ok()) {
            Some(rest) => format!("~/{}", rest.display()),
            None => path.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::PathResolver;
    use crate::config::Environment;

    fn resolver(home: &Path, environment: &[(&str, &str)]) -> PathResolver {
        let environment: Environment = environment.iter().copied().collect();
        let xdg = Some(home.join(".config"));
        PathResolver { home: Some(home.to_owned()), settings: Some(home.join("settings")), xdg, environment }
    }

    #[test]
    fn locations_are_resolved_to_paths_of_this_machine() {
        let paths = resolver(Path::new("/h"), &[("TOOL_HOME", "/t")]);
        for (location, path) in [
            ("~/.tool", Some("/h/.tool")),
            ("~", Some("/h")),
            ("{xdg}/tool", Some("/h/.config/tool")),
            ("{settings}/tool", Some("/h/settings/tool")),
            ("$TOOL_HOME", Some("/t")),
            ("$OTHER_HOME/x", None),
        ] {
            assert_eq!(paths.resolve(location).as_deref(), path.map(Path::new), "{location}");
        }
        assert_eq!(paths.display(Path::new("/h/a/b")), "~/a/b");
        assert_eq!(paths.display(Path::new("/other")), "/other");
    }

    #[test]
    fn programs_and_files_are_found() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("extensions/maker.tool-1.2")).unwrap();
        std::fs::write(home.path().join("tool"), "").unwrap();
        let paths = resolver(home.path(), &[("PATH", home.path().to_str().unwrap())]);
        assert!(paths.exists("~/extensions/maker.tool-*") && paths.exists("~/tool"));
        assert!(!paths.exists("~/extensions/other-*") && !paths.exists("~/none"));
        assert!(paths.has_program("tool") && !paths.has_program("extensions"));
    }
}
