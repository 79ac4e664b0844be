//! `codex-proxy logout`: the issuer is told if it can be reached; the login goes in any case.

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::eprint;
use super::progress;
use crate::auth::{Departure, Revocation, Which, logout};
use crate::command_hint::command;
use crate::config::Config;
use crate::token_source::AuthError;

pub(super) async fn run(all: bool, config: Config) -> Result<Exit, Failure> {
    let which = match &config.auth.account {
        _ if all => Which::All,
        Some(choice) => Which::Account(&choice.account_id),
        None => Which::Active,
    };
    sign_out(which, &Context::of(&config)).await
}

/// Signs accounts out, and tells what became of each.
pub(super) async fn sign_out(which: Which<'_>, context: &Context) -> Result<Exit, Failure> {
    let gone = progress::during("telling the issuer", logout(&context.store, &context.authority, which)).await;
    let departures = gone.map_err(Failure::Auth)?;
    let left = context.store.read().await.map_err(Failure::Auth)?;
    match (which, departures.is_empty(), left.ids().next()) {
        (Which::Account(id), true, _) => {
            eprint(&format!(
                "no account with the id {id} is signed in: `{}` shows those that are",
                command("accounts list")
            ));
        }
        (_, true, None) => eprint("nobody is signed in"),
        (_, true, Some(_)) => eprint(&AuthError::NoActiveAccount.to_string()),
        _ => {}
    }
    for departure in &departures {
        eprint(&format!("{}: {}", departure.account_id, told(departure)));
    }
    if !departures.is_empty() && left.active().is_none() && left.ids().next().is_some() {
        eprint(&format!(
            "other accounts are still signed in, and none is active: `{}` chooses one",
            command("accounts use ID")
        ));
    }
    Ok(Exit::Done)
}

fn told(departure: &Departure) -> String {
    match &departure.revocation {
        Revocation::Done => "signed out; the issuer has revoked the login".to_owned(),
        Revocation::NotOurs => "signed out here; the borrowed login stays with the program that owns it".to_owned(),
        Revocation::Failed(reason) => format!(
            "signed out here; the issuer could not be told ({reason}), so that the old tokens stay valid until they end"
        ),
    }
}
