//! Why a login came to nothing, in words for the person who tried.
//!
//! The issuer's own texts are shown only when they can't hold a token or an address.

use super::ports::Obstacle;
use crate::auth::credential::GrantError;
use crate::auth::issuer::{AuthorityError, is_code};
use crate::command_hint::command;
use crate::token_source::AuthError;

/// Why a login came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Another login asked for the port.
    #[error("another login was started meanwhile")]
    Cancelled,
    /// Nobody came back.
    #[error("nobody signed in within 15 minutes")]
    TimedOut,
    /// Every port that could be used is held by another program.
    #[error("{}; end what holds it, or sign in with a code: `{}`", Obstacle::list(.0), command("login --device"))]
    Held(Vec<Obstacle>),
    /// A port can't be used for another reason.
    #[error("port {port} can't be used: {reason}")]
    Port {
        /// The port.
        port: u16,
        /// The system's word.
        reason: String,
    },
    /// The workspace does not allow it.
    #[error("Codex is not enabled for your workspace; ask its administrator to enable it")]
    NotEntitled,
    /// The issuer sent an error instead of a code.
    #[error("the issuer refused the sign-in: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// Nobody can sign in here with a device code.
    #[error(
        "signing in with a device code is not enabled here; enable it in the security settings of ChatGPT (a \
         workspace's administrator can forbid it), or run `{}`",
        command("login --no-browser")
    )]
    DeviceNotEnabled,
    /// The issuer gives no device code, or does not say what became of it.
    #[error("the device code could not be used: {0}")]
    NoDeviceCode(AuthorityError),
    /// Somebody refused the device code on the issuer's page.
    #[error("the sign-in was refused on the page where the code is typed")]
    Denied,
    /// Nobody typed the device code in time.
    #[error("the code was not used within 15 minutes; for a new one: `{}`", command("login --device"))]
    CodeExpired,
    /// The code could not be turned into tokens.
    #[error("the code could not be exchanged for tokens: {0}")]
    Exchange(AuthorityError),
    /// The tokens can't be used.
    #[error(transparent)]
    Grant(GrantError),
    /// The store can't be used.
    #[error(transparent)]
    Store(AuthError),
}

impl LoginError {
    /// The issuer's error, as far as it may be shown.
    pub(super) fn refused(error: &str, description: &str) -> Self {
        if description.contains("missing_codex_entitlement") {
            return Self::NotEntitled;
        }
        let code = if is_code(error) { error } else { "an unnamed error" };
        let is_prose = |word: &str| word.len() <= 24 && !word.contains('@') && !word.chars().any(char::is_control);
        let words: Vec<&str> = description.split_whitespace().filter(|word| is_prose(word)).take(40).collect();
        let reason = if words.is_empty() { code.to_owned() } else { format!("{} ({code})", words.join(" ")) };
        Self::Refused { reason }
    }
}

#[cfg(test)]
mod tests {
    use super::LoginError;

    #[test]
    fn a_missing_entitlement_is_explained() {
        let error = LoginError::refused("access_denied", "x missing_codex_entitlement y");
        assert!(error.to_string().contains("administrator"), "{error}");
    }

    #[test]
    fn the_issuers_words_are_shown_without_addresses_and_long_words() {
        let long = "e".repeat(60);
        let error = LoginError::refused("access_denied", &format!("ann@example.com said no {long}"));
        assert_eq!(error.to_string(), "the issuer refused the sign-in: said no (access_denied)");
        assert!(!LoginError::refused(&long.to_uppercase(), "").to_string().contains("EEE"));
    }
}
