//! Checks the login: the store, the token, the workspace and the models.

use std::path::PathBuf;
use std::time::SystemTime;

use super::super::context::Context;
use super::super::status::{AccountCheck, CheckResult, Verdict, check_account, describe_token};
use super::finding::{Check, Finding, split_command};
use super::{TIMEOUT, in_time, permissions};
use crate::auth::{self, AccessToken, AccountStatus, Accounts, EnvToken, Location, Status, TokenState};
use crate::command_hint::{command, unset};
use crate::config::Config;
use crate::error::ProxyError;
use crate::fs::{directory_of, resolve};
use crate::protocol::models::{Models, Rules};
use crate::token_source::{AuthError, CredentialSource};
use crate::upstream::Upstream;

/// The login, as stored on this machine.
pub(super) struct Session<'e> {
    /// The accounts of the store; `None`: it didn't respond in time.
    status: Option<Result<Status, AuthError>>,
    /// The access token from the environment, used instead of the store.
    env_token: Option<&'e EnvToken>,
    /// Path of the credential file.
    credentials: PathBuf,
    /// Whose login requests use.
    source: CredentialSource,
    now: SystemTime,
}

impl<'e> Session<'e> {
    pub(super) async fn load(context: &Context, config: &Config, env_token: Option<&'e EnvToken>) -> Self {
        let chosen = config.auth.account.as_ref().map(|choice| choice.account_id.as_str());
        let source = config.credentials;
        let status = match source {
            CredentialSource::Store => in_time(auth::status(&context.store, context.clock.as_ref(), chosen)).await,
            CredentialSource::Client => None,
        };
        let credentials = resolve(&config.auth.credentials);
        Self { status, env_token, credentials, source, now: context.clock.now() }
    }

    /// Reads the store again: the check may have refreshed the token, or stored that the issuer refused.
    pub(super) async fn reload(self, context: &Context, config: &Config) -> Self {
        match self.status {
            Some(Ok(_)) => Self::load(context, config, self.env_token).await,
            _ => self,
        }
    }

    /// Requests the account and its quota from the backend; `None` if there is no login.
    pub(super) async fn check(&self, context: &Context, config: &Config, tokens: &Accounts) -> Option<CheckResult> {
        if self.has_login() { Some(check_account(context, config, tokens).await) } else { None }
    }

    /// Requests the list of models; `None` if there is no login.
    pub(super) async fn catalogue(&self, upstream: &Upstream) -> Option<Result<(), ProxyError>> {
        if !self.has_login() {
            return None;
        }
        let timeout = || ProxyError::Unreachable { cause: format!("no response within {} s", TIMEOUT.as_secs()) };
        Some(in_time(upstream.refresh_catalogue()).await.unwrap_or_else(|| Err(timeout())))
    }

    /// Whether there is a usable login that the backend doesn't refuse; `None` if that can't be determined.
    pub(super) fn is_signed_in(&self, check: Option<&AccountCheck>) -> Option<bool> {
        if self.source == CredentialSource::Client {
            return Some(true);
        }
        let is_refused = check.is_some_and(|check| check.state == Verdict::Refused);
        let is_good = match (self.env_token, &self.status) {
            (Some(env_token), _) => {
                env_token.fault().is_none() && self.claims().is_none_or(|account| account.state != TokenState::Ended)
            }
            (None, Some(Ok(status))) => status.active().is_some_and(|account| account.state != TokenState::Ended),
            (None, _) => return None,
        };
        Some(is_good && !is_refused)
    }

    pub(super) fn findings(&self, check: Option<&AccountCheck>) -> Vec<Finding> {
        match self.source {
            CredentialSource::Store => vec![self.store(), self.token(check)],
            CredentialSource::Client => {
                let message =
                    "sign-in: by the client (upstream.credentials = \"client\"); logins of this machine aren't used";
                vec![Finding::ok(Check::Token, message)]
            }
        }
    }

    fn has_login(&self) -> bool {
        self.env_token.is_some() || matches!(&self.status, Some(Ok(status)) if status.active().is_some())
    }

    /// Returns the account in the claims of the access token from the environment.
    fn claims(&self) -> Option<AccountStatus> {
        let credential = self.env_token?.token.as_ref().ok().and_then(AccessToken::own_credential)?;
        Some(AccountStatus::new(&credential, true, self.now))
    }

    fn store(&self) -> Finding {
        match &self.status {
            None => Finding::error(Check::Store, "the keyring doesn't respond. Unlock it, and run", command("status")),
            Some(Err(error)) => self.unusable(error),
            Some(Ok(status)) => {
                let location = match &status.location {
                    Location::File(path) => path.display().to_string(),
                    Location::Keyring(name) => format!("the keyring ({name})"),
                    Location::Memory => "memory".to_owned(),
                };
                let count = status.accounts.len();
                let noun = if count == 1 { "account" } else { "accounts" };
                Finding::ok(Check::Store, format!("{count} {noun} in {location}"))
            }
        }
    }

