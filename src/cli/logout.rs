//! `codex-proxy logout`: the issuer is told if it can be reached; the login goes in any case.

use super::exit::{Exit, Failure};
use super::output::talk;
use super::terms::Parts;
use crate::auth::{Departure, Revocation, Which, logout};
use crate::config::Config;

pub(super) async fn run(config: Config) -> Result<Exit, Failure> {
    let parts = Parts::of(&config);
    let departures = logout(&parts.store, &parts.authority, Which::Active).await.map_err(Failure::Auth)?;
    if departures.is_empty() {
        talk("nobody is signed in");
    }
    for departure in &departures {
        talk(&told(departure));
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
