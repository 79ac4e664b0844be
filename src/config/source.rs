//! Where settings come from: the environment and the file.
//!
//! The one place that reads the process's environment, once, into an [`Environment`] that everything
//! else is given. A source turns into a [`Layer`] and a list of faults; it never stops at the first
//! fault, and never repeats a line of the file, which may hold a key.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::layer::{KEYS, Layer, Raw};
use super::nearest::{nearest, suggestion};
use crate::proxy;

/// Variables that hold a client key or a token. No child process gets them.
pub const SECRET_VARIABLES: [&str; 5] =
    ["CODEX_PROXY_API_KEYS", "CODEX_PROXY_KEYS", "CODEX_PROXY_KEY", "CODEX_PROXY_ACCESS_TOKEN", "CODEX_ACCESS_TOKEN"];

/// The variables of a process, as a value.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Variable(String),
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 where the whole file is meant.
        line: usize,
    },
    /// Nowhere: the default.
    Default,
}

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands.
    pub source: Source,
    /// The key, where one is at fault.
    pub key: Option<String>,
    /// What is wrong and what to do, without secrets.
    pub message: String,
}

/// Everything that is wrong with the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl Environment {
    /// The variables of this process.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The value of a variable, unless it is not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// A path in a variable, unless it is not set or empty.
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
            // Windows compares names without regard to case.
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

impl Source {
    /// The line of the file; 0 where there is none.
    fn line(&self) -> usize {
        match self {
            Self::File { line, .. } => *line,
            Self::Flag(_) | Self::Variable(_) | Self::Default => 0,
        }
    }
}

impl fmt::Display for Source {
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.source, self.message),
            None => write!(f, "{}: {}", self.source, self.message),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Faults {}

impl Faults {
    /// Adds a fault of a key.
    pub(super) fn add(&mut self, source: Source, key: &str, message: impl Into<String>) {
        self.0.push(Fault { source, key: Some(key.to_owned()), message: message.into() });
    }

    /// Whether a key has a fault already, so that what follows from it is not told as another.
    pub(super) fn concern(&self, key: &str) -> bool {
        self.0.iter().any(|fault| fault.key.as_deref() == Some(key))
    }

    fn add_plain(&mut self, source: Source, message: impl Into<String>) {
        self.0.push(Fault { source, key: None, message: message.into() });
    }
}

/// What our own variables begin with.
const OWN_PREFIX: &str = "CODEX_PROXY_";

/// The variable of our own for a key.
pub(super) fn variable(path: &str) -> String {
    format!("{OWN_PREFIX}{}", path.replace('.', "_").to_ascii_uppercase())
}

/// What the environment says.
pub(super) fn read_environment(environment: &Environment, faults: &mut Faults) -> Layer {
    let mut layer = Layer::default();
    for key in KEYS {
        let own = variable(key.path);
        let found = environment.get(&own).map(|value| (own.as_str(), value)).or_else(|| {
            // An empty variable of another program says nothing; an empty one of ours is a value.
            let others = key.variables.iter().filter_map(|name| Some((*name, environment.get(name)?)));
            others.into_iter().find(|(name, value)| name.starts_with(OWN_PREFIX) || !value.is_empty())
        });
        let Some((name, value)) = found else { continue };
        let source = Source::Variable(name.to_owned());
        let set = match value.to_str() {
            Some(text) => layer.set(key.path, Raw::Text(text), source.clone()),
            None => Err("the value is not UTF-8".to_owned()),
        };
        if let Err(complaint) = set {
            faults.add(source, key.path, complaint);
        }
    }
    if environment.get(&variable("auth.credentials")).is_none() {
        read_token_file(environment, &mut layer, faults);
    }
    layer
}

