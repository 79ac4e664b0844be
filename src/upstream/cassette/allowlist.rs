//! Decides which parts of a recording are kept: words of the protocol (such as `response.created`), never ids and user
//! data. Pure.
//!
//! A string is kept only if its member is listed here and it looks like a protocol word; keys, tokens, ids and
//! addresses don't. A number is kept only if its member is listed here. Ids and names get placeholders; other strings
//! and numbers are masked. The values `true`, `false` and `null` are always kept.

/// How a string is redacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redaction {
    /// Kept if it looks like a protocol word, else masked.
    KeepProtocolWord,
    /// Replaced by a placeholder; equal strings get equal placeholders.
    Placeholder,
    /// The string holds JSON, which stays valid: its strings and numbers are masked.
    MaskJson,
    /// Masked: letters become `x`, digits `1`.
    Mask,
}

/// The kind of request that is redacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// A request for a response, and its events.
    Responses,
    /// A request for another endpoint: search, images, notes, account documents. Their members have other meanings, and
    /// fewer of them are kept.
    SideCall,
}

/// Members of [`Scope::Responses`] whose values are words of the protocol.
const PROTOCOL_WORD_MEMBERS: &[&str] = &[
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
/// The same for [`Scope::SideCall`].
const SIDE_WORD_MEMBERS: &[&str] = &[
    "type",
    "role",
    "status",
    "object",
    "model",
    "output_format",
    "plan_type",
    "reset_type",
    "size",
    "quality",
    "background",
    "response_length",
    "search_context_size",
    "allowed_callers",
];
/// Members whose values refer to each other, in addition to those that end with `_id`.
const REFERENCE_MEMBERS: &[&str] = &["id", "name", "namespace", "prompt_cache_key"];
/// The names of the tools that the proxy runs, and of their functions: a replay has to recognize calls of them.
const PROXY_TOOLS: [&str; 4] = ["web", "run", "image_gen", "imagegen"];
/// Members of values in which users choose the member names, at any depth.
const USER_NAMED: &[&str] = &["parameters", "schema", "input_schema", "metadata", "client_metadata", "properties"];
/// The member names that are kept in such values: the keywords of JSON Schema.
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
/// Suffixes of members whose numbers are kept: counts, positions, times and parameters.
const KEPT_NUMBERS: &[&str] = &[
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
/// Prefixes of secrets that may look like protocol words.
const SECRET_PREFIXES: &[&str] = &["sk-", "at-", "at_", "rt-", "rt_", "rt.", "eyj", "ghp_"];
const MAX_WORD_BYTES: usize = 64;

/// Whether users choose the member names in the value of this member.
pub(super) fn has_user_named_members(member: &str) -> bool {
    USER_NAMED.contains(&member)
}

/// Whether the numbers in this member are kept. In values with user-chosen member names, none are.
pub(super) fn is_kept_number(member: &str) -> bool {
    KEPT_NUMBERS.iter().any(|suffix| member.ends_with(suffix))
}

/// Replaces the content of a file: an image of one pixel, in base64.
pub(super) const FILE_PLACEHOLDER: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg==";

/// Returns the text before the placeholder of a string that is a file: a data URL, or base64. In a side call, files
/// have megabytes, and masking wouldn't make them shorter.
pub(super) fn file_prefix(scope: Scope, member: &str, literal: &str) -> Option<&'static str> {
    match scope {
        Scope::Responses => None,
        Scope::SideCall if literal.starts_with("data:") => Some("data:image/png;base64,"),
        Scope::SideCall => member.contains("b64").then_some(""),
    }
}

/// How to redact a string in this member of an object, which is the value of the member `parent` (empty at the top
/// level). The elements of an array count as values of its member.
pub(super) fn redaction(scope: Scope, member: &str, parent: &str) -> Redaction {
    let word_members = match scope {
        Scope::Responses => PROTOCOL_WORD_MEMBERS,
        Scope::SideCall => SIDE_WORD_MEMBERS,
    };
    match member {
        "arguments" => Redaction::MaskJson,
        // In other objects, `code` is a program.
        "code" if matches!(parent, "" | "error") => Redaction::KeepProtocolWord,
        _ if word_members.contains(&member) => Redaction::KeepProtocolWord,
        _ if REFERENCE_MEMBERS.contains(&member) || member.ends_with("_id") => Redaction::Placeholder,
        _ => Redaction::Mask,
    }
}

/// The same, where users choose the member names.
pub(super) fn user_named_redaction(member: &str) -> Redaction {
    match member {
        "type" => Redaction::KeepProtocolWord,
        "required" => Redaction::Placeholder,
        _ => Redaction::Mask,
    }
}

/// Whether a name is that of a tool that the proxy runs. Such a name is kept.
pub(super) fn is_proxy_tool(member: &str, text: &str) -> bool {
    matches!(member, "name" | "namespace") && PROXY_TOOLS.contains(&text)
}

/// Whether a member name is kept. Others get a placeholder.
pub(super) fn is_kept_name(name: &str) -> bool {
    is_protocol_word(name)
}

/// Whether a member name is a keyword of JSON Schema.
pub(super) fn is_schema_keyword(name: &str) -> bool {
    SCHEMA_KEYWORDS.contains(&name)
}

/// Whether a text looks like a word of the protocol: short runs of lowercase letters, and numbers too short to identify
/// a person, with separators between them. Also used for bug reports and the counters of unknown events.
#[must_use]
pub fn is_protocol_word(text: &str) -> bool {
    text.len() <= MAX_WORD_BYTES
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

/// Redacts the value of a recorded header: kept if it consists of protocol words and short numbers, else masked.
pub(super) fn header_value(value: &str) -> String {
    let is_number = value.len() <= 20 && value.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte));
    let is_kept = |part: &str| part.is_empty() || is_protocol_word(part) || (part.len() <= 4 && is_digits(part));
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
    use super::{header_value, is_protocol_word};

    #[test]
    fn protocol_words_are_distinguished_from_secrets() {
        for word in [
            "response.output_text.delta",
            "gpt-5.1-codex-max",
            "web_search_2025_08_26",
            "context_length_exceeded",
            "is-no-beginning",
        ] {
            assert!(is_protocol_word(word), "{word}");
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
            assert!(!is_protocol_word(secret), "{secret}");
        }
    }

    #[test]
    fn header_values_keep_words_and_numbers() {
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
