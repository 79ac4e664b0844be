//! The limit on tokens that a client of Chat or of text completions asks for.
//!
//! The backend refuses any limit, so it is held here or not at all (`chat.token_limit`). Counted
//! are visible text, refusals, and arguments of calls. The official service also counts hidden
//! reasoning, which can't be seen here: an answer with much reasoning may be longer than there.

use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::{Field, whole};
use crate::protocol::tokens::TokenLimit;

/// Its names, the newer ones first; the second is that of the Responses shape.
const NAMES: [&str; 3] = ["max_completion_tokens", "max_output_tokens", "max_tokens"];

/// What is said about the limit in a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct AskedLimits([Option<f64>; NAMES.len()]);

impl AskedLimits {
    /// Whether a member of the request is about the limit.
    #[must_use]
    pub fn has(name: &str) -> bool {
        NAMES.contains(&name)
    }

    /// Takes such a member.
    ///
    /// # Errors
    /// When it is no number.
    pub fn take(&mut self, name: &str, field: &Field<'_, '_>) -> Result<(), ProxyError> {
        let number = field.number()?;
        if let Some((_, asked)) = NAMES.iter().zip(&mut self.0).find(|(own, _)| **own == name) {
            *asked = Some(number);
        }
        Ok(())
    }

    /// The limit to enforce. The newer name wins. Where limits are ignored a client may send any
    /// number, since some mean "none" by -1.
    ///
    /// # Errors
    /// When limits are refused, or one is enforced that is none.
    pub fn settle(self, policy: TokenLimit) -> Result<Option<u64>, ProxyError> {
        let mut asked = NAMES.into_iter().zip(self.0).filter_map(|(name, number)| Some((name, number?)));
        match policy {
            TokenLimit::Ignore => Ok(None),
            TokenLimit::Reject => asked.next().map_or(Ok(None), |(name, _)| Err(unsupported(name))),
            TokenLimit::Enforce => {
                let limits: Vec<u64> = asked.map(|(name, number)| positive(name, number)).collect::<Result<_, _>>()?;
                Ok(limits.first().copied())
            }
        }
    }
}

/// The same for a request with one limit, under this name.
///
/// # Errors
/// As for [`AskedLimits::settle`].
pub fn settle(name: &str, asked: Option<f64>, policy: TokenLimit) -> Result<Option<u64>, ProxyError> {
    match (policy, asked) {
        (TokenLimit::Ignore, _) | (_, None) => Ok(None),
        (TokenLimit::Reject, Some(_)) => Err(unsupported(name)),
        (TokenLimit::Enforce, Some(number)) => positive(name, number).map(Some),
    }
}

fn unsupported(name: &str) -> ProxyError {
    let message = format!("'{name}' is not available on this backend (the proxy can cut answers: chat.token_limit)");
    Refusal::unsupported_parameter(name, message)
}

fn positive(name: &str, number: f64) -> Result<u64, ProxyError> {
    let complaint = || Refusal::invalid(name, format!("'{name}' must be a whole number above zero"));
    whole(number).filter(|limit| *limit > 0).ok_or_else(complaint)
}

#[cfg(test)]
mod tests {
    use super::AskedLimits;
    use crate::protocol::tokens::TokenLimit;

    #[test]
    fn the_newer_name_wins() {
        let asked = AskedLimits([Some(7.0), Some(6.0), Some(5.0)]);
        assert_eq!(asked.settle(TokenLimit::Enforce).unwrap(), Some(7));
        let asked = AskedLimits([None, Some(6.0), Some(5.0)]);
        assert_eq!(asked.settle(TokenLimit::Enforce).unwrap(), Some(6));
        assert_eq!(asked.settle(TokenLimit::Ignore).unwrap(), None);
        assert_eq!(AskedLimits::default().settle(TokenLimit::Reject).unwrap(), None);
    }
}
