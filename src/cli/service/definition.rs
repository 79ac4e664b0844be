//! Determines the contents of a service file from the settings: the command line, environment variables and directories
//! of the daemon.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::super::exit::Failure;
use crate::config::{Config, Environment, Flags, ValueSource};
use crate::fs::create_private_directory;
use crate::server::Listen;

/// Variables that determine the program's directories; the service gets them too.
const DIRECTORY_VARIABLES: [&str; 5] =
    ["CODEX_PROXY_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"];

/// Other variables that affect the daemon; the service doesn't get them.
const OTHER_VARIABLES: [&str; 8] = [
    "CODEX_PROXY_ACCESS_TOKEN",
    "CODEX_ACCESS_TOKEN",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Time for writing state, in addition to the time that open responses get.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// The daemon, as a service manager starts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    pub(super) variables: Vec<(&'static str, String)>,
    /// The directories that the daemon writes to.
    pub(super) directories: Vec<String>,
    /// Directory of the Unix socket, relative to `XDG_RUNTIME_DIR`.
    pub(super) runtime_directory: Option<String>,
    /// The configured log file.
    pub(super) log_file: Option<String>,
    /// How long the daemon may take to stop.
    pub(super) stop_timeout: Duration,
}

impl Definition {
    pub(super) fn of(config: &Config, flags: &Flags, environment: &Environment) -> Result<Self, Failure> {
        let program = std::env::current_exe();
        let program =
            program.map_err(|error| Failure::Other(format!("Can't determine the path of this program: {error}")))?;
        let mut command = vec![text(&program)?, "serve".to_owned()];
        if flags.file.is_some() {
            command.extend(["--config".to_owned(), text(&config.paths.config)?]);
        }
        if let Some(account) = &flags.account {
            command.extend(["--account".to_owned(), account.clone()]);
        }
        let mut variables = Vec::new();
        for name in DIRECTORY_VARIABLES {
            if let Some(directory) = environment.path(name) {
                variables.push((name, text(&std::path::absolute(&directory).unwrap_or(directory))?));
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
            stop_timeout: config.server.drain.saturating_add(SHUTDOWN_TIME),
        })
    }

    /// Creates the directories. The sandbox can't give access to directories that don't exist.
    pub(super) fn create_directories(&self) -> io::Result<()> {
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

/// Returns variables that are set here and that the service doesn't get.
pub(super) fn ignored_variables(config: &Config, environment: &Environment) -> Vec<String> {
    let settings = config.effective.iter().filter_map(|shown| match &shown.source {
        ValueSource::Variable(name) => Some(name.clone()),
        ValueSource::Flag(_) | ValueSource::File { .. } | ValueSource::Default => None,
    });
    let others = OTHER_VARIABLES.iter().filter(|name| environment.path(name).is_some());
    let is_relevant = |name: &&&str| config.net.proxy.is_none() || !name.to_ascii_uppercase().ends_with("_PROXY");
    settings.chain(others.filter(is_relevant).map(|name| (*name).to_owned())).collect()
}

/// Refuses texts with control characters: after a line break, the rest would be another directive of the unit.
fn refuse_control_characters<'t>(texts: impl Iterator<Item = &'t String>) -> Result<(), Failure> {
    let mut unsafe_texts = texts.filter(|text| text.contains(char::is_control));
    unsafe_texts.next().map_or(Ok(()), |text| {
        Err(Failure::Usage(format!("{text:?} contains a control character, which a service file can't contain.")))
    })
}

fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    text.map(str::to_owned)
        .ok_or_else(|| Failure::Other(format!("Service managers don't support the path {}.", path.display())))
}
