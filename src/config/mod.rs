//! Settings, merged from flags, environment, config file and defaults, in that order of precedence.
//!
//! [`load`] returns a [`Config`], which combines the settings types of all modules, or all errors at once, each
//! with its source. It prints and writes nothing, and error messages never contain secrets. `schema` has the table of
//! settings, `source` reads the environment and the file, and `resolve` checks and converts the merged values.

mod client_keys;
mod list;
mod listen;
mod paths;
mod reload;
mod resolve;
mod routes;
mod schema;
mod source;
mod suggestion;
mod text;
mod value;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;

use schema::{PartialValues, Sourced, Unparsed};

pub use paths::{Paths, codex_login_file};
pub use reload::needing_restart;
pub use schema::EffectiveSetting;
pub use source::{ConfigError, ConfigErrors, Environment, SECRET_VARIABLES, ValueSource};
pub use value::{LogFormat, LogLevel};

use crate::endpoint::Endpoint;
use crate::protocol::{chat, models, responses};
use crate::secret::Secret;
use crate::token_source::CredentialSource;
use crate::{auth, history, net, server, upstream};

/// The command-line flags that override settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: the file to read instead of the default one. It must exist.
    pub file: Option<PathBuf>,
    /// `--listen`: the address to listen on, as in the config file.
    pub listen: Option<String>,
    /// `--host`: replaces the host of the address to listen on.
    pub host: Option<String>,
    /// `--port`: replaces the port of the address to listen on.
    pub port: Option<u16>,
    /// `--account`: the id of the account to use.
    pub account: Option<String>,
    /// The log level, with the flag that sets it: `-v`, `-vv` or `-q`.
    pub level: Option<(&'static str, LogLevel)>,
}

/// All settings, grouped by the module that uses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How to open outgoing connections.
    pub net: net::Settings,
    /// The backend.
    pub upstream: upstream::Settings,
    /// Whose login requests are sent with (`upstream.credentials`).
    pub credentials: CredentialSource,
    /// Sign-in and tokens.
    pub auth: auth::Settings,
    /// Address, limits and timeouts of the daemon.
    pub server: server::Settings,
    /// Which clients may connect.
    pub access: server::AccessSettings,
    /// Names of the client keys that are too short to accept requests from other machines.
    pub short_keys: Vec<String>,
    /// Options of the Chat Completions API.
    pub chat: chat::Options,
    /// Options of the Responses API.
    pub responses: responses::Options,
    /// Data that is stored between requests.
    pub history: history::Settings,
    /// Aliases and routes of model names.
    pub rules: models::Rules,
    /// The log.
    pub log: LogSettings,
    /// The collector that traces are sent to (`telemetry.otlp_endpoint`). `None`: none are sent.
    pub telemetry: Option<Endpoint>,
    /// The files of this program.
    pub paths: Paths,
    /// Value of the variable `PATH`, to find an installed Codex CLI.
    pub search_path: Option<OsString>,
    /// Warnings to print at startup.
    pub warnings: Vec<String>,
    /// All settings with their values and sources.
    pub effective: Vec<EffectiveSetting>,
}

/// Settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The minimum severity of records.
    pub level: LogLevel,
    /// The format of records.
    pub format: LogFormat,
    /// The daemon's log file; `None`: standard error.
    pub file: Option<LogFile>,
}

/// A log file and its rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The current file.
    pub path: PathBuf,
    /// The size at which the file is rotated.
    pub size_bytes: u64,
    /// The maximum number of files, including the current one.
    pub count: u32,
}

/// Returns the absolute path of the config file: that of `--config`, or the default one. It doesn't have to exist.
///
/// # Errors
/// If the default path can't be determined.
pub fn file(flags: &Flags, environment: &Environment) -> Result<PathBuf, ConfigErrors> {
    match &flags.file {
        Some(file) => Ok(std::path::absolute(file).unwrap_or_else(|_| file.clone())),
        None => Paths::locate(environment).map(|paths| paths.config).map_err(|error| ConfigErrors(vec![error])),
    }
}

