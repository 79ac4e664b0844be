//! `codex-proxy login`: sign in with the browser, or use the login of another program.

use std::path::Path;

use super::arguments::LoginArguments;
use super::exit::{Exit, Failure};
use super::output::talk;
use super::terms::Parts;
use crate::auth::{self, Credential, ImportError, Login, Ports, Rights};
use crate::config::{Config, Environment, codex_login_file};

/// The ports whose redirect addresses the issuer knows.
const REGISTERED_PORTS: [u16; 2] = [1455, 1457];

const IN_KEYCHAIN: &str = "the Codex CLI keeps its login in the system's keychain, which is not looked into; \
                           run `codex-proxy login`, or set cli_auth_credentials_store = \"file\" there and sign in again";

pub(super) async fn run(
    arguments: &LoginArguments,
    config: Config,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let parts = Parts::of(&config);
    let credential = match &arguments.import {
        Some(file) => {
            let rights = if arguments.take_over { Rights::TakeOver } else { Rights::Borrow };
            let usual = || codex_login_file(environment);
            let file =
                file.clone().or_else(usual).ok_or_else(|| Failure::Other("name the file to import".to_owned()))?;
            import(&parts, &config, &file, rights).await?
        }
        None => browse(arguments, parts, &config, environment).await?,
    };
    talk(&format!("signed in{}", described(&credential)));
    talk(&format!("stored in {}", config.auth.credentials.display()));
    Ok(Exit::Done)
}

async fn import(parts: &Parts, config: &Config, file: &Path, rights: Rights) -> Result<Credential, Failure> {
    let imported = auth::import(&parts.store, &config.auth, file, rights).await;
    let imported = imported.map_err(|error| match error {
        ImportError::NoFile { .. } if is_in_keychain(file) => Failure::Other(IN_KEYCHAIN.to_owned()),
        ImportError::Store(error) => Failure::Auth(error),
        ImportError::NoFile { .. } | ImportError::Unsuitable { .. } => Failure::other(&error),
    })?;
    talk(match rights {
        Rights::Borrow => "this login is borrowed: its owner renews it, and we only read its file",
        Rights::TakeOver => {
            "this login is ours now: the program it came from will be signed out by that sooner or later"
        }
    });
    Ok(imported)
}

/// Whether the Codex CLI is set to keep its login elsewhere than in this file.
fn is_in_keychain(file: &Path) -> bool {
    let text = std::fs::read_to_string(file.with_file_name("config.toml")).unwrap_or_default();
    let settings: toml::Table = text.parse().unwrap_or_default();
    let place = settings.get("cli_auth_credentials_store").and_then(toml::Value::as_str);
    matches!(place, Some("keyring" | "auto"))
}

async fn browse(
    arguments: &LoginArguments,
    parts: Parts,
    config: &Config,
    environment: &Environment,
) -> Result<Credential, Failure> {
    let candidates = arguments.port.map_or_else(Ports::registered, Ports::only);
    let login = Login::start(&config.auth, parts.authority, parts.store, parts.clock, candidates).await;
    let login = login.map_err(|error| Failure::other(&error))?;
    if arguments.port.is_some() && !REGISTERED_PORTS.contains(&login.port()) {
        talk("warning: the issuer knows only the ports 1455 and 1457, and may refuse to come back to another");
    }
    talk("open this address in a browser on this machine, and sign in:");
    talk(&format!("\n  {}\n", login.url()));
    if !arguments.no_browser {
        open_browser(login.url(), environment);
    }
    talk("waiting for the browser (Ctrl-C gives up) …");
    login.wait().await.map_err(|error| Failure::other(&error))
}

/// Opens the address where a person can see it; else says why not.
fn open_browser(url: &str, environment: &Environment) {
    let is_remote = environment.get("SSH_CONNECTION").is_some() || environment.get("SSH_TTY").is_some();
    let needs_display = cfg!(all(unix, not(target_os = "macos")));
    let has_display = environment.get("DISPLAY").is_some() || environment.get("WAYLAND_DISPLAY").is_some();
    if is_remote {
        talk(
            "this session is remote: open the address on a machine that forwards port 1455 to this one (ssh -L 1455:localhost:1455)",
        );
    } else if needs_display && !has_display {
        talk("there is no display here, so no browser was opened");
    } else if open::that_detached(url).is_err() {
        talk("no browser could be opened");
    }
}

fn described(credential: &Credential) -> String {
    let email = credential.email.as_ref().map(|email| format!(" as {}", email.expose())).unwrap_or_default();
    let plan = credential.plan.as_deref().map(|plan| format!(" (plan {plan})")).unwrap_or_default();
    format!("{email}{plan}")
}
