//! `codex-proxy login`: sign in with a browser, a device code or an access token, or import the login of another
//! program.

mod browser;
mod device;
mod environment;
#[cfg(unix)]
mod terminal;

use std::io::{self, IsTerminal, Read};
use std::path::Path;

use super::arguments::LoginArguments;
use super::context::{Context, require_own_login};
use super::exit::{Exit, Failure};
use super::output::eprint;
use super::run_file::RunningDaemon;
use crate::auth::{self, AccessToken, AccessTokenError, Credential, ImportError, ImportMode, IssuerError, LoginError};
use crate::clock::rfc3339;
use crate::command_hint::command;
use crate::config::{Config, Environment, codex_login_file};
use crate::fs::read_text;
use environment::BrowserAccess;

/// Maximum length of an access token on standard input.
const TOKEN_LIMIT_BYTES: u64 = 64 * 1024;

/// Maximum size of the config file of the Codex CLI.
const CODEX_CONFIG_LIMIT_BYTES: u64 = 1024 * 1024;

const IN_KEYCHAIN: &str = "The Codex CLI stores its login in the system's keychain, which codex-proxy doesn't read. Set \
                           cli_auth_credentials_store = \"file\" in its config.toml and sign in there again, or run";

pub(super) async fn run(
    arguments: &LoginArguments,
    config: Config,
    environment: &Environment,
) -> Result<Exit, Failure> {
    require_own_login(&config)?;
    let context = Context::of(&config);
    let credential = match &arguments.import {
        Some(file) => {
            let mode = if arguments.take_over { ImportMode::TakeOver } else { ImportMode::Borrow };
            let default = || codex_login_file(environment);
            let missing = || Failure::Other("No Codex CLI login was found. Pass the file: --import FILE".to_owned());
            let file = file.clone().or_else(default).ok_or_else(missing)?;
            import(&context, &config, &file, mode).await?
        }
        None if arguments.with_access_token => adopt(&context).await?,
        None => sign_in(arguments, &context, &config, environment).await?,
    };
    eprint(&format!("Signed in{}.", describe(&credential)));
    eprint(&format!("The login is stored in {}.", context.store.location().await));
    if RunningDaemon::find(&config.paths.run_file, &context.http).await.is_none() {
        eprint(&format!("The daemon isn't running. Start it with `{}`.", command("serve")));
    }
    Ok(Exit::Done)
}

/// Signs in with the access token on standard input.
async fn adopt(context: &Context) -> Result<Credential, Failure> {
    let text = read_token().map_err(|error| Failure::Other(format!("Can't read an access token: {error}")))?;
    let token = AccessToken::parse(&text).map_err(|why| Failure::Other(format!("Standard input: {why}")))?;
    let adopted = auth::adopt(&context.store, &context.issuer, context.clock.as_ref(), &token).await;
    let credential = adopted.map_err(|error| match error {
        AccessTokenError::Store(error) => Failure::Auth(error),
        other => Failure::other(&other),
    })?;
    eprint(&match credential.expires_at {
        Some(end) => format!("This token can't be refreshed. It expires at {}.", rfc3339(end)),
        None => "This token can't be refreshed, and its expiry isn't known.".to_owned(),
    });
    Ok(credential)
}

fn read_token() -> io::Result<String> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return prompt_for_token();
    }
    let mut text = String::new();
    stdin.lock().take(TOKEN_LIMIT_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(unix)]
fn prompt_for_token() -> io::Result<String> {
    let prompt = || eprint("Paste the access token (it isn't shown), then press Enter:");
    terminal::read_line(TOKEN_LIMIT_BYTES, prompt)
}

#[cfg(not(unix))]
fn prompt_for_token() -> io::Result<String> {
    eprint("Paste the access token, then press Enter:");
    let mut text = String::new();
    io::stdin().read_line(&mut text)?;
    Ok(text)
}

/// Signs in with a browser or a device code: as the arguments say, else depending on whether a browser can be opened.
async fn sign_in(
    arguments: &LoginArguments,
    context: &Context,
    config: &Config,
    environment: &Environment,
) -> Result<Credential, Failure> {
    let access = BrowserAccess::of(environment);
    if arguments.device {
        return device::sign_in(context, environment).await.map_err(|error| failure(&error));
    }
    let is_automatic = !arguments.no_browser && arguments.port.is_none();
    if let Some(reason) = access.no_browser_reason().filter(|_| is_automatic) {
        eprint(&format!(
            "{reason}, so sign in with a code on any device. (To use a browser that can reach this machine: `{}`)",
            command("login --no-browser")
        ));
        match device::sign_in(context, environment).await {
            Err(LoginError::DeviceNotEnabled) => {
                eprint("Device codes aren't enabled. Continuing with the browser.");
            }
            outcome => return outcome.map_err(|error| failure(&error)),
        }
    }
    browser::sign_in(arguments, context, config, access).await.map_err(|error| failure(&error))
}

fn failure(error: &LoginError) -> Failure {
    match error {
        LoginError::Store(error) => Failure::Auth(error.clone()),
        LoginError::NoDeviceCode(IssuerError::Unavailable { .. })
        | LoginError::Exchange(IssuerError::Unavailable { .. }) => Failure::Unreachable(error.to_string()),
        other => Failure::other(other),
    }
}

async fn import(context: &Context, config: &Config, file: &Path, mode: ImportMode) -> Result<Credential, Failure> {
    let imported = auth::import(&context.store, &config.auth, file, mode).await;
    let imported = imported.map_err(|error| match error {
        ImportError::NoFile { .. } if is_in_keychain(file) => {
            Failure::Other(format!("{IN_KEYCHAIN} `{}`", command("login")))
        }
        ImportError::Store(error) => Failure::Auth(error),
        ImportError::NoFile { .. } | ImportError::Unsuitable { .. } => Failure::other(&error),
    })?;
    eprint(match mode {
        ImportMode::Borrow => "The login is used read-only. The program that owns it refreshes it.",
        ImportMode::TakeOver => "codex-proxy owns the login now. The other program will eventually be signed out.",
    });
    Ok(imported)
}

/// Whether the Codex CLI is configured to store its login in the keychain.
fn is_in_keychain(file: &Path) -> bool {
    let text = read_text(&file.with_file_name("config.toml"), CODEX_CONFIG_LIMIT_BYTES).unwrap_or_default();
    let settings: toml::Table = toml::from_slice(&text).unwrap_or_default();
    let store = settings.get("cli_auth_credentials_store").and_then(toml::Value::as_str);
    matches!(store, Some("keyring" | "auto"))
}

/// Returns ` as ann@example.com (plan plus)`, as far as it is known.
fn describe(credential: &Credential) -> String {
    let email = credential.email.as_ref().map(|email| format!(" as {}", email.expose())).unwrap_or_default();
    let plan = credential.plan.as_deref().map(|plan| format!(" (plan {plan})")).unwrap_or_default();
    format!("{email}{plan}")
}
