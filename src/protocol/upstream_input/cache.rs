//! Chooses the prompt cache key, which must be the same in every turn of a conversation.
//!
//! The client's key comes first, then the session in its headers. Otherwise the key is derived from the parts of a
//! request that stay the same while the conversation grows.

use std::borrow::Cow;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::protocol::Context;
use crate::protocol::codex::Request;
use crate::protocol::json::input_text::JsonText;

/// A longer text of the first user message goes into a derived key only up to this length.
const PREFIX_BYTES: usize = 64 * 1024;
/// The longest key, or id in a header, that the backend accepts, in characters.
pub const MAX_CHARS: usize = 64;

/// The headers that name a client's session, in order of precedence.
pub const SESSION_HEADERS: [&str; 4] = ["session-id", "session_id", "x-session-id", "x-session-affinity"];

const REMINDER_OPEN: &str = "<system-reminder>";
const REMINDER_CLOSE: &str = "</system-reminder>";

/// Returns the key of a request: `sent` (the client's `prompt_cache_key`), else the session in the client's headers,
/// else a hash of client key, `user`, model, instructions, tools and the first user message.
#[must_use]
pub fn choose<'a>(
    sent: Option<Cow<'a, str>>,
    user: Option<&str>,
    context: &Context<'_>,
    upstream: &Request<'a>,
    first_user_text: &str,
) -> Cow<'a, str> {
    if let Some(key) = sent.filter(|key| !key.trim().is_empty()) {
        return fit(key);
    }
    if let Some(session) = session(context.headers) {
        return Cow::Owned(session);
    }
    let mut hash = KeyHash::default();
    for part in [context.key.unwrap_or_default(), user.unwrap_or_default(), &upstream.model, &upstream.instructions] {
        hash.part(part.as_bytes());
    }
    hash.array(upstream.tools.iter().map(|tool| tool.json().get()));
    hash.part(without_reminders(first_user_text).as_bytes());
    Cow::Owned(hash.finish())
}

/// Returns a key unchanged, or its hash if it is too long.
#[must_use]
pub fn fit(key: Cow<'_, str>) -> Cow<'_, str> {
    if key.chars().take(MAX_CHARS + 1).count() <= MAX_CHARS { key } else { Cow::Owned(derive(&[key.as_bytes()])) }
}

/// Returns the session id in the client's headers, as a key.
#[must_use]
pub fn session(headers: &HeaderMap) -> Option<String> {
    SESSION_HEADERS
        .into_iter()
        .find_map(|name| header(headers, name))
        .map(|value| fit(Cow::Borrowed(value)).into_owned())
}

/// Returns the text of a header. `None` if it is missing, blank or not ASCII.
#[must_use]
pub fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then_some(value)
}

/// Hashes `parts` to a key in the form of a UUID.
#[must_use]
pub fn derive(parts: &[&[u8]]) -> String {
    let mut hash = KeyHash::default();
    for part in parts {
        hash.part(part);
    }
    hash.finish()
}

#[derive(Default)]
struct KeyHash(Sha256);

impl KeyHash {
    fn part(&mut self, part: &[u8]) {
        self.length(part.len());
        self.0.update(part);
    }

    /// Adds a JSON array as one part, without building it.
    fn array<'e>(&mut self, elements: impl Iterator<Item = &'e str> + Clone) {
        let (count, bytes) =
            elements.clone().fold((0, 0), |(count, bytes), element| (count + 1, bytes + element.len()));
        self.length("[]".len() + usize::saturating_sub(count, 1) + bytes);
        self.0.update("[");
        for (index, element) in elements.enumerate() {
            if index > 0 {
                self.0.update(",");
            }
            self.0.update(element);
        }
        self.0.update("]");
    }

    /// The length makes ("a", "bc") and ("ab", "c") different.
    fn length(&mut self, bytes: usize) {
        self.0.update((bytes as u64).to_be_bytes());
    }

    fn finish(self) -> String {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(self.0.finalize()).for_each(|(byte, hashed)| *byte = hashed);
        uuid::Uuid::from_bytes(bytes).to_string()
    }
}

