//! Builds `instructions`, the system prompt, from the system messages at the start of a conversation.

use std::borrow::Cow;

use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::{Item, Part, Role};

const BLANK_LINE: &str = "\n\n";

/// Joins texts with blank lines and skips blank texts. `None` if all are blank. A single text is not copied.
#[must_use]
pub fn join<'a>(texts: impl IntoIterator<Item = Cow<'a, str>>) -> Option<Cow<'a, str>> {
    let mut texts = texts.into_iter().filter(|text| !text.trim().is_empty());
    let first = texts.next()?;
    Some(texts.fold(first, |mut joined, text| {
        let buffer = joined.to_mut();
        buffer.push_str(BLANK_LINE);
        buffer.push_str(&text);
        joined
    }))
}

/// Returns the instructions of a request: the system prompt, else `default`. If `input` is empty, the system prompt
/// becomes a message in it, because the backend requires one, and `default` the instructions.
///
/// # Errors
/// If there is neither input nor a system prompt. `prompt` is the API's member for the conversation, which the error
/// names.
pub fn choose<'a>(
    system: Option<Cow<'a, str>>,
    input: &mut Vec<Item<'a>>,
    prompt: &str,
    default: &str,
) -> Result<Cow<'a, str>, ProxyError> {
    let default = || Cow::Owned(default.to_owned());
    if !input.is_empty() {
        return Ok(system.unwrap_or_else(default));
    }
    let text = system.ok_or_else(|| Refusal::invalid(prompt, format!("'{prompt}' must not be empty")))?;
    input.push(Item::Message { role: Role::Developer, content: vec![Part::InputText(text.into())] });
    Ok(default())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::join;

    #[test]
    fn texts_are_joined_by_a_blank_line_and_empty_ones_skipped() {
        let texts = ["a", " \n", "b", ""].map(Cow::Borrowed);
        assert_eq!(join(texts).as_deref(), Some("a\n\nb"));
        assert!(matches!(join([Cow::Borrowed("only")]), Some(Cow::Borrowed("only"))));
        assert_eq!(join(["", "\t"].map(Cow::Borrowed)), None);
    }
}