/// `CHATGPT_TOKEN_DIR` and `CHATGPT_AUTH_FILE` together name one file.
fn read_token_file(environment: &Environment, layer: &mut Layer, faults: &mut Faults) {
    let Some(directory) = environment.path("CHATGPT_TOKEN_DIR") else { return };
    let file = directory.join(environment.path("CHATGPT_AUTH_FILE").unwrap_or_else(|| "auth.json".into()));
    let source = Source::Variable("CHATGPT_TOKEN_DIR".to_owned());
    let set = match file.to_str() {
        Some(text) => layer.set("auth.credentials", Raw::Text(text), source.clone()),
        None => Err("the value is not UTF-8".to_owned()),
    };
    if let Err(complaint) = set {
        faults.add(source, "auth.credentials", complaint);
    }
}

/// A remark on each variable that looks like a mistyped one of ours.
pub(super) fn mistyped_variables(environment: &Environment) -> Vec<String> {
    let mut known: Vec<String> = KEYS.iter().map(|key| variable(key.path)).collect();
    known.extend(["CODEX_PROXY_HOME", "CODEX_PROXY_API_KEYS", "CODEX_PROXY_ACCESS_TOKEN"].map(str::to_owned));
    let unknown = environment.names().filter(|name| name.starts_with(OWN_PREFIX) && !known.iter().any(|k| k == name));
    let remark = |name: &str| {
        let near = nearest(name, known.iter().map(String::as_str))?;
        Some(format!("environment variable {name} is not known and was ignored; did you mean {near}?"))
    };
    unknown.filter_map(remark).collect()
}

/// A remark on each variable that should name a proxy and does not. The value may hold a password, so it is
/// not repeated.
pub(super) fn malformed_proxies(environment: &Environment) -> Vec<String> {
    let is_wrong = |name: &&str| {
        let value = environment.get(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default();
        !value.is_empty() && proxy::host_and_port(&value).is_none()
    };
    let remark = |name| format!("environment variable {name} is not a proxy address such as http://127.0.0.1:3128");
    proxy::VARIABLES.into_iter().filter(is_wrong).map(remark).collect()
}

/// What the text of a file says.
pub(super) fn read_file(path: &Path, text: &str, faults: &mut Faults) -> Layer {
    let line = |position: usize| 1 + text.bytes().take(position).filter(|byte| *byte == b'\n').count();
    let source = |position: usize| Source::File { path: path.to_owned(), line: line(position) };
    let (table, errors) = DeTable::parse_recoverable(text);
    let earlier = faults.0.len();
    let mut layer = Layer::default();
    if errors.is_empty() {
        walk(&mut FileReader { layer: &mut layer, faults, source: &source }, "", table.get_ref());
    }
    for error in errors {
        faults.add_plain(source(error.span().map_or(0, |span| span.start)), error.message());
    }
    // A table tells its keys in the order of the alphabet.
    faults.0[earlier..].sort_by_key(|fault| fault.source.line());
    layer
}

struct FileReader<'f> {
    layer: &'f mut Layer,
    faults: &'f mut Faults,
    source: &'f dyn Fn(usize) -> Source,
}

fn walk(reader: &mut FileReader<'_>, above: &str, table: &DeTable<'_>) {
    for (name, value) in table {
        let path = if above.is_empty() { name.get_ref().to_string() } else { format!("{above}.{}", name.get_ref()) };
        let source = (reader.source)(name.span().start);
        if KEYS.iter().any(|key| key.path == path) {
            if let Err(complaint) = reader.layer.set(&path, Raw::Toml(value.get_ref()), source.clone()) {
                reader.faults.add(source, &path, complaint);
            }
            continue;
        }
        match value.get_ref() {
            DeValue::Table(below) if !below.is_empty() || is_section(&path) => walk(reader, &path, below),
            _ if is_section(&path) => reader.faults.add(source, &path, format!("this is a section: write [{path}]")),
            _ => {
                let hint = suggestion(&path, KEYS.iter().map(|key| key.path));
                reader.faults.add(source, &path, format!("unknown key{hint}"));
            }
        }
    }
}

fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}