/// Joins the texts of the first user message, for the key. Of a long text, only the first `PREFIX_BYTES` are used, with
/// their JSON escapes, unless reminders have to be removed from it.
#[must_use]
pub fn text_prefix<'w>(texts: impl IntoIterator<Item = &'w JsonText<'w>>) -> String {
    let mut prefix = String::new();
    for text in texts {
        let is_long = text.written_bytes() > PREFIX_BYTES && !text.starts_with(REMINDER_OPEN);
        match text.escaped().filter(|_| is_long) {
            Some(escaped) => prefix.push_str(truncated(escaped)),
            None => prefix.push_str(&text.read()),
        }
    }
    prefix
}

/// The first [`PREFIX_BYTES`] of a text, up to a character boundary.
fn truncated(text: &str) -> &str {
    (0..=PREFIX_BYTES).rev().find_map(|end| text.get(..end)).unwrap_or(text)
}

/// Returns a user's text without the leading `<system-reminder>` blocks of Claude Code, which change in every turn.
#[must_use]
fn without_reminders(text: &str) -> &str {
    let mut rest = text.trim_start();
    while let Some((_, after)) = rest.strip_prefix(REMINDER_OPEN).and_then(|inside| inside.split_once(REMINDER_CLOSE)) {
        rest = after.trim_start();
    }
    rest
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{JsonText, KeyHash, PREFIX_BYTES, REMINDER_OPEN, derive, fit, session, text_prefix, without_reminders};

    #[test]
    fn only_the_start_of_a_long_text_without_reminders_is_used() {
        let prefix = |start: &str, bytes: usize| {
            let literal = serde_json::value::to_raw_value(&(start.to_owned() + &"x".repeat(bytes))).unwrap();
            text_prefix([&JsonText::from_literal(&literal).unwrap()])
        };
        assert_eq!(prefix("", PREFIX_BYTES + 1), prefix("", PREFIX_BYTES + 2));
        assert_ne!(prefix("", PREFIX_BYTES - 2), prefix("", PREFIX_BYTES - 1));
        assert_ne!(prefix(REMINDER_OPEN, PREFIX_BYTES + 1), prefix(REMINDER_OPEN, PREFIX_BYTES + 2));
    }

    #[test]
    fn an_array_hashes_like_its_json() {
        for elements in [&[][..], &["{}"], &["{}", "[1]"]] {
            let mut hash = KeyHash::default();
            hash.array(elements.iter().copied());
            assert_eq!(hash.finish(), derive(&[format!("[{}]", elements.join(",")).as_bytes()]));
        }
    }

    #[test]
    fn a_short_key_is_kept_and_a_long_one_hashed() {
        let longest = "é".repeat(64);
        assert_eq!(fit(longest.as_str().into()), longest);
        let long = "k".repeat(65);
        let hashed = fit(long.as_str().into());
        assert!(uuid::Uuid::parse_str(&hashed).is_ok());
        assert_eq!(hashed, fit(long.as_str().into()));
    }

    #[test]
    fn the_first_session_header_wins() {
        let mut headers = HeaderMap::new();
        assert_eq!(session(&headers), None);
        headers.insert("x-session-affinity", HeaderValue::from_static("last"));
        assert_eq!(session(&headers).as_deref(), Some("last"));
        headers.insert("session_id", HeaderValue::from_static("first"));
        assert_eq!(session(&headers).as_deref(), Some("first"));
        headers.insert("session-id", HeaderValue::from_static("  "));
        assert_eq!(session(&headers).as_deref(), Some("first"), "an empty header is no session");
    }

    #[test]
    fn boundaries_between_parts_count() {
        assert_eq!(derive(&[b"a", b"bc"]), derive(&[b"a", b"bc"]));
        assert_ne!(derive(&[b"a", b"bc"]), derive(&[b"ab", b"c"]));
    }

    #[test]
    fn leading_reminders_are_skipped() {
        assert_eq!(
            without_reminders(" <system-reminder>a</system-reminder>\n<system-reminder>b</system-reminder> hi <b>"),
            "hi <b>"
        );
        assert_eq!(without_reminders("<system-reminder>open"), "<system-reminder>open");
    }
}
