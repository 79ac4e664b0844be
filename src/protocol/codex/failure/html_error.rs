//! Web pages in the place of an answer: whose they are, and that no client gets to see one.
//!
//! Cloudflare guards the backend. Its pages say by their words whether it wants proof that a person
//! asks, which no program can give, or has closed the door to a network; a person can do something
//! about either only when told which it is. Markup may also stand inside a message.

use http::HeaderMap;

use super::text_header;

/// Longest part of a page that is looked at; what tells pages apart stands at their beginning.
const HEAD_BYTES: usize = 16 * 1024;
const BOT_CHECK: [&str; 4] = ["just a moment", "cf-chl", "challenge-platform", "enable javascript and cookies"];
const MARKUP: [&str; 9] = ["<!doctype", "<html", "<head", "<body", "<title", "<script", "<center", "<h1", "<div"];
const BLOCK: [&str; 3] = ["you have been blocked", "error 1020", "error code: 1020"];

/// What Cloudflare says, where it is Cloudflare that speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// It wants proof that a person asks.
    BotCheck,
    /// The network or its country is locked out.
    Block,
    /// Nothing of the kind.
    Silent,
}

impl Guard {
    /// Reads headers and body of an answer that is no JSON.
    pub(super) fn of(headers: &HeaderMap, body: &[u8]) -> Self {
        if text_header(headers, "cf-mitigated").is_some_and(|value| value.eq_ignore_ascii_case("challenge")) {
            return Self::BotCheck;
        }
        let head = body.get(..HEAD_BYTES).unwrap_or(body);
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if says(&BOT_CHECK) {
            Self::BotCheck
        } else if says(&BLOCK) {
            Self::Block
        } else {
            Self::Silent
        }
    }
}

/// Whether an answer is a web page.
pub(super) fn is_web_page(headers: &HeaderMap, body: &[u8]) -> bool {
    let is_declared = text_header(headers, "content-type").is_some_and(|kind| kind.starts_with("text/html"));
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    is_declared || body.starts_with(b"<")
}

/// Whether a message holds a web page, whole or in part.
#[must_use]
pub fn has_markup(message: &str) -> bool {
    let text = message.to_ascii_lowercase();
    MARKUP.iter().any(|tag| text.contains(tag))
}
