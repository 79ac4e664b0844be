//! Signing in with a browser, which is redirected to this machine, or with the redirect address pasted by the user.

use std::io::{BufRead, IsTerminal};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::environment::BrowserAccess;
use super::{Context, LoginArguments, eprint};
use crate::auth::{Credential, Login, LoginError, PasteParser, PastedReply, Ports};
use crate::cli::child::without_secrets;
use crate::config::Config;

/// The ports that are registered with the issuer for redirects.
const REGISTERED_PORTS: [u16; 2] = [1455, 1457];
/// A launcher that still runs after this many checks has started a browser.
const LAUNCH_CHECKS: u32 = 20;
const LAUNCH_CHECK_INTERVAL: Duration = Duration::from_millis(50);

pub(super) async fn sign_in(
    arguments: &LoginArguments,
    context: &Context,
    config: &Config,
    access: BrowserAccess,
) -> Result<Credential, LoginError> {
    let can_paste = std::io::stdin().is_terminal();
    let login = start(arguments, context, config, can_paste).await?;
    if arguments.port.is_some() && !REGISTERED_PORTS.contains(&login.port()) {
        eprint("warning: the sign-in service may refuse ports other than 1455 and 1457");
    }
    if let Some(conflict) = login.conflict() {
        eprint(&format!("{conflict}; the browser will be redirected to port {} instead", login.port()));
    }
    eprint("Open this address in a browser and sign in:");
    eprint(&format!("\n  {}\n", login.url()));
    if !arguments.no_browser {
        open_browser(&login, access);
    }
    let (sender, pasted) = mpsc::channel(1);
    if can_paste {
        eprint("If the browser ends on a page that doesn't load, paste the address of that page here.");
        read_pasted_lines(login.paste_parser(), sender);
    }
    eprint("Waiting for the browser (Ctrl-C cancels) …");
    login.wait(pasted).await
}

async fn start(
    arguments: &LoginArguments,
    context: &Context,
    config: &Config,
    can_paste: bool,
) -> Result<Login, LoginError> {
    let Context { store, issuer, clock, .. } = context;
    let candidates = arguments.port.map_or_else(Ports::registered, Ports::only);
    let started = Login::start(&config.auth, issuer.clone(), store.clone(), Arc::clone(clock), candidates).await;
    match started {
        Err(error @ LoginError::PortsInUse(_)) if can_paste => {
            eprint(&format!("{error}; or continue, and paste the address of the page that the browser ends on"));
            let (issuer, store) = (issuer.clone(), store.clone());
            Login::start_without_port(&config.auth, issuer, store, Arc::clone(clock), candidates).await
        }
        other => other,
    }
}

/// Opens the address in a browser, or prints why that isn't possible.
fn open_browser(login: &Login, access: BrowserAccess) {
    match access {
        BrowserAccess::Remote => eprint(&format!(
            "This is a remote session. Open the address on a machine that forwards port {0} to this one \
             (ssh -L {0}:localhost:{0}).",
            login.port()
        )),
        BrowserAccess::NoDisplay => eprint("No display is available, so no browser was opened."),
        BrowserAccess::Display if launch(open::commands(login.url())).is_none() => {
            eprint("No browser could be opened.");
        }
        BrowserAccess::Display => {}
    }
}

/// Runs the first launcher that doesn't fail within a second. The browser keeps running after this program ends.
fn launch(launchers: Vec<Command>) -> Option<()> {
    launchers.into_iter().find_map(|mut launcher| {
        without_secrets(&mut launcher);
        launcher.stdout(Stdio::null()).stderr(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut launcher, 0);
        let mut child = launcher.spawn().ok()?;
        for _ in 0..LAUNCH_CHECKS {
            match child.try_wait().ok()? {
                Some(status) => return status.success().then_some(()),
                None => std::thread::sleep(LAUNCH_CHECK_INTERVAL),
            }
        }
        Some(())
    })
}

/// Reads pasted addresses from the terminal, on a thread that ends with the process.
#[expect(clippy::disallowed_methods, reason = "a read of the terminal can't be canceled like a future")]
fn read_pasted_lines(reader: PasteParser, sender: mpsc::Sender<PastedReply>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            match reader.read(&line) {
                Ok(Some(pasted)) => drop(sender.blocking_send(pasted)),
                Ok(None) => {}
                Err(error) => eprint(&format!("{error}; still waiting …")),
            }
        }
    });
}
