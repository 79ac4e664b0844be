//! The settings: flags over environment over file over defaults.
//!
//! [`load`] gives a [`Config`], the product of the settings that each concern defines for itself,
//! or every fault at once, each with its source. It never prints, never writes, and never repeats a
//! secret. The keys stand in one table (`layer`); what they mean together is decided in `resolve`.

mod keys;
mod layer;
mod list;
mod listen;
mod nearest;
mod paths;
mod reload;
mod resolve;
mod routes;
mod source;
mod text;
mod value;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;

use layer::{Layer, Raw};

pub use layer::Shown;
pub use paths::{Paths, codex_login_file};
pub use reload::unapplied;
pub use source::{Environment, Fault, Faults, SECRET_VARIABLES, Source};
pub use value::{Format, Level};

use crate::endpoint::Endpoint;
use crate::protocol::{chat, models, responses};
use crate::secret::Secret;
use crate::{auth, history, net, server, upstream};

/// What the command line says about settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: the file to read instead of the usual one; it has to exist.
    pub file: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--host`: replaces the host of what would be listened on.
    pub host: Option<String>,
    /// `--port`: replaces the port.
    pub port: Option<u16>,
    /// `--account`.
    pub account: Option<String>,
    /// `-v`, `-vv` or `-q`, and the level it stands for.
    pub level: Option<(&'static str, Level)>,
}

/// Everything that can be set, for everyone who needs some of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Connections to the outside.
    pub net: net::Settings,
    /// The backend.
    pub upstream: upstream::Settings,
    /// Signing in.
    pub auth: auth::Settings,
    /// The daemon.
    pub server: server::Settings,
    /// Who is let in.
    pub access: server::AccessSettings,
    /// Names of the client keys that are too short where other machines reach the daemon.
    pub short_keys: Vec<String>,
    /// The Chat dialect.
    pub chat: chat::Options,
    /// The Responses dialect.
    pub responses: responses::Options,
    /// What is remembered between requests.
    pub history: history::Settings,
    /// Model names.
    pub rules: models::Rules,
    /// The log.
    pub log: Log,
    /// Where traces are sent to (`telemetry.otlp_endpoint`).
    pub telemetry: Option<Endpoint>,
    /// Our files.
    pub paths: Paths,
    /// `PATH`, in which an installed Codex CLI is looked for.
    pub search_path: Option<OsString>,
    /// What deserves attention without being a fault.
    pub warnings: Vec<String>,
    /// Every key with its value and source.
    pub shown: Vec<Shown>,
}

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How much of it.
    pub level: Level,
    /// In which form.
    pub format: Format,
    /// The file that the daemon keeps it in, instead of standard error.
    pub file: Option<LogFile>,
}

/// A log file, and what becomes of it when it gets long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The file that is written to.
    pub path: PathBuf,
    /// How long it gets before the next one is begun.
    pub size_bytes: u64,
    /// How many there are at most, with the one that is written to.
    pub count: u32,
}

/// The file that is read: `--config`, else the usual one.
///
/// # Errors
/// When there is no place for our files.
pub fn file(flags: &Flags, environment: &Environment) -> Result<PathBuf, Faults> {
    match &flags.file {
        Some(file) => Ok(std::path::absolute(file).unwrap_or_else(|_| file.clone())),
        None => Paths::locate(environment).map(|paths| paths.config).map_err(|fault| Faults(vec![fault])),
    }
}

/// Reads the settings from everywhere.
///
/// # Errors
/// With everything that is wrong, each with its source.
pub fn load(flags: &Flags, environment: &Environment) -> Result<Config, Faults> {
    let mut paths = Paths::locate(environment).map_err(|fault| Faults(vec![fault]))?;
    paths.config = file(flags, environment)?;
    let mut faults = Faults::default();
    let from_file = read_file(flags, &paths.config, &mut faults);
    let from_environment = source::read_environment(environment, &mut faults);
    let from_flags = read_flags(flags, &mut faults);
    let layer = narrow(from_flags.over(from_environment).over(from_file), flags, &mut faults);
    let config = resolve::resolve(layer.resolve(), paths, environment, &mut faults);
    match config {
        Some(config) if faults.0.is_empty() => Ok(config),
        _ => Err(faults),
    }
}

/// A client key in its own words: the one with that name, else the first that is no admin key, else the first.
/// `None` where none is set, or only hashes are known.
#[must_use]
pub fn client_key(config: &Config, environment: &Environment, name: &str) -> Option<Secret> {
    let source = &config.shown.iter().find(|shown| shown.key == "keys")?.source;
    let mut keys = match source {
        Source::Variable(variable) => keys::plain(Raw::Text(environment.get(variable)?.to_str()?)),
        Source::File { path, .. } => {
            let text = std::fs::read_to_string(path).ok()?;
            let table = toml::de::DeTable::parse(&text).ok()?;
            keys::plain(Raw::Toml(table.get_ref().get("keys")?.get_ref()))
        }
        Source::Flag(_) | Source::Default => return None,
    };
    let is_admin = |name: &str| config.access.keys.iter().any(|key| key.name == name && key.is_admin);
    let named = keys.iter().position(|(key, _)| key == name);
    let usual = || keys.iter().position(|(key, _)| !is_admin(key));
    let index = named.or_else(usual).unwrap_or(0);
    (index < keys.len()).then(|| keys.swap_remove(index).1)
}

fn read_file(flags: &Flags, path: &std::path::Path, faults: &mut Faults) -> Layer {
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => return source::read_file(path, &text, faults),
        Ok(Err(_)) => faults.0.push(unreadable(path, "the file is not UTF-8")),
        Err(error) if error.kind() == ErrorKind::NotFound && flags.file.is_none() => {}
        Err(error) => faults.0.push(unreadable(path, &format!("the file can't be read: {error}"))),
    }
    Layer::default()
}

fn unreadable(path: &std::path::Path, message: &str) -> Fault {
    Fault { source: Source::File { path: path.to_owned(), line: 0 }, key: None, message: message.to_owned() }
}

fn read_flags(flags: &Flags, faults: &mut Faults) -> Layer {
    let mut layer = Layer::default();
    if let Some(text) = &flags.listen
        && let Err(complaint) = layer.set("listen", Raw::Text(text), Source::Flag("--listen"))
    {
        faults.add(Source::Flag("--listen"), "listen", complaint);
    }
    layer.account = flags
        .account
        .clone()
        .map(|id| layer::Entry { value: text::Optional(Some(id)), source: Source::Flag("--account") });
    layer.log_level = flags.level.map(|(flag, value)| layer::Entry { value, source: Source::Flag(flag) });
    layer
}

/// Applies `--host` and `--port` to what would be listened on.
fn narrow(mut layer: Layer, flags: &Flags, faults: &mut Faults) -> Layer {
    if flags.host.is_none() && flags.port.is_none() {
        return layer;
    }
    let mut listen = layer.clone().resolve().listen;
    if let Some(port) = flags.port {
        listen = layer::Entry { value: listen.value.with_port(port), source: Source::Flag("--port") };
    }
    match flags.host.as_deref().map(listen::ListenHost::parse) {
        Some(Ok(host)) => {
            listen = layer::Entry { value: listen.value.with_host(host), source: Source::Flag("--host") };
        }
        Some(Err(complaint)) => faults.add(Source::Flag("--host"), "listen", complaint),
        None => {}
    }
    layer.listen = Some(listen);
    layer
}

#[cfg(test)]
mod tests;
