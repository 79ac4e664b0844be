//! The sign-in: what the store holds, what its token is worth, and what the backend offers for it.

use std::path::PathBuf;
use std::time::SystemTime;

use super::super::context::Context;
use super::super::status::{AccountCheck, CheckResult, Verdict, check_account, describe_token};
use super::finding::{Check, Finding};
use super::{LIMIT, in_time, permissions};
use crate::auth::{self, AccessToken, Accounts, Given, Location, Profile, State, Status};
use crate::command_hint::{command, unset};
use crate::config::Config;
use crate::error::ProxyError;
use crate::fs::{directory_of, resolve};
use crate::protocol::models::{Models, Rules};
use crate::token_source::AuthError;
use crate::upstream::Upstream;

/// The sign-in as it is known here.
pub(super) struct Session<'g> {
    /// `None`: the store did not answer in time.
    status: Option<Result<Status, AuthError>>,
    /// The access token of the environment, which outranks the store.
    given: Option<&'g Given>,
    /// Where a store in a file lies.
    credentials: PathBuf,
    now: SystemTime,
}

impl<'g> Session<'g> {
    pub(super) async fn look(context: &Context, config: &Config, given: Option<&'g Given>) -> Self {
        let chosen = config.auth.account.as_ref().map(|choice| choice.account_id.as_str());
        let status = in_time(auth::status(&context.store, context.clock.as_ref(), chosen)).await;
        Self { status, given, credentials: resolve(&config.auth.credentials), now: context.clock.now() }
    }

    /// The same after the services were asked, which may have renewed it, or said that nobody can.
    pub(super) async fn again(self, context: &Context, config: &Config) -> Self {
        match self.status {
            Some(Ok(_)) => Self::look(context, config, self.given).await,
            _ => self,
        }
    }

    /// What the backend says of it and of its quota; `None` where there is nothing to ask about.
    pub(super) async fn ask(&self, context: &Context, config: &Config, tokens: &Accounts) -> Option<CheckResult> {
        if self.is_there() { Some(check_account(context, config, tokens).await) } else { None }
    }

    /// What comes of asking for the models.
    pub(super) async fn catalogue(&self, upstream: &Upstream) -> Option<Result<(), ProxyError>> {
        if !self.is_there() {
            return None;
        }
        let late = || ProxyError::Unreachable { cause: format!("no answer within {} s", LIMIT.as_secs()) };
        Some(in_time(upstream.refresh_catalogue()).await.unwrap_or_else(|| Err(late())))
    }

    /// Whether somebody is signed in; `None` where that can't be known.
    pub(super) fn is_signed_in(&self, check: Option<&AccountCheck>) -> Option<bool> {
        let is_refused = check.is_some_and(|check| check.state == Verdict::Refused);
        let is_good = match (self.given, &self.status) {
            (Some(given), _) => given.fault().is_none() && self.told().is_none_or(|told| told.state != State::Ended),
            (None, Some(Ok(status))) => status.active().is_some_and(|profile| profile.state != State::Ended),
            (None, _) => return None,
        };
        Some(is_good && !is_refused)
    }

    pub(super) fn findings(&self, check: Option<&AccountCheck>) -> Vec<Finding> {
        vec![self.store(), self.token(check)]
    }

    fn is_there(&self) -> bool {
        self.given.is_some() || matches!(&self.status, Some(Ok(status)) if status.active().is_some())
    }

    /// What the access token of the environment says of itself.
    fn told(&self) -> Option<Profile> {
        let credential = self.given?.token.as_ref().ok().and_then(AccessToken::told)?;
        Some(Profile::of(&credential, true, self.now))
    }

    fn store(&self) -> Finding {
        match &self.status {
            None => Finding::error(Check::Store, "the keyring does not answer; unlock it", command("status")),
            Some(Err(error)) => self.unusable(error),
            Some(Ok(status)) => {
                let place = match &status.location {
                    Location::File(path) => path.display().to_string(),
                    Location::Keyring(name) => format!("the keyring ({name})"),
                    Location::Memory => "memory".to_owned(),
                };
                let count = status.accounts.len();
                let noun = if count == 1 { "account" } else { "accounts" };
                Finding::ok(Check::Store, format!("{count} {noun} in {place}"))
            }
        }
    }

