//! `codex-proxy token`: prints a fresh access token for another program.
//!
//! The other program then needs no refresh token, which can be used only once and must not be shared. If the token is
//! refreshed, the new login is stored before the token is printed. Fails if clients send their own logins.

use super::context::{Context, accounts, env_token, require_own_login};
use super::exit::{Exit, Failure};
use super::output::{eprint, print};
use super::progress;
use crate::config::{Config, Environment};
use crate::token_source::TokenSource as _;

pub(super) async fn run(config: Config, environment: &Environment) -> Result<Exit, Failure> {
    require_own_login(&config)?;
    let context = Context::of(&config);
    let accounts = accounts(&context, &config, env_token(environment));
    let bearer = progress::during("refreshing the access token", accounts.fresh()).await;
    accounts.settle().await;
    print(bearer.map_err(Failure::auth)?.token.expose())?;
    if let Ok(state) = accounts.check().await
        && let Some(warning) = state.warning()
    {
        eprint(&format!("warning: {warning}"));
    }
    Ok(Exit::Done)
}
