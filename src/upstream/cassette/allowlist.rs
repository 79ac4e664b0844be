//! Decides which parts of a recording are kept: identifiers of the protocol, never user data. Pure.
//!
//! Everything that is not listed here is replaced. A value is kept only if its member contains identifiers and the value
//! looks like one. Keys, tokens, ids and addresses don't.

/// How a string is redacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redaction {
    /// Kept if it is an identifier of the protocol, else masked.
    KeepIdentifier,
    /// Replaced by a placeholder, the same for each occurrence.
    Placeholder,
    /// JSON in a string: its strings and digits are masked.
    MaskJson,
    /// Masked.
    Mask,
}

/// Members that contain identifiers of the protocol.
const IDENTIFIERS: &[&str] = &[
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
/// Members that contain names which occur in several places.
const NAMES: &[&str] = &["id", "name", "namespace", "prompt_cache_key"];
/// Members below which users choose the member names.
const USER_NAMED: &[&str] = &["parameters", "schema", "input_schema", "metadata", "client_metadata", "properties"];
/// Keywords of JSON Schema, which are kept there.
const SCHEMA_KEYWORDS: &[&str] = &[
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
/// Suffixes of members whose numbers are counts, positions or times.
const NUMERIC_SUFFIXES: &[&str] = &[
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
/// Prefixes of secrets that look like identifiers.
const SECRET_PREFIXES: &[&str] = &["sk-", "at-", "at_", "rt-", "rt_", "rt.", "eyj", "ghp_"];
const MAX_IDENTIFIER_BYTES: usize = 64;

/// Whether users choose the member names below this member.
pub(super) fn is_user_named(member: &str) -> bool {
    USER_NAMED.contains(&member)
}

/// Whether the numbers in this member are kept.
pub(super) fn is_kept_number(member: &str) -> bool {
    NUMERIC_SUFFIXES.iter().any(|suffix| member.ends_with(suffix))
}

/// How to redact a string in this member of an object in `parent`.
pub(super) fn redaction(member: &str, parent: &str) -> Redaction {
    match member {
        "arguments" => Redaction::MaskJson,
        // In other objects, `code` is a program.
        "code" if matches!(parent, "" | "error") => Redaction::KeepIdentifier,
        _ if IDENTIFIERS.contains(&member) => Redaction::KeepIdentifier,
        _ if NAMES.contains(&member) || member.ends_with("_id") => Redaction::Placeholder,
        _ => Redaction::Mask,
    }
}

/// How to redact a string where users choose the member names.
pub(super) fn user_named_redaction(member: &str) -> Redaction {
    match member {
        "type" => Redaction::KeepIdentifier,
        "required" => Redaction::Placeholder,
        _ => Redaction::Mask,
    }
}

/// Whether a member name is kept.
pub(super) fn is_member(name: &str) -> bool {
    is_identifier(name)
}

/// Whether a member name is a keyword of JSON Schema.
pub(super) fn is_schema_keyword(name: &str) -> bool {
    SCHEMA_KEYWORDS.contains(&name)
}

/// Whether a text looks like an identifier of the protocol: short runs of lowercase letters, and numbers too short to
/// identify a person, with separators between them.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    text.len() <= MAX_IDENTIFIER_BYTES
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !SECRET_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
        && text.split(['.', '_', '-', ':']).all(is_part)
}

fn is_part(part: &str) -> bool {
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    let changes = part.as_bytes().windows(2).filter(|two| two[0].is_ascii_digit() != two[1].is_ascii_digit()).count();
    let is_lowercase = part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    is_lowercase && digits <= 4 && changes <= 1 && part.len() - digits <= 16
}

/// Redacts a header value: identifiers and short numbers are kept, other values are masked.
pub(super) fn header_value(value: &str) -> String {
    let is_number = value.len() <= 20 && value.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte));
    let is_kept = |part: &str| part.is_empty() || is_identifier(part) || (part.len() <= 4 && is_digits(part));
    let is_kept_value = is_number && !looks_like_address(value)
        || value.split(['/', ';', '=', ',', ' ']).all(is_kept)
        || ["True", "False"].contains(&value);
    if is_kept_value { value.to_owned() } else { super::masking::mask(value) }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn looks_like_address(value: &str) -> bool {
    value.matches('.').count() > 1
}

#[cfg(test)]
mod tests {
    use super::{header_value, is_identifier};

    #[test]
    fn identifiers_are_distinguished_from_secrets() {
        for identifier in [
            "response.output_text.delta",
            "gpt-5.1-codex-max",
            "web_search_2025_08_26",
            "context_length_exceeded",
            "is-no-beginning",
        ] {
            assert!(is_identifier(identifier), "{identifier}");
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
            assert!(!is_identifier(secret), "{secret}");
        }
    }

    #[test]
    fn header_values_keep_identifiers_and_numbers() {
        for value in [
            "application/json",
            "text/event-stream; charset=utf-8",
            "model=gpt-5.5;tier=priority",
            "1700000000",
            "12.5",
            "True",
        ] {
            assert_eq!(header_value(value), value);
        }
        assert_eq!(header_value("10.0.0.7"), "11.1.1.1");
        assert_eq!(header_value("sk-Canary7"), "xx-xxxxxx1");
    }
}
