//! A document in the making: what is not a literal of this program is escaped.
//!
//! Markup can only be `&'static str`, so that nothing that came from outside can become markup. What
//! has no place in a document (control characters) is replaced; names from outside are kept from
//! turning the direction of the text around them.

use std::fmt::{self, Display, Write as _};

/// A document, or a piece of one.
#[derive(Debug, Default)]
pub(super) struct Html(String);

/// Writes text so that it stays text, in an element as in a quoted attribute.
struct Escaped<'h>(&'h mut String);

impl Html {
    /// Markup of our own.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Any text.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        write!(Escaped(&mut self.0), "{text}").expect("a string takes all that is written");
        self
    }

    /// A name that came from outside, in whatever script.
    pub(super) fn name(&mut self, name: impl Display) -> &mut Self {
        self.raw("<bdi>").text(name).raw("</bdi>")
    }

    /// A sentence in which commands stand between backticks.
    pub(super) fn sentence(&mut self, sentence: &str) -> &mut Self {
        for (index, part) in sentence.split('`').enumerate() {
            match index % 2 {
                0 => self.text(part),
                _ => self.raw("<code>").text(part).raw("</code>"),
            };
        }
        self
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' => self.0.push('\n'),
                other if other.is_control() => self.0.push(char::REPLACEMENT_CHARACTER),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Html;

    fn written(text: &str) -> String {
        let mut html = Html::default();
        html.text(text);
        html.into_string()
    }

    #[test]
    fn a_sentence_shows_its_commands() {
        let mut html = Html::default();
        html.sentence("run `codex-proxy <login>` now");
        assert_eq!(html.into_string(), "run <code>codex-proxy &lt;login&gt;</code> now");
    }

    proptest! {
        #[test]
        fn text_stays_text(text in any::<String>()) {
            let written = written(&text);
            prop_assert!(!written.contains(['<', '>', '"', '\'']));
            prop_assert!(!written.chars().any(|character| character.is_control() && character != '\n'));
            let back = written.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
            let keep = |character: char| if character.is_control() && character != '\n' { '\u{fffd}' } else { character };
            prop_assert_eq!(back.replace("&amp;", "&"), text.chars().map(keep).collect::<String>());
        }
    }
}
