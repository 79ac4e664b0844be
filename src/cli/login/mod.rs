//! `codex-proxy login`: sign in with the browser, a device code or an access token, or use the login
//! of another program.

mod browser;
mod device;
mod environment;
#[cfg(unix)]
mod terminal;

use std::io::{self, IsTerminal, Read};
use std::path::Path;

use super::arguments::LoginArguments;
use super::context::{Context, timestamp};
use super::exit::{Exit, Failure};
use super::output::eprint;
use super::run_file::Running;
use crate::auth::{self, AccessToken, AccessTokenError, AuthorityError, Credential, ImportError, LoginError, Rights};
use crate::command_hint::command;
use crate::config::{Config, Environment, codex_login_file};
use crate::fs::read_text;
use environment::BrowserAccess;

/// No token is as long as that.
const LONGEST_TOKEN_BYTES: u64 = 64 * 1024;

/// More than the settings of the Codex CLI take.
const LONGEST_SETTINGS_BYTES: u64 = 1024 * 1024;

const IN_KEYCHAIN: &str = "the Codex CLI keeps its login in the system's keychain, which is not looked into; set \
                           cli_auth_credentials_store = \"file\" there and sign in again, or run";

pub(super) async fn run(
    arguments: &LoginArguments,
    config: Config,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let context = Context::of(&config);
    let credential = match &arguments.import {
        Some(file) => {
            let rights = if arguments.take_over { Rights::TakeOver } else { Rights::Borrow };
            let usual = || codex_login_file(environment);
            let file =
                file.clone().or_else(usual).ok_or_else(|| Failure::Other("name the file to import".to_owned()))?;
            import(&context, &config, &file, rights).await?
        }
        None if arguments.with_access_token => adopt(&context).await?,
        None => sign_in(arguments, &context, &config, environment).await?,
    };
    eprint(&format!("signed in{}", described(&credential)));
    eprint(&format!("stored in {}", context.store.location().await));
    if Running::find(&config.paths.run_file, &context.http).await.is_none() {
        eprint(&format!("no daemon runs yet; to start it: `{}`", command("serve")));
    }
    Ok(Exit::Done)
}

/// With the access token on standard input.
async fn adopt(context: &Context) -> Result<Credential, Failure> {
    let text = read_token().map_err(|error| Failure::Other(format!("no access token was read: {error}")))?;
    let token = AccessToken::parse(&text).map_err(|why| Failure::Other(format!("standard input: {why}")))?;
    let adopted = auth::adopt(&context.store, &context.authority, context.clock.as_ref(), &token).await;
    let credential = adopted.map_err(|error| match error {
        AccessTokenError::Store(error) => Failure::Auth(error),
        other => Failure::other(&other),
    })?;
    eprint(&match credential.expires_at {
        Some(end) => format!("this token can't be renewed: it ends at {}", timestamp(end)),
        None => "this token can't be renewed, and does not say when it ends".to_owned(),
    });
    Ok(credential)
}

fn read_token() -> io::Result<String> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return type_token();
    }
    let mut text = String::new();
    stdin.lock().take(LONGEST_TOKEN_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(unix)]
fn type_token() -> io::Result<String> {
    let prompt = || eprint("paste the access token (it is not shown), and press Enter:");
    terminal::read_line(LONGEST_TOKEN_BYTES, prompt)
}

#[cfg(not(unix))]
fn type_token() -> io::Result<String> {
    eprint("paste the access token, and press Enter:");
    let mut text = String::new();
    io::stdin().read_line(&mut text)?;
    Ok(text)
}

/// In the browser or by a code: as asked for, else as the access allow.
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
    let is_choice_open = !arguments.no_browser && arguments.port.is_none();
    if let Some(obstacle) = access.obstacle().filter(|_| is_choice_open) {
        eprint(&format!(
            "{obstacle}, so you sign in with a code, on any device (with a browser that comes back to this machine: \
             `{}`)",
            command("login --no-browser")
        ));
        match device::sign_in(context, environment).await {
            Err(LoginError::DeviceNotEnabled) => eprint("codes are not enabled here; the browser it is, then"),
            outcome => return outcome.map_err(|error| failure(&error)),
        }
    }
    browser::sign_in(arguments, context, config, access).await.map_err(|error| failure(&error))
}

fn failure(error: &LoginError) -> Failure {
    match error {
        LoginError::Store(error) => Failure::Auth(error.clone()),
        LoginError::NoDeviceCode(AuthorityError::Unavailable { .. })
        | LoginError::Exchange(AuthorityError::Unavailable { .. }) => Failure::Unreached(error.to_string()),
        other => Failure::other(other),
    }
}

async fn import(context: &Context, config: &Config, file: &Path, rights: Rights) -> Result<Credential, Failure> {
    let imported = auth::import(&context.store, &config.auth, file, rights).await;
    let imported = imported.map_err(|error| match error {
        ImportError::NoFile { .. } if is_in_keychain(file) => {
            Failure::Other(format!("{IN_KEYCHAIN} `{}`", command("login")))
        }
        ImportError::Store(error) => Failure::Auth(error),
        ImportError::NoFile { .. } | ImportError::Unsuitable { .. } => Failure::other(&error),
    })?;
    eprint(match rights {
        Rights::Borrow => "this login is borrowed: its owner renews it, and we only read its file",
        Rights::TakeOver => {
            "this login is ours now: the program it came from will be signed out by that sooner or later"
        }
    });
    Ok(imported)
}

/// Whether the Codex CLI is set to keep its login elsewhere than in this file.
fn is_in_keychain(file: &Path) -> bool {
    let text = read_text(&file.with_file_name("config.toml"), LONGEST_SETTINGS_BYTES).unwrap_or_default();
    let settings: toml::Table = toml::from_slice(&text).unwrap_or_default();
    let place = settings.get("cli_auth_credentials_store").and_then(toml::Value::as_str);
    matches!(place, Some("keyring" | "auto"))
}

fn described(credential: &Credential) -> String {
    let email = credential.email.as_ref().map(|email| format!(" as {}", email.expose())).unwrap_or_default();
    let plan = credential.plan.as_deref().map(|plan| format!(" (plan {plan})")).unwrap_or_default();
    format!("{email}{plan}")
}
