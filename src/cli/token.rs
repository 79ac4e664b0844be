//! `codex-proxy token`: a fresh access token on standard output, for another program.
//!
//! The program then needs no refresh token of its own, which would be a second hand on a token that
//! can be used once. The renewal, if there is one, is stored before the token is printed.

use super::context::{Parts, accounts, given};
use super::exit::{Exit, Failure};
use super::output::{answer, talk};
use super::progress;
use crate::config::{Config, Environment};
use crate::token_source::TokenSource as _;

pub(super) async fn run(config: Config, environment: &Environment) -> Result<Exit, Failure> {
    let parts = Parts::of(&config);
    let accounts = accounts(&parts, &config, given(environment));
    let bearer = progress::told("asking the issuer for a fresh token", accounts.fresh()).await;
    accounts.settle().await;
    answer(bearer.map_err(Failure::auth)?.token.expose())?;
    if let Ok(state) = accounts.check().await
        && let Some(warning) = state.warning()
    {
        talk(&format!("warning: {warning}"));
    }
    Ok(Exit::Done)
}
