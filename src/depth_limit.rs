//! Limits how deeply a request body nests, and estimates how many JSON values it has.
//!
//! Some members are parsed recursively, and others are passed on to the backend as they are. One limit, checked before
//! any API reads the body, protects the stacks of this program and of the receiver. The number of values is for the
//! memory budget.

use crate::error::{ProxyError, Refusal};

/// Maximum number of levels: far more than schemas and arguments need.
const MAX_DEPTH: usize = 256;

/// Refuses a body that nests too deeply. Accepts invalid JSON, which the parser rejects later.
///
/// # Errors
/// A [`Refusal`] of the body.
pub fn check(body: &[u8]) -> Result<(), ProxyError> {
    // Most bodies have fewer brackets than allowed levels, which is quick to check.
    if memchr::memchr2_iter(b'[', b'{', body).nth(MAX_DEPTH).is_none() {
        return Ok(());
    }
    let (mut depth, mut rest) = (0_usize, body);
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => rest = after_string(after),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Refusal::body(format!("the request body nests deeper than {MAX_DEPTH} levels")));
        }
    }
    Ok(())
}

/// An upper bound for the number of JSON values inside the outermost one. Each of them follows a comma or an opening
/// bracket.
#[must_use]
pub fn values(body: &[u8]) -> usize {
    let (mut values, mut rest) = (0, body);
    while let Some((first, after)) = rest.split_first() {
        rest = if *first == b'"' { after_string(after) } else { after };
        values += usize::from(matches!(first, b',' | b'[' | b'{'));
    }
    values
}

/// The text after the closing quote; empty if there is none.
fn after_string(mut text: &[u8]) -> &[u8] {
    while let Some(end) = memchr::memchr2(b'"', b'\\', text) {
        let is_escape = text.get(end) == Some(&b'\\');
        text = text.get(end + 1 + usize::from(is_escape)..).unwrap_or_default();
        if !is_escape {
            return text;
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::{MAX_DEPTH, check, values};

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        assert!(check(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(check(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(check("{\"a\":".repeat(MAX_DEPTH + 1).as_bytes()).is_err());
    }

    #[test]
    fn values_are_counted_outside_of_strings() {
        assert_eq!(values(br#"{"a,\"[":[1,{"b":"{,"}],"c":2}"#), 5);
    }

    #[test]
    fn wide_bodies_are_accepted() {
        let wide = vec!["{\"a\":[1]}"; 10_000].join(",");
        assert!(check(format!("[{wide}]").as_bytes()).is_ok());
    }

    #[test]
    fn brackets_in_strings_do_not_count() {
        let text = format!(r#"{{"a\"{0}":"{0}\\","b":"{0}"}}"#, "[".repeat(MAX_DEPTH + 1));
        assert!(check(text.as_bytes()).is_ok());
        let after = format!(r#"["\\",{}]"#, nested(MAX_DEPTH));
        assert!(check(after.as_bytes()).is_err());
    }

    #[test]
    fn invalid_json_is_accepted() {
        for text in ["", "\"", "\"\\", "]]]]", "\"abc\\\""] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
    }
}
