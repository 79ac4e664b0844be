//! Markup for text from outside the program. Templates escape it; these functions also handle what escaping doesn't.

use std::fmt::Display;

use maud::{Markup, html};

/// Replaces control characters, which aren't allowed in an HTML document.
pub(super) fn text(text: impl Display) -> String {
    let is_allowed = |character: char| !character.is_control() || character == '\n';
    text.to_string().chars().map(|c| if is_allowed(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// A name in any script: it can't change the direction of the text around it.
pub(super) fn name(name: impl Display) -> Markup {
    html! { bdi { (text(name)) } }
}

/// A message with commands between backticks.
pub(super) fn message(message: &str) -> Markup {
    html! {
        @for (index, part) in text(message).split('`').enumerate() {
            @if index % 2 == 0 { (part) } @else { code { (part) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{message, name, text};

    #[test]
    fn a_message_shows_its_commands_as_code() {
        let shown = message("run `codex-proxy <login>` now").into_string();
        assert_eq!(shown, "run <code>codex-proxy &lt;login&gt;</code> now");
    }

    proptest! {
        #[test]
        fn a_name_stays_text(given in any::<String>()) {
            let written = name(&given).into_string();
            let inner = written.strip_prefix("<bdi>").and_then(|rest| rest.strip_suffix("</bdi>")).unwrap();
            prop_assert!(!inner.contains(['<', '>', '"']));
            prop_assert!(!inner.chars().any(|character| character.is_control() && character != '\n'));
            let back = inner.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
            prop_assert_eq!(back, text(&given));
        }
    }
}