/// Loads the settings from all sources.
///
/// # Errors
/// All invalid settings, each with its source.
pub fn load(flags: &Flags, environment: &Environment) -> Result<Config, ConfigErrors> {
    let mut paths = Paths::locate(environment).map_err(|error| ConfigErrors(vec![error]))?;
    paths.config = file(flags, environment)?;
    let mut errors = ConfigErrors::default();
    let file_values = read_file(flags, &paths.config, &mut errors);
    let environment_values = source::read_environment(environment, &mut errors);
    let flag_values = read_flags(flags, &mut errors);
    let values = override_listen(flag_values.over(environment_values).over(file_values), flags, &mut errors);
    let config = resolve::resolve(values.resolve(), paths, environment, &mut errors);
    match config {
        Some(config) if errors.0.is_empty() => Ok(config),
        _ => Err(errors),
    }
}

/// Returns a client key as plain text, of those that the settings don't give as a hash: the one called `name`, else the
/// first that isn't an admin key, else the first. `None` if there is none. Reads the config file again.
#[must_use]
pub fn client_key(config: &Config, environment: &Environment, name: &str) -> Option<Secret> {
    let source = &config.effective.iter().find(|shown| shown.key == "keys")?.source;
    let mut keys = match source {
        ValueSource::Variable(variable) => {
            client_keys::plain_keys(Unparsed::Text(environment.get(variable)?.to_str()?))
        }
        ValueSource::File { path, .. } => {
            let text = std::fs::read_to_string(path).ok()?;
            let table = toml::de::DeTable::parse(&text).ok()?;
            client_keys::plain_keys(Unparsed::Toml(table.get_ref().get("keys")?.get_ref()))
        }
        ValueSource::Flag(_) | ValueSource::Default => return None,
    };
    let is_admin = |name: &str| config.access.keys.iter().any(|key| key.name == name && key.is_admin);
    let named = keys.iter().position(|(key, _)| key == name);
    let default = || keys.iter().position(|(key, _)| !is_admin(key));
    let index = named.or_else(default).unwrap_or(0);
    (index < keys.len()).then(|| keys.swap_remove(index).1)
}

/// Reads the config file. If it doesn't exist, that is an error only with `--config`.
fn read_file(flags: &Flags, path: &std::path::Path, errors: &mut ConfigErrors) -> PartialValues {
    match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => return source::read_file(path, &text, errors),
        Ok(Err(_)) => errors.0.push(unreadable(path, "the file is not UTF-8")),
        Err(error) if error.kind() == ErrorKind::NotFound && flags.file.is_none() => {}
        Err(error) => errors.0.push(unreadable(path, &format!("the file can't be read: {error}"))),
    }
    PartialValues::default()
}

fn unreadable(path: &std::path::Path, message: &str) -> ConfigError {
    ConfigError { source: ValueSource::File { path: path.to_owned(), line: 0 }, key: None, message: message.to_owned() }
}

fn read_flags(flags: &Flags, errors: &mut ConfigErrors) -> PartialValues {
    let mut values = PartialValues::default();
    if let Some(text) = &flags.listen
        && let Err(message) = values.set("listen", Unparsed::Text(text), ValueSource::Flag("--listen"))
    {
        errors.add(ValueSource::Flag("--listen"), "listen", message);
    }
    values.account = flags
        .account
        .clone()
        .map(|id| Sourced { value: text::OptionalText(Some(id)), source: ValueSource::Flag("--account") });
    values.log_level = flags.level.map(|(flag, value)| Sourced { value, source: ValueSource::Flag(flag) });
    values
}

/// Applies `--host` and `--port` to the address to listen on.
fn override_listen(mut values: PartialValues, flags: &Flags, errors: &mut ConfigErrors) -> PartialValues {
    if flags.host.is_none() && flags.port.is_none() {
        return values;
    }
    let mut listen = values.clone().resolve().listen;
    if let Some(port) = flags.port {
        listen = Sourced { value: listen.value.with_port(port), source: ValueSource::Flag("--port") };
    }
    match flags.host.as_deref().map(listen::ListenHost::parse) {
        Some(Ok(host)) => {
            listen = Sourced { value: listen.value.with_host(host), source: ValueSource::Flag("--host") };
        }
        Some(Err(message)) => errors.add(ValueSource::Flag("--host"), "listen", message),
        None => {}
    }
    values.listen = Some(listen);
    values
}

#[cfg(test)]
mod tests;
