//! Limits on output tokens.
//!
//! The backend rejects any limit, so only the proxy can enforce one (`chat.token_limit`). This module reads and checks
//! limits; the reply enforces them. Visible text, refusals and tool call arguments count. The official service also
//! counts hidden reasoning, which the proxy can't see, so a reply with much reasoning may be longer here.

use crate::error::{ProxyError, Refusal};
use crate::protocol::Ignored;
use crate::protocol::json::path::{Field, whole};
use crate::protocol::tokens::TokenLimit;

/// The names of the limit in OpenAI's APIs; the first one present counts.
const NAMES: [&str; 3] = ["max_completion_tokens", "max_output_tokens", "max_tokens"];

/// The token limits in a request of Chat or text completions, in the order of `NAMES`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenLimits([Option<f64>; NAMES.len()]);

impl TokenLimits {
    /// Reads a member if it is a token limit, and notes it in `ignored`. Returns whether it was one.
    ///
    /// # Errors
    /// If the limit is not a number.
    pub fn read(&mut self, name: &str, value: &Field<'_, '_>, ignored: &mut Ignored) -> Result<bool, ProxyError> {
        let Some((_, limit)) = NAMES.iter().zip(&mut self.0).find(|(own, _)| **own == name) else { return Ok(false) };
        *limit = Some(value.number()?);
        ignored.note(name);
        Ok(true)
    }

    /// Returns the limit to enforce, in tokens, and removes enforced limits from `ignored`. If the policy is to ignore
    /// limits, any number is accepted: some clients send -1 for "none".
    ///
    /// # Errors
    /// If limits are rejected and the request has one, or an enforced limit is not a positive integer.
    pub fn enforced(self, policy: TokenLimit, ignored: &mut Ignored) -> Result<Option<u64>, ProxyError> {
        let sent = NAMES.into_iter().zip(self.0).filter(|(_, limit)| limit.is_some());
        let limits = sent.map(|(name, limit)| enforced_limit(name, limit, policy)).collect::<Result<Vec<_>, _>>()?;
        if policy == TokenLimit::Enforce {
            ignored.retain(|member| !NAMES.contains(&member));
        }
        Ok(limits.into_iter().flatten().next())
    }
}

/// Returns the limit to enforce, in tokens; `None` without a limit, or if limits are ignored.
///
/// # Errors
/// As for [`TokenLimits::enforced`]; the error names the limit `name`.
pub fn enforced_limit(name: &str, limit: Option<f64>, policy: TokenLimit) -> Result<Option<u64>, ProxyError> {
    match (policy, limit) {
        (TokenLimit::Ignore, _) | (_, None) => Ok(None),
        (TokenLimit::Reject, Some(_)) => {
            let message = format!(
                "'{name}' is not available on this backend (set chat.token_limit to \"enforce\" to let the proxy enforce it)"
            );
            Err(Refusal::unsupported_parameter(name, message))
        }
        (TokenLimit::Enforce, Some(number)) => {
            let complaint = || Refusal::invalid(name, format!("'{name}' must be a whole number above zero"));
            whole(number).filter(|limit| *limit > 0).ok_or_else(complaint).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::TokenLimits;
    use crate::protocol::Ignored;
    use crate::protocol::tokens::TokenLimit;

    #[test]
    fn the_newer_name_wins() {
        let mut ignored = Ignored::default();
        let all = TokenLimits([Some(7.0), Some(6.0), Some(5.0)]);
        assert_eq!(all.enforced(TokenLimit::Enforce, &mut ignored).unwrap(), Some(7));
        let two = TokenLimits([None, Some(6.0), Some(5.0)]);
        assert_eq!(two.enforced(TokenLimit::Enforce, &mut ignored).unwrap(), Some(6));
        assert_eq!(two.enforced(TokenLimit::Ignore, &mut ignored).unwrap(), None);
        assert_eq!(TokenLimits::default().enforced(TokenLimit::Reject, &mut ignored).unwrap(), None);
    }
}
