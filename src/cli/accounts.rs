//! `codex-proxy accounts list | use | remove | restore | move`: lists and manages accounts.
//!
//! `list --json` prints the list `accounts` of `status --json`.

use unicode_width::UnicodeWidthStr as _;

use super::arguments::AccountsAction;
use super::context::Context;
use super::exit::{Exit, Failure};
use super::logout::sign_out;
use super::output::{eprint, print, print_json};
use super::progress;
use super::table::{WIDTH, padded, truncate};
use crate::auth::{self, AccountSelection, AccountStatus, BackendKind, TokenState, activate};
use crate::command_hint::command;
use crate::config::Config;

/// The smallest width of an account name, even if the line gets too long.
const MIN_NAME_WIDTH: usize = 10;

pub(super) async fn run(action: &AccountsAction, config: Config) -> Result<Exit, Failure> {
    let context = Context::of(&config);
    match action {
        AccountsAction::List { json } => list(*json, &context, &config).await,
        AccountsAction::Use { id } => {
            activate(&context.store, id).await.map_err(Failure::Auth)?;
            eprint(&format!("{id} is the active account now. A running daemon switches to it automatically."));
            if config.auth.account.as_ref().is_some_and(|choice| choice.account_id != *id) {
                eprint("warning: the setting `account` names another account and takes precedence");
            }
            Ok(Exit::Done)
        }
        AccountsAction::Restore => restore(&context).await,
        AccountsAction::Move { to } => move_to((*to).into(), &context, &config).await,
        AccountsAction::Remove { id } => sign_out(AccountSelection::Account(id), &context).await,
    }
}

async fn list(json: bool, context: &Context, config: &Config) -> Result<Exit, Failure> {
    let chosen = config.auth.account.as_ref().map(|choice| choice.account_id.as_str());
    let status = auth::status(&context.store, context.clock.as_ref(), chosen).await.map_err(Failure::Auth)?;
    if json {
        print_json(&status.accounts)?;
    } else if status.accounts.is_empty() {
        eprint(&format!("Not signed in. Run `{}`.", command("login")));
    } else {
        print(&account_lines(&status.accounts))?;
    }
    Ok(Exit::Done)
}

async fn move_to(to: BackendKind, context: &Context, config: &Config) -> Result<Exit, Failure> {
    let moved = progress::during("waiting for the keyring", context.store.move_to(to)).await.map_err(Failure::Auth)?;
    if moved.from == moved.to {
        eprint(&format!("{} account(s) are already stored in {}.", moved.accounts, moved.to));
    } else {
        eprint(&format!("Moved {} account(s) from {} to {}.", moved.accounts, moved.from, moved.to));
    }
    if let Some(left_over) = &moved.left_over {
        eprint(&format!("warning: {left_over}"));
    }
    if config.auth.store != to {
        let file = config.paths.config.display();
        eprint(&format!("To store new logins there too, set auth.store = \"{}\" in {file}.", to.name()));
    }
    Ok(if moved.left_over.is_none() { Exit::Done } else { Exit::Failed })
}

async fn restore(context: &Context) -> Result<Exit, Failure> {
    let restored = context.store.restore().await.map_err(Failure::Auth)?;
    eprint(&format!("Restored {} account(s) in {}.", restored.accounts, context.store.location().await));
    if let Some(aside) = restored.damaged {
        eprint(&format!(
            "The damaged file was saved as {}. It may contain tokens: delete it when you no longer need it.",
            aside.display()
        ));
    }
    Ok(Exit::Done)
}

/// Returns a line for each account, and a second one if the user has to sign in again.
fn account_lines(accounts: &[AccountStatus]) -> String {
    let texts =
        |account: &AccountStatus| (account.account_id.clone(), account.plan.clone().unwrap_or("unknown".to_owned()));
    let longest = accounts.iter().map(|account| account.account_id.width()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for account in accounts {
        let (id, plan) = texts(account);
        let mark = if account.is_active { '*' } else { ' ' };
        let plan = format!("(plan {plan})");
        let name = account.email.as_deref().unwrap_or("(no e-mail address)");
        let room = WIDTH.saturating_sub(longest + plan.width() + "*   ".len() + 1);
        lines.push(format!("{mark} {}  {} {plan}", padded(&id, longest), truncate(name, room.max(MIN_NAME_WIDTH))));
        if account.state == TokenState::Ended {
            lines.push(format!("    session expired: run `{}`", command("login")));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::account_lines;
    use crate::auth::{AccountStatus, TokenState};

    fn account(account_id: &str, email: &str, state: TokenState) -> AccountStatus {
        AccountStatus {
            account_id: account_id.to_owned(),
            is_active: state == TokenState::Fresh,
            email: Some(email.to_owned()),
            plan: Some("enterprise".to_owned()),
            is_fedramp: false,
            state,
            is_renewable: true,
            expires_at: None,
            last_refresh: None,
            borrowed_from: None,
            refusal: None,
            refused_at: None,
        }
    }

    #[test]
    fn lines_fit_into_80_columns() {
        let id = "01234567-89ab-cdef-0123-456789abcdef";
        let accounts = [
            account(id, "a.person.with.a.long.name@department.example.com", TokenState::Fresh),
            account("short", "b@example.com", TokenState::Ended),
        ];
        let expected = "\
* 01234567-89ab-cdef-0123-456789abcdef  a.person.with.a.long.… (plan enterprise)
  short                                 b@example.com (plan enterprise)
    session expired: run `codex-proxy login`";
        assert_eq!(account_lines(&accounts), expected);
    }
}
