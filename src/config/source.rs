//! Reads settings from the environment and the config file.
//!
//! This is the only module that reads the environment of the process. Each source gives [`PartialValues`] and adds to
//! the list of errors; parsing continues after an error. Syntax errors don't quote the file, which may contain keys.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::schema::{KEYS, PartialValues, Unparsed};
use super::suggestion::{nearest, suggestion};
use crate::proxy;

/// Environment variables that contain a client key or a token. They are not passed on to child processes.
pub const SECRET_VARIABLES: [&str; 5] =
    ["CODEX_PROXY_API_KEYS", "CODEX_PROXY_KEYS", "CODEX_PROXY_KEY", "CODEX_PROXY_ACCESS_TOKEN", "CODEX_ACCESS_TOKEN"];

/// A copy of a process's environment variables. `Debug` shows none of them.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueSource {
    /// A command-line flag.
    Flag(&'static str),
    /// An environment variable.
    Variable(String),
    /// A line of the config file.
    File {
        /// The file.
        path: PathBuf,
        /// The line number, starting at 1; 0 means the whole file.
        line: usize,
    },
    /// The default.
    Default,
}

/// An error in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the invalid value comes from.
    pub source: ValueSource,
    /// The setting, if the error concerns one.
    pub key: Option<String>,
    /// The error and how to fix it, without secrets.
    pub message: String,
}

/// All errors in the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl Environment {
    /// Reads the environment of this process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the only place where the environment is read")]
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// Returns the value of a variable, if set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Returns the value of a variable as a path, if set and not empty.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|name| name.to_str())
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let name = |name: N| {
            let name = name.into();
            // Names are case-insensitive on Windows.
            if cfg!(windows) { name.to_ascii_uppercase() } else { name }
        };
        Self(pairs.into_iter().map(|(key, value)| (name(key), value.into())).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(..)")
    }
}

impl ValueSource {
    /// The line in the config file; 0 for the whole file and for other sources.
    fn line(&self) -> usize {
        match self {
            Self::File { line, .. } => *line,
            Self::Flag(_) | Self::Variable(_) | Self::Default => 0,
        }
    }
}

impl fmt::Display for ValueSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => f.write_str(name),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.source, self.message),
            None => write!(f, "{}: {}", self.source, self.message),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

impl ConfigErrors {
    /// Adds an error about one setting.
    pub(super) fn add(&mut self, source: ValueSource, key: &str, message: impl Into<String>) {
        self.0.push(ConfigError { source, key: Some(key.to_owned()), message: message.into() });
    }

    /// Returns whether a setting already has an error.
    pub(super) fn has_error(&self, key: &str) -> bool {
        self.0.iter().any(|error| error.key.as_deref() == Some(key))
    }

    /// Adds an error about no particular setting.
    fn add_general(&mut self, source: ValueSource, message: impl Into<String>) {
        self.0.push(ConfigError { source, key: None, message: message.into() });
    }
}

/// The prefix of this program's environment variables.
const OWN_PREFIX: &str = "CODEX_PROXY_";

/// Returns the environment variable that is named after a setting.
pub(super) fn variable(path: &str) -> String {
    format!("{OWN_PREFIX}{}", path.replace('.', "_").to_ascii_uppercase())
}

/// Reads the settings from environment variables.
pub(super) fn read_environment(environment: &Environment, errors: &mut ConfigErrors) -> PartialValues {
    let mut values = PartialValues::default();
    for key in KEYS {
        let variable = variable(key.path);
        let found = environment.get(&variable).map(|value| (variable.as_str(), value)).or_else(|| {
            // Another program's variable counts as unset if it is empty.
            let others = key.variables.iter().filter_map(|name| Some((*name, environment.get(name)?)));
            others.into_iter().find(|(name, value)| name.starts_with(OWN_PREFIX) || !value.is_empty())
        });
        let Some((name, value)) = found else { continue };
        let source = ValueSource::Variable(name.to_owned());
        let set = match value.to_str() {
            Some(text) => values.set(key.path, Unparsed::Text(text), source.clone()),
            None => Err("the value isn't valid UTF-8".to_owned()),
        };
        if let Err(message) = set {
            errors.add(source, key.path, message);
        }
    }
    if environment.get(&variable("auth.credentials")).is_none() {
        read_token_file(environment, &mut values, errors);
    }
    values
}

