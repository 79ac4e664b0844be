//! The default paths of the files that this program reads and writes: in `CODEX_PROXY_HOME`, or in the platform's
//! standard directories.

use std::path::{Path, PathBuf};

use directories::{BaseDirs, ProjectDirs};

use super::source::{ConfigError, Environment, ValueSource};

/// The files of this program. They don't have to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The config file.
    pub config: PathBuf,
    /// The directory for data that the user doesn't edit. Contains the credential file, unless a setting moves it.
    pub data: PathBuf,
    /// The file with the tokens.
    pub credentials: PathBuf,
    /// The model catalog, as last received from the backend.
    pub catalogue: PathBuf,
    /// The database of stored responses.
    pub responses: PathBuf,
    /// The directory of uploaded files and batches.
    pub files: PathBuf,
    /// The database of usage totals.
    pub usage: PathBuf,
    /// The file in which the running daemon stores its address and process id, so that commands find it.
    pub run_file: PathBuf,
    /// The directory in which `connect --write` records its changes, so that they can be undone.
    pub connected: PathBuf,
}

impl Paths {
    /// Determines the paths.
    ///
    /// # Errors
    /// If `CODEX_PROXY_HOME` isn't set and the user has no home directory.
    pub fn locate(environment: &Environment) -> Result<Self, ConfigError> {
        if let Some(home) = environment.path("CODEX_PROXY_HOME") {
            let source = ValueSource::Variable("CODEX_PROXY_HOME".to_owned());
            let error = |error: std::io::Error| ConfigError { source, key: None, message: error.to_string() };
            return std::path::absolute(home).map(|home| Self::inside(&home)).map_err(error);
        }
        let directories = ProjectDirs::from("", "", "codex-proxy").ok_or_else(|| ConfigError {
            source: ValueSource::Default,
            key: None,
            message:
                "this user has no home directory; set CODEX_PROXY_HOME to a directory for the files of codex-proxy"
                    .to_owned(),
        })?;
        // Local directories: tokens and addresses must not roam with a Windows profile.
        let (data, state) =
            (directories.data_local_dir(), directories.state_dir().unwrap_or(directories.data_local_dir()));
        Ok(Self {
            config: directories.config_dir().join("config.toml"),
            data: data.to_owned(),
            credentials: data.join("credentials.json"),
            catalogue: directories.cache_dir().join("models.json"),
            responses: state.join("responses.sqlite3"),
            files: data.join("files"),
            usage: state.join("usage.sqlite3"),
            run_file: state.join("run.json"),
            connected: state.join("connected"),
        })
    }

    /// All files in one directory.
    fn inside(home: &Path) -> Self {
        Self {
            config: home.join("config.toml"),
            data: home.to_owned(),
            credentials: home.join("credentials.json"),
            catalogue: home.join("models.json"),
            responses: home.join("responses.sqlite3"),
            files: home.join("files"),
            usage: home.join("usage.sqlite3"),
            run_file: home.join("run.json"),
            connected: home.join("connected"),
        }
    }
}

/// The file with the tokens of the Codex CLI: `$CODEX_HOME/auth.json`, or `~/.codex/auth.json`. `None` without a home
/// directory.
#[must_use]
pub fn codex_login_file(environment: &Environment) -> Option<PathBuf> {
    let home = environment.path("CODEX_HOME").or_else(|| Some(BaseDirs::new()?.home_dir().join(".codex")));
    Some(home?.join("auth.json"))
}
