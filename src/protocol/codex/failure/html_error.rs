//! Detects web pages that were sent in place of an API response, and why Cloudflare sent one.
//!
//! Cloudflare protects the backend. Its pages either require a browser check, which no program can pass, or block a
//! network. The error message says which, because the user can act on it. Clients never receive a page, nor a message
//! that contains markup.

use http::HeaderMap;

use super::text_header;

/// Length of the start of a page that is searched: the distinctive text is there.
const SEARCHED_BYTES: usize = 16 * 1024;
/// Texts of pages with a browser check, in lower case like the others below.
const BOT_CHECK: [&str; 4] = ["just a moment", "cf-chl", "challenge-platform", "enable javascript and cookies"];
const MARKUP: [&str; 9] = ["<!doctype", "<html", "<head", "<body", "<title", "<script", "<center", "<h1", "<div"];
/// Texts of pages for a blocked network.
const NETWORK_BLOCK: [&str; 3] = ["you have been blocked", "error 1020", "error code: 1020"];

/// How Cloudflare blocked a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloudflareBlock {
    /// It requires a browser check.
    BotCheck,
    /// It blocks the network or its country.
    Network,
    /// It didn't block the request.
    None,
}

impl CloudflareBlock {
    /// Examines a response. Pass an empty body if it is JSON, which may quote the texts of a page.
    pub(super) fn of(headers: &HeaderMap, body: &[u8]) -> Self {
        if text_header(headers, "cf-mitigated").is_some_and(|value| value.eq_ignore_ascii_case("challenge")) {
            return Self::BotCheck;
        }
        let head = body.get(..SEARCHED_BYTES).unwrap_or(body);
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let contains = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
        if contains(&BOT_CHECK) {
            Self::BotCheck
        } else if contains(&NETWORK_BLOCK) {
            Self::Network
        } else {
            Self::None
        }
    }
}

/// Whether a response is a web page: it is declared as HTML, or starts with `<`.
pub(super) fn is_web_page(headers: &HeaderMap, body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    is_html(headers) || body.starts_with(b"<")
}

/// Whether a response is declared as HTML or XHTML.
#[must_use]
pub fn is_html(headers: &HeaderMap) -> bool {
    has_media_type(headers, "text/html") || has_media_type(headers, "application/xhtml+xml")
}

/// Whether a response has this media type, with any parameters.
#[must_use]
pub fn has_media_type(headers: &HeaderMap, media_type: &str) -> bool {
    let declared = text_header(headers, "content-type").unwrap_or_default();
    declared.split(';').next().is_some_and(|declared| declared.trim_end().eq_ignore_ascii_case(media_type))
}

/// Whether a message contains markup of a web page.
#[must_use]
pub fn has_markup(message: &str) -> bool {
    let text = message.to_ascii_lowercase();
    MARKUP.iter().any(|tag| text.contains(tag))
}
