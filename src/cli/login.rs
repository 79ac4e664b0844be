//! `codex-proxy login`: sign in with a browser, or use the login of another program.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arguments::LoginArguments;
use super::exit::{Exit, Failure};
use super::output::{answer, talk};
use crate::auth::{Authority, Credential, ImportError, Login, LoginError, Ports, Rights, Store, import};
use crate::clock::SystemClock;
use crate::config::{Config, Environment, codex_login_file};
use crate::net::HttpClient;
use crate::secret::Secret;

/// The ports to which the issuer sends a browser back.
const REGISTERED_PORTS: [u16; 2] = [1455, 1457];

const IN_KEYCHAIN: &str = "the Codex CLI keeps its login in the system's keychain, which is not looked into; \
                           run `codex-proxy login`, or set cli_auth_credentials_store = \"file\" there and sign in again";

pub(super) async fn run(
    arguments: &LoginArguments,
    config: &Config,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let store = Store::file(&config.auth.credentials);
    let credential = match &arguments.import {
        Some(file) => adopt(file.clone(), rights(arguments), config, &store, environment).await?,
        None => sign_in(arguments, config, store, environment).await?,
    };
    answer(&format!("signed in: {}", describe(&credential)))?;
    Ok(Exit::Done)
}

async fn sign_in(
    arguments: &LoginArguments,
    config: &Config,
    store: Store,
    environment: &Environment,
) -> Result<Credential, Failure> {
    let ports = arguments.port.map_or_else(Ports::registered, Ports::only);
    if let Some(port) = arguments.port.filter(|port| !REGISTERED_PORTS.contains(port)) {
        talk(&format!("warning: the sign-in service knows the ports 1455 and 1457 only; {port} will most likely fail"));
    }
    let authority = Authority::new(HttpClient::new(config.net.clone()), &config.auth);
    let login = Login::start(&config.auth, authority, store, Arc::new(SystemClock), ports).await.map_err(refused)?;
    talk(&format!("Sign in with your ChatGPT account at\n\n  {}\n", login.url()));
    if !has_display(environment) {
        let port = login.port();
        talk(&format!(
            "There is no display here. A browser on another machine has to reach port {port} of this one, \
             for instance through `ssh -L {port}:localhost:{port}`."
        ));
    } else if !arguments.no_browser && open::that_detached(login.url()).is_err() {
        talk("No browser could be opened; open the address yourself.");
    }
    talk("Waiting for the browser to come back (Ctrl-C gives up) …");
    login.wait().await.map_err(refused)
}

/// Whether a browser that is started here would be seen by the person.
fn has_display(environment: &Environment) -> bool {
    let is_set = |name: &str| environment.path(name).is_some();
    let is_remote = is_set("SSH_CONNECTION") || is_set("SSH_TTY");
    if cfg!(any(windows, target_os = "macos")) {
        return !is_remote;
    }
    ["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"].into_iter().any(is_set)
}

fn rights(arguments: &LoginArguments) -> Rights {
    if arguments.take_over { Rights::TakeOver } else { Rights::Borrow }
}

async fn adopt(
    file: Option<PathBuf>,
    rights: Rights,
    config: &Config,
    store: &Store,
    environment: &Environment,
) -> Result<Credential, Failure> {
    let usual = || codex_login_file(environment);
    let file = file.or_else(usual).ok_or_else(|| Failure::Other("name the file: --import FILE".to_owned()))?;
    let credential = import(store, &config.auth, &file, rights).await.map_err(|error| match error {
        ImportError::Store(error) => Failure::Auth(error),
        ImportError::NoFile { .. } if is_in_keychain(&file) => Failure::Other(IN_KEYCHAIN.to_owned()),
        ImportError::NoFile { .. } | ImportError::Unsuitable { .. } => Failure::other(&error),
    })?;
    talk(match rights {
        Rights::Borrow => "The login is borrowed: it is only read, and the other program keeps renewing it.",
        Rights::TakeOver => {
            "The session is ours from now on. The other program will be signed out by that sooner or later."
        }
    });
    Ok(credential)
}

/// Whether the Codex CLI is set to keep its login elsewhere than in this file.
fn is_in_keychain(file: &Path) -> bool {
    let text = std::fs::read_to_string(file.with_file_name("config.toml")).unwrap_or_default();
    let settings: toml::Table = text.parse().unwrap_or_default();
    let place = settings.get("cli_auth_credentials_store").and_then(toml::Value::as_str);
    matches!(place, Some("keyring" | "auto"))
}

fn refused(error: LoginError) -> Failure {
    match error {
        LoginError::Store(error) => Failure::Auth(error),
        other => Failure::other(&other),
    }
}

fn describe(credential: &Credential) -> String {
    let who = credential.email.as_ref().map_or(credential.account_id.as_str(), Secret::expose);
    match &credential.plan {
        Some(plan) => format!("{who} (plan {plan})"),
        None => who.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Environment, has_display};

    #[cfg(all(unix, not(target_os = "macos")))]
    #[test]
    fn a_browser_is_opened_only_where_somebody_can_see_it() {
        let environment = |name: &str| [(name.to_owned(), ":0".to_owned())].into_iter().collect::<Environment>();
        assert!(has_display(&environment("WAYLAND_DISPLAY")));
        assert!(!has_display(&environment("SSH_TTY")));
        assert!(!has_display(&Environment::default()));
    }
}
