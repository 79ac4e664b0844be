//! Token usage in Anthropic's format: unlike the backend's, its input tokens exclude those read from or written to the
//! cache.

use crate::protocol::codex::Usage;

/// The object `usage` at the end of a reply.
pub(super) fn json(usage: &Usage, searches: u64) -> String {
    let written = usage.cache_write_tokens.unwrap_or(0);
    let input = usage.input_tokens.saturating_sub(usage.cached_tokens).saturating_sub(written);
    let server_tools = if searches > 0 {
        format!(r#","server_tool_use":{{"web_search_requests":{searches},"web_fetch_requests":0}}"#)
    } else {
        String::new()
    };
    format!(
        concat!(
            r#"{{"input_tokens":{},"cache_creation_input_tokens":{},"cache_read_input_tokens":{},"#,
            r#""output_tokens":{},"output_tokens_details":{{"thinking_tokens":{}}}{}}}"#,
        ),
        input, written, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens, server_tools,
    )
}

/// The object `usage` of `message_start`: the estimated tokens of the prompt, and no output yet.
pub(super) fn opening(input_tokens: u64) -> String {
    format!(
        concat!(
            r#"{{"input_tokens":{},"cache_creation_input_tokens":0,"#,
            r#""cache_read_input_tokens":0,"output_tokens":0}}"#,
        ),
        input_tokens,
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::json;
    use crate::protocol::codex::Usage;

    #[test]
    fn the_cache_is_not_counted_twice() {
        let usage = Usage { input_tokens: 100, cached_tokens: 70, cache_write_tokens: Some(20), ..Usage::default() };
        let reported: Value = serde_json::from_str(&json(&usage, 2)).unwrap();
        assert_eq!((&reported["input_tokens"], &reported["cache_creation_input_tokens"]), (&json!(10), &json!(20)));
        assert_eq!(reported["server_tool_use"]["web_search_requests"], 2);
        let odd = Usage { input_tokens: 1, cached_tokens: 70, ..Usage::default() };
        let reported: Value = serde_json::from_str(&json(&odd, 0)).unwrap();
        assert_eq!(reported["input_tokens"], 0);
    }
}
