//! Errors of a login, for the user.
//!
//! The issuer's texts are quoted only in a form that can't contain a token or an e-mail address.

use super::ports::PortConflict;
use crate::auth::credential::TokenResponseError;
use crate::auth::issuer::{IssuerError, is_code};
use crate::command_hint::command;
use crate::token_source::AuthError;

/// Why a login failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Another login asked for the port.
    #[error("another login was started in the meantime")]
    Cancelled,
    /// The user didn't sign in in time.
    #[error("the sign-in was not completed within 15 minutes")]
    TimedOut,
    /// All registered ports are in use by other programs.
    #[error("{}; stop that program, or sign in with a code: `{}`", PortConflict::list(.0), command("login --device"))]
    PortsInUse(Vec<PortConflict>),
    /// A port can't be used for another reason.
    #[error("port {port} can't be used: {reason}")]
    Port {
        /// The port.
        port: u16,
        /// The system's error.
        reason: String,
    },
    /// The workspace doesn't allow Codex.
    #[error("Codex is not enabled for your workspace; ask its administrator to enable it")]
    NotEntitled,
    /// The issuer sent an error instead of a code.
    #[error("the issuer refused the sign-in: {reason}")]
    Refused {
        /// The issuer's error.
        reason: String,
    },
    /// Device codes aren't enabled.
    #[error(
        "signing in with a device code is not enabled; enable it in the security settings of ChatGPT (a workspace's \
         administrator can disable it), or run `{}`",
        command("login --no-browser")
    )]
    DeviceNotEnabled,
    /// The issuer returned no device code, or polling it failed.
    #[error("the device code could not be used: {0}")]
    NoDeviceCode(IssuerError),
    /// The user denied the sign-in on the issuer's page.
    #[error("the sign-in was denied on the page where the code is entered")]
    Denied,
    /// The device code wasn't used in time.
    #[error("the code was not used within 15 minutes; for a new one: `{}`", command("login --device"))]
    CodeExpired,
    /// The code couldn't be exchanged for tokens.
    #[error("the code could not be exchanged for tokens: {0}")]
    Exchange(IssuerError),
    /// The tokens can't be used.
    #[error(transparent)]
    TokenResponse(TokenResponseError),
    /// The store can't be used.
    #[error(transparent)]
    Store(AuthError),
}

impl LoginError {
    /// Creates the error for an error response, with only those parts of it that can be shown.
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
