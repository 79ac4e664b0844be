//! What a service manager has to know: the command, and which places it needs.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::super::exit::Failure;
use crate::config::{Config, Environment, Flags, Source};
use crate::fs::create_private_directory;
use crate::server::Listen;

/// Where our files are follows from these, so that the service gets them as well.
const PLACES: [&str; 5] = ["CODEX_PROXY_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"];

/// What the daemon is told by its surroundings beside settings.
const SURROUNDINGS: [&str; 8] = [
    "CODEX_PROXY_ACCESS_TOKEN",
    "CODEX_ACCESS_TOKEN",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Beyond the time that open answers get, for what is written at the end.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The daemon, as a manager starts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    pub(super) variables: Vec<(&'static str, String)>,
    /// The directories that the daemon writes to.
    pub(super) directories: Vec<String>,
    /// Of a Unix socket, below the directory that the session has for such things.
    pub(super) runtime_directory: Option<String>,
    /// The file that is set for the log.
    pub(super) log_file: Option<String>,
    /// How long the daemon may take to stop.
    pub(super) stop_timeout: Duration,
}

impl Definition {
    pub(super) fn of(config: &Config, flags: &Flags, environment: &Environment) -> Result<Self, Failure> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| Failure::Other(format!("this program does not find itself: {error}")))?;
        let mut command = vec![text(&program)?, "serve".to_owned()];
        if flags.file.is_some() {
            command.extend(["--config".to_owned(), text(&config.paths.config)?]);
        }
        if let Some(account) = &flags.account {
            command.extend(["--account".to_owned(), account.clone()]);
        }
        let mut variables = Vec::new();
        for name in PLACES {
            if let Some(place) = environment.path(name) {
                variables.push((name, text(&std::path::absolute(&place).unwrap_or(place))?));
            }
        }
        let paths = &config.paths;
        let log_file = config.log.file.as_ref().map(|log| log.path.as_path());
        let files = [&config.auth.credentials, &paths.catalogue, &paths.responses, &paths.usage, &paths.run_file];
        let mut written: Vec<&Path> = files.into_iter().filter_map(|file| file.parent()).collect();
        written.push(&paths.data);
        written.extend(log_file.and_then(Path::parent).filter(|directory| !directory.starts_with("/dev")));
        let socket = socket_directory(&config.server.listen);
        let runtime = environment.path("XDG_RUNTIME_DIR");
        let below = |directory: &Path| Some(directory.strip_prefix(runtime.as_ref()?).ok()?.to_owned());
        let runtime_directory = socket.and_then(below).filter(|path| !path.as_os_str().is_empty());
        written.extend(socket.filter(|_| runtime_directory.is_none()));
        let mut directories = written.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
        directories.sort();
        directories.dedup();
        refuse_control_characters(command.iter().chain(variables.iter().map(|(_, value)| value)))?;
        Ok(Self {
            command,
            variables,
            directories,
            runtime_directory: runtime_directory.as_deref().map(text).transpose()?,
            log_file: log_file.map(text).transpose()?,
            stop_timeout: config.server.drain.saturating_add(LAST_WORDS),
        })
    }

    /// Makes the directories, since a manager shuts the daemon off from what is not there.
    pub(super) fn make_directories(&self) -> io::Result<()> {
        self.directories.iter().try_for_each(|directory| create_private_directory(Path::new(directory)))
    }
}

#[cfg(unix)]
fn socket_directory(listen: &Listen) -> Option<&Path> {
    match listen {
        Listen::Unix(path) => path.parent(),
        Listen::Tcp(_) => None,
    }
}

#[cfg(not(unix))]
fn socket_directory(_listen: &Listen) -> Option<&Path> {
    None
}

/// The variables that hold here and that the service will not have.
pub(super) fn unseen(config: &Config, environment: &Environment) -> Vec<String> {
    let settings = config.shown.iter().filter_map(|shown| match &shown.source {
        Source::Variable(name) => Some(name.clone()),
        Source::Flag(_) | Source::File { .. } | Source::Default => None,
    });
    let around = SURROUNDINGS.iter().filter(|name| environment.path(name).is_some());
    let is_proxied = |name: &&&str| config.net.proxy.is_none() || !name.to_ascii_uppercase().ends_with("_PROXY");
    settings.chain(around.filter(is_proxied).map(|name| (*name).to_owned())).collect()
}

/// A line break would end a line of the unit, and what follows would be a setting of its own.
fn refuse_control_characters<'t>(texts: impl Iterator<Item = &'t String>) -> Result<(), Failure> {
    let mut unsafe_texts = texts.filter(|text| text.contains(char::is_control));
    unsafe_texts.next().map_or(Ok(()), |text| {
        Err(Failure::Use(format!("{text:?} contains a control character, which can't be written to a service file")))
    })
}

fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    text.map(str::to_owned)
        .ok_or_else(|| Failure::Other(format!("{}: no service manager takes such a path", path.display())))
}
