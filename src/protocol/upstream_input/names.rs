//! Converts tool names and call ids to the form that the backend accepts: `[A-Za-z0-9_-]{1,64}`.
//!
//! Each result depends only on the name, so a tool, its choice and its calls in the history agree without a table.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::protocol::json::to_raw;

const MAX_CHARS: usize = 64;
/// Characters kept of an invalid tool name: with `_` and eight digits of the hash, that is [`MAX_CHARS`].
const KEPT_CHARS: usize = 55;

/// Returns the backend's name for a tool. An invalid name has its invalid characters replaced and a hash of the
/// original appended, which keeps names distinct.
#[must_use]
pub fn tool_name(name: Cow<'_, str>) -> Cow<'_, str> {
    if is_valid(&name) {
        return name;
    }
    let kept = name.chars().take(KEPT_CHARS).map(|c| if is_plain(c) { c } else { '_' });
    let mut mapped: String = kept.collect();
    mapped.push('_');
    mapped.push_str(&hash(&name, 8));
    Cow::Owned(mapped)
}

/// Records the client's name of a tool in `renamed`, under the backend's name, if they differ.
pub fn note_renamed(name: &str, renamed: &mut BTreeMap<String, String>) {
    let upstream = tool_name(Cow::Borrowed(name));
    if *upstream != *name {
        renamed.insert(upstream.into_owned(), name.to_owned());
    }
}

/// Returns the backend's tool choice for one tool, given its type and the client's name.
#[must_use]
pub fn choice(kind: &'static str, name: Cow<'_, str>) -> Box<RawValue> {
    to_raw(&Named { r#type: kind, name: &tool_name(name) })
}

#[derive(Serialize)]
struct Named<'n> {
    r#type: &'static str,
    name: &'n str,
}

/// Returns the backend's form of a call id. An invalid id is replaced by its hash.
#[must_use]
pub fn call_id(id: Cow<'_, str>) -> Cow<'_, str> {
    if is_valid(&id) { id } else { Cow::Owned(format!("call_{}", hash(&id, 40))) }
}

fn is_valid(name: &str) -> bool {
    (1..=MAX_CHARS).contains(&name.len()) && name.chars().all(is_plain)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// Returns the first hex digits of a text's SHA-256.
fn hash(text: &str, digits: usize) -> String {
    format!("{:.digits$x}", Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{call_id, tool_name};

    #[test]
    fn valid_names_are_unchanged() {
        let longest = "a".repeat(64);
        for name in ["get_weather", "a-B_9", longest.as_str()] {
            assert!(matches!(tool_name(name.into()), Cow::Borrowed(same) if same == name));
            assert!(matches!(call_id(name.into()), Cow::Borrowed(same) if same == name));
        }
    }

    #[test]
    fn invalid_names_become_valid_and_distinct() {
        assert_eq!(tool_name("fs.read".into()), "fs_read_4074bc02");
        assert_ne!(tool_name("fs.read".into()), tool_name("fs:read".into()));
        for invalid in ["", "é", "a b", &"x".repeat(65), &"日本".repeat(100)] {
            for mapped in [tool_name(invalid.into()), call_id(invalid.into())] {
                assert!(super::is_valid(&mapped), "{invalid} became {mapped}");
            }
        }
    }
}
