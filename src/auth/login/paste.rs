//! Parses what the user pastes at the prompt while a login waits for the browser.
//!
//! The address that the browser was redirected to must contain the state of this login, like a callback. A bare
//! authorization code is accepted: the issuer checks it. Anything else is an error, after which the login keeps
//! waiting. Pure.

use std::sync::Arc;

use super::callback::{CallbackError, CallbackResult, parse_query};
use crate::secret::Secret;

/// Parses pasted lines for one login.
#[derive(Clone, Debug)]
pub struct PasteParser {
    state: Arc<Secret>,
}

/// A pasted line that completes the login.
#[derive(Debug)]
pub struct PastedReply(CallbackResult);

/// Why a pasted line doesn't complete the login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasteError {
    /// An address with another state, or without one.
    #[error("this address belongs to another login; paste the one that the browser was redirected to last")]
    Foreign,
    /// An address of this login without a code.
    #[error("this address contains no code")]
    Empty,
    /// Anything else.
    #[error("this is neither the address that the browser was redirected to nor the code in it")]
    Unknown,
}

impl PasteParser {
    pub(super) fn new(state: Arc<Secret>) -> Self {
        Self { state }
    }

    /// Parses a line. Returns `None` if it is empty.
    ///
    /// # Errors
    /// If the line doesn't complete this login.
    pub fn read(&self, line: &str) -> Result<Option<PastedReply>, PasteError> {
        let text = line.trim().trim_matches(['"', '\'', '<', '>']);
        if text.is_empty() {
            return Ok(None);
        }
        let result = match query(text) {
            Some(query) => parse_query(&self.state, query).map_err(|error| match error {
                CallbackError::Foreign => PasteError::Foreign,
                CallbackError::Empty => PasteError::Empty,
            })?,
            None if is_bare_code(text) => CallbackResult::Code(Secret::new(text)),
            None => return Err(PasteError::Unknown),
        };
        Ok(Some(PastedReply(result)))
    }
}

impl PastedReply {
    pub(super) fn into_result(self) -> CallbackResult {
        self.0
    }
}

/// Returns the query of an address or of a part of one, or `None` if there is no address.
fn query(text: &str) -> Option<&str> {
    let text = text.split('#').next().unwrap_or_default();
    let after = text.split_once('?').map(|(_, query)| query);
    after.or_else(|| (text.contains("code=") || text.contains("://")).then_some(text))
}

fn is_bare_code(text: &str) -> bool {
    (6..=4096).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::{CallbackResult, PasteError, PasteParser, Secret};

    fn pasted(line: &str) -> Result<Option<String>, PasteError> {
        let reader = PasteParser::new(Secret::new("STATE").into());
        Ok(reader.read(line)?.map(|pasted| match pasted.0 {
            CallbackResult::Code(code) => code.expose().to_owned(),
            CallbackResult::Failed(error) => format!("failed: {error}"),
        }))
    }

    #[test]
    fn an_address_needs_the_state_of_this_login() {
        for line in [
            "http://localhost:1455/auth/callback?code=ac_1&scope=openid&state=STATE\n",
            "  \"http://127.0.0.1:1457/auth/callback?state=STATE&code=ac_1#\"  ",
            "localhost:1455/auth/callback?code=ac_1&state=STATE",
            "?code=ac_1&state=STATE",
            "code=ac_1&state=STATE",
        ] {
            assert_eq!(pasted(line), Ok(Some("ac_1".to_owned())), "{line}");
        }
        for line in [
            "http://localhost:1455/auth/callback?code=ac_1&state=OTHER",
            "http://localhost:1455/auth/callback?code=ac_1",
            "http://localhost:1455/auth/callback",
            "code=ac_1",
        ] {
            assert_eq!(pasted(line), Err(PasteError::Foreign), "{line}");
        }
        assert_eq!(pasted("http://localhost:1455/auth/callback?state=STATE"), Err(PasteError::Empty));
    }

    #[test]
    fn an_error_in_the_address_fails_the_login() {
        let error = pasted("http://localhost:1455/auth/callback?state=STATE&error=access_denied").unwrap().unwrap();
        assert!(error.starts_with("failed: ") && error.contains("access_denied"), "{error}");
    }

    #[test]
    fn a_bare_code_is_accepted_and_other_text_is_not() {
        assert_eq!(pasted("ac_9-xY.z~1"), Ok(Some("ac_9-xY.z~1".to_owned())));
        assert_eq!(pasted("   "), Ok(None));
        for line in ["y", "help me", "what now?"] {
            assert!(pasted(line).is_err(), "{line}");
        }
    }
}
