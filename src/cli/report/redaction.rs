//! What of settings and log lines may stand in a report: plain words and small numbers.
//!
//! A value is taken over only for settings that can't hold anything private, and only if it looks as
//! such a value does. In a line of the log everything that is not a plain word, the name of a field,
//! a small number or a time is replaced by its shape.

use crate::upstream::{Omitted, Strange, cassette};

/// Settings whose values are words and numbers of ours.
const TOLD: &[&str] = &[
    "allow_other_users",
    "auth.scopes",
    "auth.store",
    "chat.",
    "default_model",
    "limits.",
    "log.format",
    "log.level",
    "responses.",
    "timing.",
    "upstream.body",
    "upstream.client_version",
    "upstream.compression",
    "upstream.connect_timeout",
    "upstream.first_event_timeout",
    "upstream.idle_timeout",
    "upstream.max_retries",
    "upstream.retry_budget",
    "upstream.transport",
    "upstream.trust_host",
    "usage.",
];
const LONGEST_WORD: usize = 14;
const HIDDEN: &str = "(hidden)";
const EMPTY: &[&str] = &["\"\"", "[]", "{}"];

/// A setting's value, where it may be known.
pub(super) fn setting(key: &str, value: &str) -> String {
    let is_told = TOLD.iter().any(|told| if told.ends_with('.') { key.starts_with(told) } else { key == *told });
    let mut parts = value.split(['"', '[', ']', ',', ' ']).filter(|part| !part.is_empty());
    let is_plain = |part: &str| cassette::is_word(part) || is_measure(part);
    if EMPTY.contains(&value) || (is_told && parts.all(is_plain)) { value.to_owned() } else { HIDDEN.to_owned() }
}

/// A word of somebody else, where it looks like one.
pub(super) fn word(text: &str) -> String {
    if cassette::is_word(text) { text.to_owned() } else { HIDDEN.to_owned() }
}

/// What a daemon has counted, if it is ours.
pub(super) fn drift(counted: Vec<Strange>) -> Vec<Strange> {
    counted
        .into_iter()
        .map(|strange| Strange { what: word(&strange.what).into(), name: word(&strange.name), ..strange })
        .collect()
}

/// What a daemon leaves out of requests, if it is ours.
pub(super) fn omitted(members: Vec<Omitted>) -> Vec<Omitted> {
    let told = |omitted: Omitted| Omitted { model: word(&omitted.model), member: word(&omitted.member) };
    members.into_iter().map(told).collect()
}

/// A line of the log. What follows a name such as `bearer`, `key` or `password` is always masked, because a secret of
/// small letters looks like a word.
pub(super) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut follows_secret_name = false;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c: char| is_part(c) != is_part(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(length);
        let is_separator = !run.contains(char::is_alphanumeric);
        let is_secret_name = !is_separator && names_secret(run);
        let is_kept = is_separator
            || (is_plain(run.trim_end_matches(['.', ':']), after) && (is_secret_name || !follows_secret_name));
        out.push_str(&if is_kept { run.to_owned() } else { cassette::shaped(run) });
        follows_secret_name = is_secret_name || (is_separator && follows_secret_name);
        rest = after;
    }
    out
}

/// Signs that hold together what must be judged as one: an address, a token, a time.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || "_-.:@+/%~$".contains(c) || !c.is_ascii()
}

/// Whether the word says that a secret follows, in any case.
fn names_secret(run: &str) -> bool {
    const PARTS: [&str; 8] = ["authorization", "bearer", "cookie", "credential", "key", "passw", "secret", "token"];
    let run = run.to_ascii_lowercase();
    PARTS.iter().any(|part| run.contains(part)) || run.trim_end_matches(':') == "basic"
}

fn is_plain(run: &str, after: &str) -> bool {
    let is_named = after.starts_with('=') || after.starts_with("\":");
    let is_letters = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_code = cassette::is_word(run) && run.split('_').all(|part| is_letters(part) && part.len() <= LONGEST_WORD);
    let is_level = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&run);
    run.is_empty() || is_level || is_code || is_measure(run) || is_time(run) || (is_named && cassette::is_word(run))
}

/// A small number, with a unit or without.
fn is_measure(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    text.starts_with(|first: char| first.is_ascii_digit())
        && digits <= 6
        && letters <= 3
        && digits + letters == text.len()
}

/// `2026-11-21T09:45:00.123456Z` and nothing else.
fn is_time(text: &str) -> bool {
    let shape = text.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
    let shape: Vec<u8> = shape.collect();
    shape.starts_with(b"0000-00-00T00:00:00")
        && text.len() <= 27
        && text.ends_with('Z')
        && text.matches('.').count() <= 1
}

#[cfg(test)]
mod tests {
    use super::{line, setting};

    #[test]
    fn settings_that_hold_words_and_numbers_are_told() {
        for (key, value) in [
            ("timing.drain", "\"1h30m\""),
            ("limits.body", "\"64MiB\""),
            ("upstream.transport", "\"sse\""),
            ("auth.scopes", "[\"openid\", \"offline_access\"]"),
            ("keys", "[]"),
            ("account", "\"\""),
            ("chat.reasoning_replay", "true"),
        ] {
            assert_eq!(setting(key, value), value);
        }
        for (key, value) in [
            ("account", "\"acct-plain\""),
            ("keys", "[{ name = \"laptop\" }]"),
            ("upstream.url", "\"https://relay.example\""),
            ("default_model", "\"sk-abc\""),
            ("chat.reasoning_field", "\"me@example.com\""),
        ] {
            assert_eq!(setting(key, value), "(hidden)", "{key}");
        }
    }

    #[test]
    fn a_line_keeps_words_times_and_codes() {
        let plain =
            "2026-11-21T09:45:00.123456Z  WARN request ended status=502 outcome=upstream_silent duration_ms=1200";
        assert_eq!(line(plain), plain);
        for secret in [
            "me@example.com",
            "10.0.0.7",
            "sk-canary-key",
            "acct-canary",
            "rt_canary",
            "eyJhbGciOiJI",
            "Bob",
            "canary%40x",
        ] {
            let told = line(&format!("WARN refused key={secret} for \"{secret}\""));
            assert!(told.starts_with("WARN refused key=") && !told.contains(secret), "{told}");
        }
    }

    #[test]
    fn a_secret_of_small_letters_is_masked_by_the_name_before_it() {
        for text in [
            "authorization: bearer hunter",
            "Authorization: Bearer hunter",
            "x-api-key: hunter",
            "WARN refused key=hunter status=401",
            "{\"api_key\":\"hunter\"}",
            "cookie: hunter",
            "access token hunter",
            "Basic hunter",
        ] {
            assert!(!line(text).contains("hunter"), "{}", line(text));
        }
        assert_eq!(line("WARN refused key=hunter status=401"), "WARN refused key=xxxxxx status=401");
    }
}
