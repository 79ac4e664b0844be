//! Where programs keep their settings, and whether they are on this machine.
//!
//! A place is written `~/folder`, `$VARIABLE/folder` (for programs that let themselves be told),
//! `{settings}/folder` (where the platform keeps settings) or `{xdg}/folder` (`~/.config` unless
//! `XDG_CONFIG_HOME` says otherwise, on every platform). A place that does not exist on this machine
//! is `None`. Nothing here is ever written.

use std::env::split_paths;
use std::fs;
use std::path::{Path, PathBuf};

use directories::BaseDirs;

use crate::config::Environment;

/// Looks paths up.
#[derive(Clone, Debug)]
pub(super) struct PathResolver {
    home: Option<PathBuf>,
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

    /// The path that a place means here.
    pub(super) fn path(&self, place: &str) -> Option<PathBuf> {
        let (first, rest) = place.split_once('/').unwrap_or((place, ""));
        let base = match first {
            "~" => self.home.clone()?,
            "{settings}" => self.settings.clone()?,
            "{xdg}" => self.xdg.clone()?,
            "" => PathBuf::from("/"),
            variable => self.environment.path(variable.strip_prefix('$')?)?,
        };
        Some(if rest.is_empty() { base } else { base.join(rest) })
    }

    /// Whether there is something; the last part of a place may end in `*`.
    pub(super) fn has(&self, place: &str) -> bool {
        let Some(path) = self.path(place) else { return false };
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix('*'));
        match (name, path.parent()) {
            (Some(start), Some(folder)) => fs::read_dir(folder).is_ok_and(|entries| {
                entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(start))
            }),
            _ => path.exists(),
        }
    }

    /// Whether a program is on the search path.
    pub(super) fn finds_program(&self, name: &str) -> bool {
        let Some(search) = self.environment.get("PATH") else { return false };
        let names = [name.to_owned(), format!("{name}.exe"), format!("{name}.cmd")];
        split_paths(search)
            .filter(|folder| folder.is_absolute())
            .any(|folder| names.iter().any(|name| folder.join(name).is_file()))
    }

    /// A path as a person writes it: with `~` for the home directory.
    pub(super) fn shown(&self, path: &Path) -> String {
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

    fn paths(home: &Path, environment: &[(&str, &str)]) -> PathResolver {
        let environment: Environment = environment.iter().copied().collect();
        let xdg = Some(home.join(".config"));
        PathResolver { home: Some(home.to_owned()), settings: Some(home.join("settings")), xdg, environment }
    }

    #[test]
    fn places_are_found_where_this_machine_has_them() {
        let paths = paths(Path::new("/h"), &[("TOOL_HOME", "/t")]);
        for (place, path) in [
            ("~/.tool", Some("/h/.tool")),
            ("~", Some("/h")),
            ("{xdg}/tool", Some("/h/.config/tool")),
            ("{settings}/tool", Some("/h/settings/tool")),
            ("$TOOL_HOME", Some("/t")),
            ("$OTHER_HOME/x", None),
        ] {
            assert_eq!(paths.path(place).as_deref(), path.map(Path::new), "{place}");
        }
        assert_eq!(paths.shown(Path::new("/h/a/b")), "~/a/b");
        assert_eq!(paths.shown(Path::new("/other")), "/other");
    }

    #[test]
    fn programs_and_traces_are_seen() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("extensions/maker.tool-1.2")).unwrap();
        std::fs::write(home.path().join("tool"), "").unwrap();
        let paths = paths(home.path(), &[("PATH", home.path().to_str().unwrap())]);
        assert!(paths.has("~/extensions/maker.tool-*") && paths.has("~/tool"));
        assert!(!paths.has("~/extensions/other-*") && !paths.has("~/none"));
        assert!(paths.finds_program("tool") && !paths.finds_program("extensions"));
    }
}