    fn unusable(&self, error: &AuthError) -> Finding {
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default();
        // If the message refers to this command, the cause is a file or a permission, and the fix is named here.
        match split_command(text).filter(|(_, suggested)| *suggested == command("doctor")) {
            Some((text, _)) if text.contains("can't be read") => {
                Finding::error(Check::Store, text, permissions::fix_file(&self.credentials))
            }
            Some((text, _)) => {
                Finding::error(Check::Store, text, permissions::grant_access(directory_of(&self.credentials)))
            }
            None => Finding::error_from_text(Check::Store, text, || command("status")),
        }
    }

    fn token(&self, check: Option<&AccountCheck>) -> Finding {
        let verdict = check.map(|check| check.state);
        if let Some(env_token) = self.env_token {
            return self.env_token(env_token, verdict);
        }
        let Some(Ok(status)) = &self.status else {
            return Finding::unknown(Check::Token, "the store can't be read");
        };
        let Some(account) = status.active() else {
            return if status.accounts.is_empty() {
                Finding::error(Check::Token, "not signed in", command("login"))
            } else {
                Finding::error(Check::Token, "no account is active", command("accounts list"))
            };
        };
        let message = describe_token(account, verdict, self.now);
        if verdict == Some(Verdict::Refused) || account.state == TokenState::Ended {
            Finding::error(Check::Token, message, command("login"))
        } else if account.refusal.is_some() {
            Finding::warning(Check::Token, message, command("login"))
        } else {
            Finding::ok(Check::Token, message)
        }
    }

    fn env_token(&self, env_token: &EnvToken, verdict: Option<Verdict>) -> Finding {
        let unset = unset(env_token.variable);
        let claims = self.claims();
        match env_token.fault() {
            Some(fault) => Finding::error(Check::Token, fault, unset),
            None if verdict == Some(Verdict::Refused) => {
                Finding::error(Check::Token, format!("the access token in {} is refused", env_token.variable), unset)
            }
            None if claims.is_some_and(|account| account.state == TokenState::Ended) => {
                Finding::error(Check::Token, format!("the access token in {} has expired", env_token.variable), unset)
            }
            None => Finding::ok(Check::Token, format!("the access token in {} is used", env_token.variable)),
        }
    }
}

/// Reports whether the backend accepts the account.
pub(super) fn workspace(check: Option<&AccountCheck>) -> Option<Finding> {
    let check = check?;
    let message = check.message.as_deref().unwrap_or_default().replace('\n', " ");
    Some(match check.state {
        Verdict::Good => Finding::ok(Check::Workspace, "the backend accepts the account"),
        Verdict::Refused => Finding::unknown(Check::Workspace, "the login is refused"),
        Verdict::Disabled => {
            let message = "the workspace is disabled. Ask its administrator to enable it, or choose another account";
            Finding::error(Check::Workspace, message, command("accounts list"))
        }
        Verdict::Unreachable => Finding::unknown(Check::Workspace, message),
        // A message with a command is part of the finding about the store already.
        Verdict::Unclear if split_command(&message).is_some() => {
            Finding::unknown(Check::Workspace, "no token is available")
        }
        Verdict::Unclear => Finding::warning(Check::Workspace, message, command("status")),
    })
}

/// Reports whether the backend lists models, and whether `default_model` is one of them.
pub(super) fn catalogue(outcome: &Result<(), ProxyError>, upstream: &Upstream, rules: &Rules) -> Finding {
    let again = command("models --refresh");
    match outcome {
        // The finding about the token has the details.
        Err(ProxyError::Auth(_)) => Finding::unknown(Check::Catalogue, "it can't be requested without a login"),
        // The finding about the backend has the details.
        Err(ProxyError::Unreachable { .. } | ProxyError::Silent { .. }) => {
            Finding::unknown(Check::Catalogue, "the backend can't be reached")
        }
        Err(error) => Finding::warning(Check::Catalogue, error.to_string().replace('\n', " "), again),
        Ok(()) => {
            let models = Models { catalogue: upstream.catalogue(), ..Models::default() };
            let unknown = rules.default_model.as_deref().map(|name| models.resolve(name).slug);
            match unknown.filter(|slug| models.catalogue.find(slug).is_none()) {
                Some(slug) => {
                    let hint = models.suggest(&slug).map(|near| format!("; did you mean '{near}'?"));
                    let message =
                        format!("default_model is '{slug}', which isn't one of the models{}", hint.unwrap_or_default());
                    Finding::warning(Check::Catalogue, message, command("models"))
                }
                None => Finding::ok(Check::Catalogue, format!("{} models", models.catalogue.models().len())),
            }
        }
    }
}
