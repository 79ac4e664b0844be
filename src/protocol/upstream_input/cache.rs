//! The prompt cache key: the same for every turn of a conversation, or the cache is never hit.
//!
//! A key of the client's, or a session that its headers name, is taken first; else the key is
//! derived from what stays the same while a conversation grows.

use std::borrow::Cow;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::protocol::Context;
use crate::protocol::codex::Request;
use crate::protocol::json::input_text::JsonText;

/// How much of a long text is looked at.
const BEGINNING_BYTES: usize = 64 * 1024;
/// The longest key, or id in a header, that the backend accepts.
pub const MAX_CHARS: usize = 64;

const SESSION_HEADERS: [&str; 4] = ["session-id", "session_id", "x-session-id", "x-session-affinity"];

const REMINDER_OPEN: &str = "<system-reminder>";
const REMINDER_CLOSE: &str = "</system-reminder>";

/// The key of a request: as the client sent it, that of its session, or one derived from what stays
/// the same over the turns of its conversation.
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

/// A key as the client wrote it, or its hash where it is too long.
#[must_use]
pub fn fit(key: Cow<'_, str>) -> Cow<'_, str> {
    if key.chars().take(MAX_CHARS + 1).count() <= MAX_CHARS { key } else { Cow::Owned(derive(&[key.as_bytes()])) }
}

/// The session that the client's headers name, as a key.
#[must_use]
pub fn session(headers: &HeaderMap) -> Option<String> {
    let named = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?.trim();
        (!value.is_empty()).then_some(value)
    };
    SESSION_HEADERS.into_iter().find_map(named).map(|value| fit(Cow::Borrowed(value)).into_owned())
}

/// A key, in the form of a UUID, from parts that stay the same over the turns of a conversation.
#[must_use]
pub fn derive(parts: &[&[u8]]) -> String {
    let mut hash = KeyHash::default();
    parts.iter().for_each(|part| hash.part(part));
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

    /// The length keeps ("a", "bc") and ("ab", "c") apart.
    fn length(&mut self, bytes: usize) {
        self.0.update((bytes as u64).to_be_bytes());
    }

    fn finish(self) -> String {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(self.0.finalize()).for_each(|(byte, hashed)| *byte = hashed);
        uuid::Uuid::from_bytes(bytes).to_string()
    }
}

/// What the first message of the user begins with, for its key: as much as tells conversations apart.
/// A longer text is not read; where its escapes begin and end does not matter then.
#[must_use]
pub fn beginning<'w>(texts: impl IntoIterator<Item = &'w JsonText<'w>>) -> String {
    let mut whole = String::new();
    for words in texts {
        let is_long = words.written_bytes() > BEGINNING_BYTES && !words.starts_with(REMINDER_OPEN);
        match words.escaped().filter(|_| is_long) {
            Some(escaped) => whole.push_str(front(escaped)),
            None => whole.push_str(&words.read()),
        }
    }
    whole
}

/// Up to [`BEGINNING_BYTES`] of a text.
fn front(text: &str) -> &str {
    (0..=BEGINNING_BYTES).rev().find_map(|end| text.get(..end)).unwrap_or(text)
}

/// A user's text without the reminders that some clients put before it, which change from turn to turn.
#[must_use]
pub fn without_reminders(text: &str) -> &str {
    let mut rest = text.trim_start();
    while let Some((_, after)) = rest.strip_prefix(REMINDER_OPEN).and_then(|inside| inside.split_once(REMINDER_CLOSE)) {
        rest = after.trim_start();
    }
    rest
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{KeyHash, derive, fit, session, without_reminders};

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
    fn the_first_session_header_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(session(&headers), None);
        headers.insert("x-session-affinity", HeaderValue::from_static("last"));
        assert_eq!(session(&headers).as_deref(), Some("last"));
        headers.insert("session_id", HeaderValue::from_static("first"));
        assert_eq!(session(&headers).as_deref(), Some("first"));
        headers.insert("session-id", HeaderValue::from_static("  "));
        assert_eq!(session(&headers).as_deref(), Some("first"), "an empty header names no session");
    }

    #[test]
    fn parts_keep_their_bounds() {
        assert_eq!(derive(&[b"a", b"bc"]), derive(&[b"a", b"bc"]));
        assert_ne!(derive(&[b"a", b"bc"]), derive(&[b"ab", b"c"]));
    }

    #[test]
    fn leading_reminders_are_passed_over() {
        assert_eq!(
            without_reminders(" <system-reminder>a</system-reminder>\n<system-reminder>b</system-reminder> hi <b>"),
            "hi <b>"
        );
        assert_eq!(without_reminders("<system-reminder>open"), "<system-reminder>open");
    }
}
