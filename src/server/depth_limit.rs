//! How deep a request may nest.
//!
//! Members that nobody reads are carried or skipped without recursion, whatever their depth; those
//! that are read go through parsers that recurse. One limit for all of them, held before any
//! dialect looks at a body, keeps every stack safe: ours, and those of whoever is sent the member.

use crate::error::{ProxyError, Refusal};

/// Far beyond what schemas and arguments need.
const DEEPEST: usize = 256;

/// Refuses a body that nests too deep. Says nothing about what is no JSON.
pub(super) fn check(body: &[u8]) -> Result<(), ProxyError> {
    // Most bodies, long texts and pictures above all, have no more brackets than they may have levels.
    if memchr::memchr2_iter(b'[', b'{', body).nth(DEEPEST).is_none() {
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
        if depth > DEEPEST {
            return Err(Refusal::body(format!("the request body nests deeper than {DEEPEST} levels")));
        }
    }
    Ok(())
}

/// How many values a body has at most: each needs a comma before it, or a bracket around it.
pub(super) fn values(body: &[u8]) -> usize {
    let (mut values, mut rest) = (0, body);
    while let Some((first, after)) = rest.split_first() {
        rest = if *first == b'"' { after_string(after) } else { after };
        values += usize::from(matches!(first, b',' | b'[' | b'{'));
    }
    values
}

/// What follows the closing quote; nothing where there is none.
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
    use super::{DEEPEST, check, values};

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        assert!(check(nested(DEEPEST).as_bytes()).is_ok());
        assert!(check(nested(DEEPEST + 1).as_bytes()).is_err());
        assert!(check("{\"a\":".repeat(DEEPEST + 1).as_bytes()).is_err());
    }

    #[test]
    fn values_are_counted_outside_of_strings() {
        assert_eq!(values(br#"{"a,\"[":[1,{"b":"{,"}],"c":2}"#), 5);
    }

    #[test]
    fn breadth_is_no_depth() {
        let wide = vec!["{\"a\":[1]}"; 10_000].join(",");
        assert!(check(format!("[{wide}]").as_bytes()).is_ok());
    }

    #[test]
    fn brackets_in_strings_do_not_count() {
        let text = format!(r#"{{"a\"{0}":"{0}\\","b":"{0}"}}"#, "[".repeat(DEEPEST + 1));
        assert!(check(text.as_bytes()).is_ok());
        let after = format!(r#"["\\",{}]"#, nested(DEEPEST));
        assert!(check(after.as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_json_is_not_judged() {
        for text in ["", "\"", "\"\\", "]]]]", "\"abc\\\""] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
    }
}
