//! The page that a browser shows at the end of a login.
//!
//! One self-contained document in light and dark: no scripts, no images, nothing from other hosts and nothing about the
//! account. Pure.

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");
const CHECK_MARK: &str = "M5 12.5l4.5 4.5L19 7.5";
const CROSS: &str = "M7 7l10 10M17 7L7 17";

/// The page after a login that worked.
pub(super) fn success() -> String {
    page(
        "good",
        CHECK_MARK,
        "You are signed in",
        "codex-proxy can now use your ChatGPT plan.",
        &html! { "You can close this tab and go back to the terminal." },
    )
}

/// The page after a login that failed, with the reason.
pub(super) fn failure(reason: &str) -> String {
    let next = html! { "Nothing was changed. Run " code { "codex-proxy login" } " to try again." };
    page("bad", CROSS, "The sign-in did not work", reason, &next)
}

fn page(tone: &str, mark: &str, title: &str, text: &str, next: &Markup) -> String {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · codex-proxy" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    div.mark.(tone) aria-hidden="true" { svg viewBox="0 0 24 24" { path d=(mark) {} } }
                    h1 { (title) }
                    p.reason.(tone) { (text) }
                    p { (next) }
                    footer { "codex-proxy, on your own machine" }
                }
            }
        }
    };
    document.into_string()
}

#[cfg(test)]
mod tests {
    use super::{failure, success};

    #[test]
    fn the_page_loads_nothing_from_other_hosts() {
        for page in [success(), failure("no")] {
            for absent in ["http", "<script", "url("] {
                assert!(!page.contains(absent), "{absent}");
            }
        }
    }

    #[test]
    fn markup_in_a_reason_is_escaped() {
        let page = failure("<script>alert(\"{title}\")</script>");
        assert!(page.contains("&lt;script&gt;alert(&quot;{title}&quot;)"), "{page}");
    }
}
