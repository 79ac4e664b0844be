//! The client's limit on tokens: what it asks for, and where the answer is cut.
//!
//! The backend refuses any limit, so it is held here or not at all (`chat.token_limit`). Counted
//! are visible text, refusals, and arguments of calls. The official service also counts hidden
//! reasoning, which can't be seen here: an answer with much reasoning may be longer than there.

use std::ops::ControlFlow;

use super::reply::ChatReply;
use crate::error::{ProxyError, Refusal};
use crate::protocol::field::Field;
use crate::protocol::tokens::{Segment, TokenLimit};

/// What is said about the limit in a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AskedLimits {
    max_tokens: Option<f64>,
    max_completion_tokens: Option<f64>,
}

impl AskedLimits {
    /// Whether a member of the request is about the limit.
    pub(super) fn has(name: &str) -> bool {
        matches!(name, "max_tokens" | "max_completion_tokens")
    }

    pub(super) fn take(&mut self, name: &str, field: &Field<'_, '_>) -> Result<(), ProxyError> {
        let number = Some(field.number()?);
        match name {
            "max_tokens" => self.max_tokens = number,
            _ => self.max_completion_tokens = number,
        }
        Ok(())
    }

    /// The limit to enforce. The newer name wins. Where limits are ignored a client may send any
    /// number, since some mean "none" by -1.
    pub(super) fn settle(self, policy: TokenLimit) -> Result<Option<u64>, ProxyError> {
        let asked =
            [("max_completion_tokens", self.max_completion_tokens), ("max_tokens", self.max_tokens)].into_iter();
        let mut asked = asked.filter_map(|(name, number)| Some((name, number?)));
        match policy {
            TokenLimit::Ignore => Ok(None),
            TokenLimit::Reject => asked.next().map_or(Ok(None), |(name, _)| Err(unsupported(name))),
            TokenLimit::Enforce => {
                let limits: Vec<u64> = asked.map(|(name, number)| whole(name, number)).collect::<Result<_, _>>()?;
                Ok(limits.first().copied())
            }
        }
    }
}

fn unsupported(name: &str) -> ProxyError {
    let message = format!("'{name}' is not available on this backend (the proxy can cut answers: chat.token_limit)");
    Refusal::unsupported_parameter(name, message)
}

fn whole(name: &str, number: f64) -> Result<u64, ProxyError> {
    if number < 1.0 || number.fract() != 0.0 {
        return Err(Refusal::invalid(name, format!("'{name}' must be a whole number above zero")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and positive; `as` saturates")]
    Ok(number as u64)
}

impl ChatReply {
    /// What of a text is within the limit; breaks when that is not all of it.
    pub(super) fn admit<'t>(&mut self, segment: Segment, text: &'t str) -> ControlFlow<&'t str, &'t str> {
        self.shown.meter.as_mut().map_or(ControlFlow::Continue(text), |meter| meter.push(segment, text))
    }
}

#[cfg(test)]
mod tests {
    use super::AskedLimits;
    use crate::protocol::tokens::TokenLimit;

    #[test]
    fn the_newer_name_wins() {
        let asked = AskedLimits { max_tokens: Some(5.0), max_completion_tokens: Some(7.0) };
        assert_eq!(asked.settle(TokenLimit::Enforce).unwrap(), Some(7));
        let asked = AskedLimits { max_completion_tokens: None, ..asked };
        assert_eq!(asked.settle(TokenLimit::Enforce).unwrap(), Some(5));
        assert_eq!(asked.settle(TokenLimit::Ignore).unwrap(), None);
        assert_eq!(AskedLimits::default().settle(TokenLimit::Reject).unwrap(), None);
    }
}
