//! The system prompt: texts that open a conversation become `instructions`.

use std::borrow::Cow;

use crate::error::{ProxyError, Refusal};
use crate::protocol::codex::request::{Item, Part, Role};

const BLANK_LINE: &str = "\n\n";

/// Joins system texts by a blank line; those with nothing but white space are passed over. `None`
/// where nothing is left. A single text is not copied.
#[must_use]
pub fn join<'a>(texts: impl IntoIterator<Item = Cow<'a, str>>) -> Option<Cow<'a, str>> {
    let mut texts = texts.into_iter().filter(|text| !text.trim().is_empty());
    let first = texts.next()?;
    Some(texts.fold(first, |mut joined, text| {
        let whole = joined.to_mut();
        whole.push_str(BLANK_LINE);
        whole.push_str(&text);
        joined
    }))
}

/// The instructions of a request. Where the system text is all there is, it becomes the input,
/// which must not be empty.
///
/// # Errors
/// When there is nothing to answer; `prompt` is the member that should hold it.
pub fn open<'a>(
    system: Option<Cow<'a, str>>,
    input: &mut Vec<Item<'a>>,
    prompt: &str,
    usual: &str,
) -> Result<Cow<'a, str>, ProxyError> {
    let usual = || Cow::Owned(usual.to_owned());
    if !input.is_empty() {
        return Ok(system.unwrap_or_else(usual));
    }
    let text = system.ok_or_else(|| Refusal::invalid(prompt, format!("'{prompt}' must hold something to answer")))?;
    input.push(Item::Message { role: Role::Developer, content: vec![Part::InputText(text.into())] });
    Ok(usual())
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
