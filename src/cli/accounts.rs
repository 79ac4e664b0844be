//! `codex-proxy accounts list | use | remove | restore | move`: who is signed in, and whose turn it is.
//!
//! The JSON form is the list `accounts` of `status --json`.

use super::arguments::AccountsAction;
use super::exit::{Exit, Failure};
use super::logout::sign_out;
use super::output::{answer, talk};
use super::terms::Parts;
use crate::auth::{self, Place, Profile, State, Which, activate};
use crate::config::Config;

pub(super) async fn run(action: &AccountsAction, config: Config) -> Result<Exit, Failure> {
    let parts = Parts::of(&config);
    match action {
        AccountsAction::List { json } => list(*json, &parts, &config).await,
        AccountsAction::Use { id } => {
            activate(&parts.store, id).await.map_err(Failure::Auth)?;
            talk(&format!("{id} is the active account now; a running daemon takes it up by itself"));
            if config.auth.account.as_ref().is_some_and(|choice| choice.account_id != *id) {
                talk("warning: the setting account names another one, and outweighs the active one");
            }
            Ok(Exit::Done)
        }
        AccountsAction::Restore => restore(&parts).await,
        AccountsAction::Move { to } => move_to((*to).into(), &parts, &config).await,
        AccountsAction::Remove { id } => sign_out(Which::Account(id), &parts).await,
    }
}

async fn list(json: bool, parts: &Parts, config: &Config) -> Result<Exit, Failure> {
    let chosen = config.auth.account.as_ref().map(|choice| choice.account_id.as_str());
    let status = auth::status(&parts.store, parts.clock.as_ref(), chosen).await.map_err(Failure::Auth)?;
    if json {
        answer(&serde_json::to_string_pretty(&status.accounts).expect("texts and numbers always serialise"))?;
    } else if status.accounts.is_empty() {
        talk("nobody is signed in: run `codex-proxy login`");
    } else {
        answer(&status.accounts.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(Exit::Done)
}

async fn move_to(to: Place, parts: &Parts, config: &Config) -> Result<Exit, Failure> {
    let moved = parts.store.move_to(to).await.map_err(Failure::Auth)?;
    if moved.from == moved.to {
        talk(&format!("{} account(s) already lie in {}", moved.accounts, moved.to));
    } else {
        talk(&format!("moved: {} account(s) from {} to {}", moved.accounts, moved.from, moved.to));
    }
    if let Some(left_over) = &moved.left_over {
        talk(&format!("warning: {left_over}"));
    }
    if config.auth.store != to {
        let file = config.paths.config.display();
        talk(&format!("set auth.store = \"{}\" in {file}, so that the next sign-in goes there too", to.name()));
    }
    Ok(if moved.left_over.is_none() { Exit::Done } else { Exit::Failed })
}

async fn restore(parts: &Parts) -> Result<Exit, Failure> {
    let restored = parts.store.restore().await.map_err(Failure::Auth)?;
    talk(&format!("put back: {} account(s) in {}", restored.accounts, parts.store.location().await));
    if let Some(aside) = restored.aside {
        talk(&format!(
            "the damaged file is {} now; it may hold tokens, so delete it when you are done",
            aside.display()
        ));
    }
    Ok(Exit::Done)
}

fn line(profile: &Profile) -> String {
    let mark = if profile.is_active { '*' } else { ' ' };
    let name = profile.email.as_deref().unwrap_or("(no address)");
    let plan = profile.plan.as_deref().unwrap_or("unknown");
    let state = match profile.state {
        State::Fresh | State::Due | State::Renewable => "",
        State::Ended => ", ended: sign in again",
    };
    format!("{mark} {}  {name} (plan {plan}{state})", profile.account_id)
}