    fn unusable(&self, error: &AuthError) -> Finding {
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default();
        // The rights are what sends people here, so that here is said what to do about them.
        let this = format!(": `{}`", command("doctor"));
        match text.strip_suffix(&this) {
            Some(text) if text.contains("can't be read") => {
                Finding::error(Check::Store, text, permissions::regain_file(&self.credentials))
            }
            Some(text) => Finding::error(Check::Store, text, permissions::regain(directory_of(&self.credentials))),
            None => Finding::telling(Check::Store, text, || command("status")),
        }
    }

    fn token(&self, check: Option<&AccountCheck>) -> Finding {
        let verdict = check.map(|check| check.state);
        if let Some(given) = self.given {
            return self.given_token(given, verdict);
        }
        let Some(Ok(status)) = &self.status else {
            return Finding::unknown(Check::Token, "the store can't be read");
        };
        let Some(profile) = status.active() else {
            return if status.accounts.is_empty() {
                Finding::error(Check::Token, "nobody is signed in", command("login"))
            } else {
                Finding::error(Check::Token, "none of the accounts is in use", command("accounts list"))
            };
        };
        let told = describe_token(profile, verdict, self.now);
        if verdict == Some(Verdict::Refused) || profile.state == State::Ended {
            Finding::error(Check::Token, told, command("login"))
        } else if profile.refusal.is_some() {
            Finding::warning(Check::Token, told, command("login"))
        } else {
            Finding::ok(Check::Token, told)
        }
    }

    fn given_token(&self, given: &Given, verdict: Option<Verdict>) -> Finding {
        let without = unset(given.variable);
        let told = self.told();
        match given.fault() {
            Some(fault) => Finding::error(Check::Token, fault, without),
            None if verdict == Some(Verdict::Refused) => {
                Finding::error(Check::Token, format!("the one in {} is refused", given.variable), without)
            }
            None if told.is_some_and(|told| told.state == State::Ended) => {
                Finding::error(Check::Token, format!("the one in {} has ended", given.variable), without)
            }
            None => Finding::ok(Check::Token, format!("the one in {} is used", given.variable)),
        }
    }
}

/// Whether the backend takes the account.
pub(super) fn workspace(check: Option<&AccountCheck>) -> Option<Finding> {
    let check = check?;
    let message = check.message.as_deref().unwrap_or_default().replace('\n', " ");
    Some(match check.state {
        Verdict::Good => Finding::ok(Check::Workspace, "the backend takes it"),
        Verdict::Refused => Finding::unknown(Check::Workspace, "the sign-in is refused"),
        Verdict::Disabled => {
            let message = "it is disabled; its administrator can enable it, or choose another account";
            Finding::error(Check::Workspace, message, command("accounts list"))
        }
        Verdict::Unreachable => Finding::unknown(Check::Workspace, message),
        // Said by the finding about the files already.
        Verdict::Unclear if message.ends_with('`') => Finding::unknown(Check::Workspace, "no token can be had"),
        Verdict::Unclear => Finding::warning(Check::Workspace, message, command("status")),
    })
}

/// Whether the models are known, and the one that was set is among them.
pub(super) fn catalogue(outcome: &Result<(), ProxyError>, upstream: &Upstream, rules: &Rules) -> Finding {
    let again = command("models --refresh");
    match outcome {
        // Said by the finding about the token already.
        Err(ProxyError::Auth(_)) => Finding::unknown(Check::Catalogue, "nobody can ask for it"),
        // Said by the finding about the backend.
        Err(ProxyError::Unreachable { .. } | ProxyError::Silent { .. }) => {
            Finding::unknown(Check::Catalogue, "the backend can't be asked for it")
        }
        Err(error) => Finding::warning(Check::Catalogue, error.to_string().replace('\n', " "), again),
        Ok(()) => {
            let models = Models { catalogue: upstream.catalogue(), ..Models::default() };
            let unknown = rules.default_model.as_deref().map(|name| models.resolve(name).slug);
            match unknown.filter(|slug| models.catalogue.find(slug).is_none()) {
                Some(slug) => {
                    let hint = models.suggest(&slug).map(|near| format!("; did you mean '{near}'?"));
                    let message = format!("default_model is '{slug}', which is not in it{}", hint.unwrap_or_default());
                    Finding::warning(Check::Catalogue, message, command("models"))
                }
                None => Finding::ok(Check::Catalogue, format!("{} models", models.catalogue.models().len())),
            }
        }
    }
}
