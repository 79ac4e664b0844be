//! `codex-proxy logout`: the credential goes in any case, the issuer is told when it can be.

use super::exit::{Exit, Failure};
use super::output::{answer, talk};
use crate::auth::{Authority, Revocation, Store, Which, logout};
use crate::config::Config;
use crate::net::HttpClient;

pub(super) async fn run(which: Which<'_>, config: &Config) -> Result<Exit, Failure> {
    let store = Store::file(&config.auth.credentials);
    let authority = Authority::new(HttpClient::new(config.net.clone()), &config.auth);
    let departures = logout(&store, &authority, which).await.map_err(Failure::Auth)?;
    if departures.is_empty() {
        talk("nobody was signed in");
    }
    for departure in departures {
        answer(&format!("signed out: {}", departure.account_id))?;
        match departure.revocation {
            Revocation::Done => {}
            Revocation::NotOurs => talk("the login was borrowed; the other program stays signed in"),
            Revocation::Failed(reason) => talk(&format!(
                "the sign-in service could not be told ({reason}); the tokens are deleted here and end by themselves"
            )),
        }
    }
    Ok(Exit::Done)
}
