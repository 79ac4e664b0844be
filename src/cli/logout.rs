//! `codex-proxy logout`: revokes the login of an account if the issuer can be reached, and deletes it in any case.

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::eprint;
use super::progress;
use crate::auth::{AccountSelection, RemovedAccount, Revocation, logout};
use crate::command_hint::command;
use crate::config::Config;
use crate::token_source::AuthError;

pub(super) async fn run(all: bool, config: Config) -> Result<Exit, Failure> {
    let which = match &config.auth.account {
        _ if all => AccountSelection::All,
        Some(choice) => AccountSelection::Account(&choice.account_id),
        None => AccountSelection::Active,
    };
    sign_out(which, &Context::of(&config)).await
}

/// Signs accounts out, and prints the result for each.
pub(super) async fn sign_out(which: AccountSelection<'_>, context: &Context) -> Result<Exit, Failure> {
    let result = progress::during("revoking the login", logout(&context.store, &context.issuer, which)).await;
    let removed = result.map_err(Failure::Auth)?;
    let left = context.store.read().await.map_err(Failure::Auth)?;
    match (which, removed.is_empty(), left.ids().next()) {
        (AccountSelection::Account(id), true, _) => {
            eprint(&format!(
                "No account \"{id}\" is signed in. List the accounts with `{}`.",
                command("accounts list")
            ));
        }
        (_, true, None) => eprint("Not signed in."),
        (_, true, Some(_)) => eprint(&AuthError::NoActiveAccount.to_string()),
        _ => {}
    }
    for account in &removed {
        eprint(&format!("{}: {}", account.account_id, outcome(account)));
    }
    if !removed.is_empty() && left.active().is_none() && left.ids().next().is_some() {
        eprint(&format!(
            "Other accounts are still signed in, but none is active. Choose one with `{}`.",
            command("accounts use ID")
        ));
    }
    Ok(Exit::Done)
}

fn outcome(account: &RemovedAccount) -> String {
    match &account.revocation {
        Revocation::Done => "signed out; the login was revoked".to_owned(),
        Revocation::NotOurs => "signed out here; the program that owns the imported login stays signed in".to_owned(),
        Revocation::Failed(reason) => {
            format!(
                "signed out here; the login could not be revoked ({reason}), so its tokens stay valid until they expire"
            )
        }
    }
}
