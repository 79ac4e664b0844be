//! What the person sees in the browser at the end of a login.
//!
//! One self-contained page in light and dark, without scripts, images or anything from elsewhere,
//! and without a word about the account. Texts that are not ours are escaped. Pure.

const TEMPLATE: &str = include_str!("page.html");
const TICK: &str = r#"<path d="M5 12.5l4.5 4.5L19 7.5"/>"#;
const CROSS: &str = r#"<path d="M7 7l10 10M17 7L7 17"/>"#;

/// The page after a login that worked.
pub(super) fn success() -> String {
    fill(&[
        ("tone", "good"),
        ("mark", TICK),
        ("title", "You are signed in"),
        ("text", "codex-proxy can now use your ChatGPT plan."),
        ("next", "You can close this tab and go back to the terminal."),
    ])
}

/// The page after a login that failed, with the reason.
pub(super) fn failure(reason: &str) -> String {
    fill(&[
        ("tone", "bad"),
        ("mark", CROSS),
        ("title", "The sign-in did not work"),
        ("text", &escape(reason)),
        ("next", "Nothing was changed. Run <code>codex-proxy login</code> to try again."),
    ])
}

fn fill(values: &[(&str, &str)]) -> String {
    // One pass, so that a value that looks like a place is left alone.
    let mut page = String::with_capacity(TEMPLATE.len() + 256);
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once('{') {
        page.push_str(before);
        let value = after.split_once('}').and_then(|(name, behind)| {
            values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value, behind))
        });
        let (value, behind) = value.unwrap_or(("{", after));
        page.push_str(value);
        rest = behind;
    }
    page.push_str(rest);
    page
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::{failure, success};

    #[test]
    fn every_place_is_filled_and_nothing_comes_from_elsewhere() {
        for page in [success(), failure("no")] {
            for absent in ["{title}", "{text}", "{next}", "{mark}", "{tone}", "http", "<script", "url("] {
                assert!(!page.contains(absent), "{absent}");
            }
        }
    }

    #[test]
    fn a_reason_can_bring_no_markup() {
        let page = failure("<script>alert('{title}')</script>");
        assert!(page.contains("&lt;script&gt;alert(&#39;{title}&#39;)"), "{page}");
    }
}
