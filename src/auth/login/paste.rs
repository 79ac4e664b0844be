//! What a person pastes at the prompt while a login waits for its browser.
//!
//! The address that the browser was sent to counts only with the state of this login, like a
//! callback; a bare code can't be checked, and the issuer will. Whatever else is pasted is told
//! apart, so that the waiting can go on. Pure.

use std::sync::Arc;

use super::callback::{Message, Unread, read};
use crate::secret::Secret;

/// Makes sense of what is pasted. Clones share the state of one login.
#[derive(Clone, Debug)]
pub struct Reader {
    state: Arc<Secret>,
}

/// Something that ends the waiting.
#[derive(Debug)]
pub struct Pasted(Message);

/// Why what was pasted does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasteError {
    /// An address with another state, or none.
    #[error("this address is not of this login; paste the one that the browser was sent to last")]
    Foreign,
    /// An address of this login without a code.
    #[error("there is no code in this address")]
    Empty,
    /// Something else.
    #[error("this is neither the address that the browser was sent to nor the code in it")]
    Unknown,
}

impl Reader {
    pub(super) fn new(state: Arc<Secret>) -> Self {
        Self { state }
    }

    /// Reads a pasted line; `None`: there is nothing in it.
    ///
    /// # Errors
    /// When it is no answer to this login.
    pub fn read(&self, line: &str) -> Result<Option<Pasted>, PasteError> {
        let text = line.trim().trim_matches(['"', '\'', '<', '>']);
        if text.is_empty() {
            return Ok(None);
        }
        let message = match query(text) {
            Some(query) => read(&self.state, query).map_err(|unread| match unread {
                Unread::Foreign => PasteError::Foreign,
                Unread::Empty => PasteError::Empty,
            })?,
            None if is_bare_code(text) => Message::Code(Secret::new(text)),
            None => return Err(PasteError::Unknown),
        };
        Ok(Some(Pasted(message)))
    }
}

impl Pasted {
    pub(super) fn into_message(self) -> Message {
        self.0
    }
}

/// The query of an address, or of the part of one; `None`: there is no address.
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
    use super::{Message, PasteError, Reader, Secret};

    fn pasted(line: &str) -> Result<Option<String>, PasteError> {
        let reader = Reader::new(Secret::new("STATE").into());
        Ok(reader.read(line)?.map(|pasted| match pasted.0 {
            Message::Code(code) => code.expose().to_owned(),
            Message::Failed(error) => format!("failed: {error}"),
        }))
    }

    #[test]
    fn an_address_counts_with_the_state_of_this_login() {
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
    fn an_error_in_the_address_is_one() {
        let told = pasted("http://localhost:1455/auth/callback?state=STATE&error=access_denied").unwrap().unwrap();
        assert!(told.starts_with("failed: ") && told.contains("access_denied"), "{told}");
    }

    #[test]
    fn a_bare_code_is_taken_and_small_talk_is_not() {
        assert_eq!(pasted("ac_9-xY.z~1"), Ok(Some("ac_9-xY.z~1".to_owned())));
        assert_eq!(pasted("   "), Ok(None));
        for line in ["y", "help me", "what now?"] {
            assert!(pasted(line).is_err(), "{line}");
        }
    }
}
