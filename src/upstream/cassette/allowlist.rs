//! Which words of an exchange may be written down: those of the protocol, never those of a person. Pure.
//!
//! Everything is replaced unless it stands here. A member's value is kept only where the member
//! holds words of the protocol, and only if it looks like one; a key, a token, an id or an address
//! does not.

/// What becomes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// A word of the protocol stays; anything else there is replaced by its shape.
    Word,
    /// Replaced by a name of ours, the same wherever it stands.
    Name,
    /// JSON in a text: it stays JSON.
    Json,
    /// Replaced by its shape.
    Shape,
}

/// Members that hold words of the protocol.
const WORDS: &[&str] = &[
    "type",
    "role",
    "status",
    "object",
    "phase",
    "effort",
    "verbosity",
    "summary",
    "format",
    "detail",
    "model",
    "service_tier",
    "truncation",
    "reason",
    "mode",
    "syntax",
    "tool_choice",
    "include",
    "output_format",
    "plan_type",
    "size",
    "quality",
    "background",
    "param",
    "search_context_size",
    "execution",
    "context",
    "image_detail",
];
/// Members that hold names which have to match elsewhere in the exchange.
const NAMES: &[&str] = &["id", "name", "namespace", "prompt_cache_key"];
/// Below these, members are named by a person.
const FREE: &[&str] = &["parameters", "schema", "input_schema", "metadata", "client_metadata", "properties"];
/// The vocabulary of JSON Schema, which stays where members are named by a person.
const SCHEMA: &[&str] = &[
    "type",
    "properties",
    "required",
    "items",
    "description",
    "enum",
    "const",
    "default",
    "title",
    "format",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "additionalProperties",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "pattern",
    "$schema",
    "$defs",
    "definitions",
    "$ref",
    "nullable",
    "examples",
];
/// Endings of members whose numbers count, place or time something.
const COUNTED: &[&str] = &[
    "_tokens",
    "_at",
    "_index",
    "_number",
    "_percent",
    "_minutes",
    "_seconds",
    "_ms",
    "_window",
    "_length",
    "status",
    "temperature",
    "top_p",
    "strict",
    "threshold",
];
/// How secrets that are written in small letters begin.
const SECRET_BEGINNINGS: &[&str] = &["sk-", "at-", "at_", "rt-", "rt_", "rt.", "eyj", "ghp_"];
const LONGEST_WORD: usize = 64;

/// Whether what is below this member is named by a person.
pub(super) fn is_free(member: &str) -> bool {
    FREE.contains(&member)
}

/// Whether the number in this member may be known.
pub(super) fn is_counted(member: &str) -> bool {
    COUNTED.iter().any(|end| member.ends_with(end))
}

/// What becomes of a text in this member of an object that stands in `parent`.
pub(super) fn fate(member: &str, parent: &str) -> Fate {
    match member {
        "arguments" => Fate::Json,
        // Elsewhere it is what an interpreter has run.
        "code" if matches!(parent, "" | "error") => Fate::Word,
        _ if WORDS.contains(&member) => Fate::Word,
        _ if NAMES.contains(&member) || member.ends_with("_id") => Fate::Name,
        _ => Fate::Shape,
    }
}

/// The same where members are named by a person.
pub(super) fn free_fate(member: &str) -> Fate {
    match member {
        "type" => Fate::Word,
        "required" => Fate::Name,
        _ => Fate::Shape,
    }
}

/// Whether a member's name is one of the protocol's.
pub(super) fn is_member(name: &str) -> bool {
    is_word(name)
}

/// Whether a member's name is one of JSON Schema's.
pub(super) fn is_schema_member(name: &str) -> bool {
    SCHEMA.contains(&name)
}

/// Whether a text looks like a word of the protocol: short runs of small letters, numbers shorter
/// than any that names somebody, and signs between them.
#[must_use]
pub fn is_word(text: &str) -> bool {
    text.len() <= LONGEST_WORD
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !SECRET_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
        && text.split(['.', '_', '-', ':']).all(is_part)
}

fn is_part(part: &str) -> bool {
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    let turns = part.as_bytes().windows(2).filter(|two| two[0].is_ascii_digit() != two[1].is_ascii_digit()).count();
    let is_small = part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    is_small && digits <= 4 && turns <= 1 && part.len() - digits <= 16
}

/// The value of a header whose name is allowed: words and small numbers stay.
pub(super) fn header(value: &str) -> String {
    let is_number = value.len() <= 20 && value.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte));
    let is_kept = |part: &str| part.is_empty() || is_word(part) || (part.len() <= 4 && is_digits(part));
    let is_told = is_number && !looks_like_address(value)
        || value.split(['/', ';', '=', ',', ' ']).all(is_kept)
        || ["True", "False"].contains(&value);
    if is_told { value.to_owned() } else { super::masking::of_text(value) }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn looks_like_address(value: &str) -> bool {
    value.matches('.').count() > 1
}

#[cfg(test)]
mod tests {
    use super::{header, is_word};

    #[test]
    fn words_of_the_protocol_are_told_from_secrets() {
        for word in [
            "response.output_text.delta",
            "gpt-5.1-codex-max",
            "web_search_2025_08_26",
            "context_length_exceeded",
            "4o-is-no-beginning".trim_start_matches("4o-"),
        ] {
            assert!(is_word(word), "{word}");
        }
        for secret in [
            "",
            "sk-proj-abc",
            "at-0123",
            "rt_abc",
            "eyJhbGciOi",
            "me@example.com",
            "10.0.0.7",
            "a1b2c3d4",
            "123e4567-e89b-12d3-a456-426614174000",
            "e4567123-e89b-12d3-a456-426614174000",
            "two words",
            "Straße",
            "averylongrunoflettersthatisnoword",
        ] {
            assert!(!is_word(secret), "{secret}");
        }
    }

    #[test]
    fn a_header_keeps_words_and_numbers() {
        for value in [
            "application/json",
            "text/event-stream; charset=utf-8",
            "model=gpt-5.5;tier=priority",
            "1700000000",
            "12.5",
            "True",
        ] {
            assert_eq!(header(value), value);
        }
        assert_eq!(header("10.0.0.7"), "11.1.1.1");
        assert_eq!(header("sk-Canary7"), "xx-xxxxxx1");
    }
}
