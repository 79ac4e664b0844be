//! Where our files live: in `CODEX_PROXY_HOME`, else in the places that the platform has for them.

use std::path::{Path, PathBuf};

use directories::{BaseDirs, ProjectDirs};

use super::source::{Environment, Fault, Source};

/// Our files. None of them has to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The settings.
    pub config: PathBuf,
    /// The directory of the files that we write for good.
    pub data: PathBuf,
    /// The credentials.
    pub credentials: PathBuf,
    /// The model catalogue as last heard.
    pub catalogue: PathBuf,
    /// Answers that are kept on disk.
    pub responses: PathBuf,
    /// Totals of what was used.
    pub usage: PathBuf,
    /// Where the running daemon tells its address.
    pub run_file: PathBuf,
    /// The directory in which is recorded what `connect --write` has changed.
    pub connected: PathBuf,
}

impl Paths {
    /// Finds the places.
    ///
    /// # Errors
    /// When there is neither `CODEX_PROXY_HOME` nor a home directory.
    pub fn locate(environment: &Environment) -> Result<Self, Fault> {
        if let Some(home) = environment.path("CODEX_PROXY_HOME") {
            let source = Source::Variable("CODEX_PROXY_HOME".to_owned());
            let fault = |error: std::io::Error| Fault { source, key: None, message: error.to_string() };
            return std::path::absolute(home).map(|home| Self::inside(&home)).map_err(fault);
        }
        let places = ProjectDirs::from("", "", "codex-proxy").ok_or_else(|| Fault {
            source: Source::Default,
            key: None,
            message: "this user has no home directory; set CODEX_PROXY_HOME to a directory for our files".to_owned(),
        })?;
        // Neither tokens nor addresses of this machine should roam with a profile.
        let (data, state) = (places.data_local_dir(), places.state_dir().unwrap_or(places.data_local_dir()));
        Ok(Self {
            config: places.config_dir().join("config.toml"),
            data: data.to_owned(),
            credentials: data.join("credentials.json"),
            catalogue: places.cache_dir().join("models.json"),
            responses: state.join("responses.sqlite3"),
            usage: state.join("usage.sqlite3"),
            run_file: state.join("run.json"),
            connected: state.join("connected"),
        })
    }

    fn inside(home: &Path) -> Self {
        Self {
            config: home.join("config.toml"),
            data: home.to_owned(),
            credentials: home.join("credentials.json"),
            catalogue: home.join("models.json"),
            responses: home.join("responses.sqlite3"),
            usage: home.join("usage.sqlite3"),
            run_file: home.join("run.json"),
            connected: home.join("connected"),
        }
    }
}

/// Where the Codex CLI keeps its login, which can be borrowed: `$CODEX_HOME/auth.json`, else
/// `~/.codex/auth.json`.
#[must_use]
pub fn codex_login_file(environment: &Environment) -> Option<PathBuf> {
    let home = environment.path("CODEX_HOME").or_else(|| Some(BaseDirs::new()?.home_dir().join(".codex")));
    Some(home?.join("auth.json"))
}
