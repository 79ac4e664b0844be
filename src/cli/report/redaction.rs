//! Redacts settings and log lines for a report.
//!
//! The value of a setting is kept only if the setting can't contain private data and the value consists of plain words
//! and small numbers. In a log line, everything except plain words, field names, small numbers and times is masked.

use crate::upstream::{RejectedParam, UnknownName, cassette};

/// Settings whose values aren't private; a name that ends with a period covers all settings below it.
const ALLOWED_SETTINGS: &[&str] = &[
    "allow_other_users",
    "audio.",
    "auth.scopes",
    "auth.store",
    "chat.",
    "default_model",
    "images.",
    "limits.",
    "log.format",
    "log.level",
    "responses.",
    "timing.",
    "upstream.accept_encoding",
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
/// Maximum length of a part of a word that is kept: a longer one may be a secret.
const MAX_WORD_CHARACTERS: usize = 14;
const HIDDEN: &str = "(hidden)";
const EMPTY: &[&str] = &["\"\"", "[]", "{}"];

/// Returns the value of a setting, or `(hidden)`.
pub(super) fn redact_setting(key: &str, value: &str) -> String {
    let matches = |name: &&str| if name.ends_with('.') { key.starts_with(*name) } else { key == *name };
    let is_allowed = ALLOWED_SETTINGS.iter().any(matches);
    let mut parts = value.split(['"', '[', ']', ',', ' ']).filter(|part| !part.is_empty());
    let is_plain = |part: &str| cassette::is_protocol_word(part) || is_measure(part);
    if EMPTY.contains(&value) || (is_allowed && parts.all(is_plain)) { value.to_owned() } else { HIDDEN.to_owned() }
}

/// Returns a text if it is a plain word, or `(hidden)`.
pub(super) fn redact_word(text: &str) -> String {
    if cassette::is_protocol_word(text) { text.to_owned() } else { HIDDEN.to_owned() }
}

/// Redacts what `/health` reports as unknown events. Another program could answer there.
pub(super) fn redact_drift(counted: Vec<UnknownName>) -> Vec<UnknownName> {
    let redact = |strange: UnknownName| UnknownName {
        what: redact_word(&strange.what).into(),
        name: redact_word(&strange.name),
        ..strange
    };
    counted.into_iter().map(redact).collect()
}

/// Redacts what `/health` reports as omitted request members.
pub(super) fn redact_omitted(members: Vec<RejectedParam>) -> Vec<RejectedParam> {
    let redact = |omitted: RejectedParam| RejectedParam {
        model: redact_word(&omitted.model),
        member: redact_word(&omitted.member),
    };
    members.into_iter().map(redact).collect()
}

/// Redacts a log line. The text after a name such as `bearer`, `key` or `password` is always masked, because a secret
/// of lower-case letters looks like a word.
pub(super) fn redact_line(text: &str) -> String {
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
        out.push_str(&if is_kept { run.to_owned() } else { cassette::mask(run) });
        follows_secret_name = is_secret_name || (is_separator && follows_secret_name);
        rest = after;
    }
    out
}

/// Whether a character can be part of an address, a token or a time, which are masked or kept as a whole.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || "_-.:@+/%~$".contains(c) || !c.is_ascii()
}

/// Whether a secret may follow this word.
fn names_secret(run: &str) -> bool {
    const PARTS: [&str; 8] = ["authorization", "bearer", "cookie", "credential", "key", "passw", "secret", "token"];
    let run = run.to_ascii_lowercase();
    PARTS.iter().any(|part| run.contains(part)) || run.trim_end_matches(':') == "basic"
}

/// Whether a run of characters is kept: a word of lower-case letters, a log level, a small number, a time, or the name
/// of a field, which `after` then continues with its value.
fn is_plain(run: &str, after: &str) -> bool {
    let is_named = after.starts_with('=') || after.starts_with("\":");
    let is_letters = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_code = cassette::is_protocol_word(run)
        && run.split('_').all(|part| is_letters(part) && part.len() <= MAX_WORD_CHARACTERS);
    let is_level = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&run);
    run.is_empty()
        || is_level
        || is_code
        || is_measure(run)
        || is_time(run)
        || (is_named && cassette::is_protocol_word(run))
}

/// Whether a text is a small number, with or without a unit.
fn is_measure(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    text.starts_with(|first: char| first.is_ascii_digit())
        && digits <= 6
        && letters <= 3
        && digits + letters == text.len()
}

/// Whether a text is a time such as `2026-11-21T09:45:00.123456Z`.
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
    use super::{redact_line, redact_setting};

    #[test]
    fn only_allowed_settings_with_plain_values_are_kept() {
        for (key, value) in [
            ("timing.drain", "\"1h30m\""),
            ("limits.body", "\"64MiB\""),
            ("audio.max_bytes", "\"25MiB\""),
            ("images.model", "\"gpt-image-2\""),
            ("images.timeout", "\"5m\""),
            ("upstream.transport", "\"sse\""),
            ("auth.scopes", "[\"openid\", \"offline_access\"]"),
            ("keys", "[]"),
            ("account", "\"\""),
            ("chat.reasoning_replay", "true"),
        ] {
            assert_eq!(redact_setting(key, value), value);
        }
        for (key, value) in [
            ("account", "\"acct-plain\""),
            ("keys", "[{ name = \"laptop\" }]"),
            ("upstream.url", "\"https://relay.example\""),
            ("default_model", "\"sk-abc\""),
            ("chat.reasoning_field", "\"me@example.com\""),
        ] {
            assert_eq!(redact_setting(key, value), "(hidden)", "{key}");
        }
    }

    #[test]
    fn a_line_keeps_words_times_and_codes() {
        let plain =
            "2026-11-21T09:45:00.123456Z  WARN request ended status=502 outcome=upstream_silent duration_ms=1200";
        assert_eq!(redact_line(plain), plain);
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
            let line = redact_line(&format!("WARN refused key={secret} for \"{secret}\""));
            assert!(line.starts_with("WARN refused key=") && !line.contains(secret), "{line}");
        }
    }

    #[test]
    fn a_secret_of_lower_case_letters_is_masked_after_a_secret_name() {
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
            assert!(!redact_line(text).contains("hunter"), "{}", redact_line(text));
        }
        assert_eq!(redact_line("WARN refused key=hunter status=401"), "WARN refused key=xxxxxx status=401");
    }
}