/// Reads the path of the credential file (`auth.credentials`) from two variables of another program.
fn read_token_file(environment: &Environment, values: &mut PartialValues, errors: &mut ConfigErrors) {
    let Some(directory) = environment.path("CHATGPT_TOKEN_DIR") else { return };
    let file = directory.join(environment.path("CHATGPT_AUTH_FILE").unwrap_or_else(|| "auth.json".into()));
    let source = ValueSource::Variable("CHATGPT_TOKEN_DIR".to_owned());
    let set = match file.to_str() {
        Some(text) => values.set("auth.credentials", Unparsed::Text(text), source.clone()),
        None => Err("the value isn't valid UTF-8".to_owned()),
    };
    if let Err(message) = set {
        errors.add(source, "auth.credentials", message);
    }
}

/// Returns a warning for each unknown variable whose name resembles that of a setting.
pub(super) fn mistyped_variables(environment: &Environment) -> Vec<String> {
    let mut known: Vec<String> = KEYS.iter().map(|key| variable(key.path)).collect();
    known.extend(["CODEX_PROXY_HOME", "CODEX_PROXY_API_KEYS", "CODEX_PROXY_ACCESS_TOKEN"].map(str::to_owned));
    let unknown = environment.names().filter(|name| name.starts_with(OWN_PREFIX) && !known.iter().any(|k| k == name));
    let warning = |name: &str| {
        let near = nearest(name, known.iter().map(String::as_str))?;
        Some(format!("environment variable {name} is unknown and ignored; did you mean {near}?"))
    };
    unknown.filter_map(warning).collect()
}

/// Returns a warning for each proxy variable that doesn't contain a proxy address. It omits the value, which may
/// contain a password.
pub(super) fn malformed_proxies(environment: &Environment) -> Vec<String> {
    let is_wrong = |name: &&str| {
        let value = environment.get(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default();
        !value.is_empty() && proxy::host_and_port(&value).is_none()
    };
    let warning = |name| format!("environment variable {name} must be a proxy address such as http://127.0.0.1:3128");
    proxy::VARIABLES.into_iter().filter(is_wrong).map(warning).collect()
}

/// Reads the settings from the text of a config file.
pub(super) fn read_file(path: &Path, text: &str, errors: &mut ConfigErrors) -> PartialValues {
    let line = |position: usize| 1 + text.bytes().take(position).filter(|byte| *byte == b'\n').count();
    let source = |position: usize| ValueSource::File { path: path.to_owned(), line: line(position) };
    let (table, syntax_errors) = DeTable::parse_recoverable(text);
    let earlier = errors.0.len();
    let mut values = PartialValues::default();
    if syntax_errors.is_empty() {
        read_table(&mut FileReader { values: &mut values, errors, source: &source }, "", table.get_ref());
    }
    for error in syntax_errors {
        errors.add_general(source(error.span().map_or(0, |span| span.start)), error.message());
    }
    // `DeTable` iterates in alphabetical order.
    errors.0[earlier..].sort_by_key(|error| error.source.line());
    values
}

/// The state of reading a table of the file.
struct FileReader<'f> {
    values: &'f mut PartialValues,
    errors: &'f mut ConfigErrors,
    /// Converts a position in the text to a line.
    source: &'f dyn Fn(usize) -> ValueSource,
}

/// Reads a table whose settings have this prefix, and the tables in it.
fn read_table(reader: &mut FileReader<'_>, prefix: &str, table: &DeTable<'_>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        let source = (reader.source)(name.span().start);
        if KEYS.iter().any(|key| key.path == path) {
            if let Err(message) = reader.values.set(&path, Unparsed::Toml(value.get_ref()), source.clone()) {
                reader.errors.add(source, &path, message);
            }
            continue;
        }
        match value.get_ref() {
            DeValue::Table(section) if !section.is_empty() || is_section(&path) => read_table(reader, &path, section),
            _ if is_section(&path) => reader.errors.add(source, &path, format!("{path} is a section; write [{path}]")),
            _ => {
                let hint = suggestion(&path, KEYS.iter().map(|key| key.path));
                reader.errors.add(source, &path, format!("unknown key{hint}"));
            }
        }
    }
}

/// Whether names of settings start with this path and a dot.
fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}
