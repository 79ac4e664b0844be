//! `codex-proxy token`: a fresh access token on standard output, for another program.
//!
//! The program then needs no refresh token of its own, which would be a second hand on a token that
//! can be used once. The renewal, if there is one, is stored before the token is printed.

use super::context::{Context, accounts, env_token};
use super::exit::{Exit, Failure};
use super::output::{eprint, print};
use super::progress;
use crate::config::{Config, Environment};
use crate::token_source::TokenSource as _;

pub(super) async fn run(config: Config, environment: &Environment) -> Result<Exit, Failure> {
    let context = Context::of(&config);
    let accounts = accounts(&context, &config, env_token(environment));
    let bearer = progress::during("asking the issuer for a fresh token", accounts.fresh()).await;
    accounts.settle().await;
    print(bearer.map_err(Failure::auth)?.token.expose())?;
    if let Ok(state) = accounts.check().await
        && let Some(warning) = state.warning()
    {
        eprint(&format!("warning: {warning}"));
    }
    Ok(Exit::Done)
}
