//! Token usage in the format of Chat and text completions, and its estimate if the backend reports none. Cached tokens
//! count as prompt tokens, as in the backend's usage.

use crate::protocol::codex::Usage;

/// Characters per token, the average of English text and code.
const CHARACTERS_PER_TOKEN: usize = 4;

/// The object `usage`, as JSON.
pub(in crate::protocol) fn json(usage: &Usage) -> String {
    let Usage { input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, total_tokens } =
        usage;
    let written = cache_write_tokens.map(|tokens| format!(r#","cache_write_tokens":{tokens}"#)).unwrap_or_default();
    format!(
        concat!(
            r#"{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"#,
            r#""prompt_tokens_details":{{"cached_tokens":{},"audio_tokens":0{}}},"#,
            r#""completion_tokens_details":{{"reasoning_tokens":{},"audio_tokens":0,"#,
            r#""accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        ),
        input_tokens, output_tokens, total_tokens, cached_tokens, written, reasoning_tokens,
    )
}

/// Estimates the usage of a reply that the proxy ended before the backend reported it. `output_tokens` are those of
/// visible output without reasoning; reasoning that wasn't visible is not included.
pub(in crate::protocol) fn estimate(
    prompt_characters: usize,
    output_tokens: u64,
    reasoning_characters: usize,
) -> Usage {
    let (input_tokens, reasoning_tokens) = (tokens(prompt_characters), tokens(reasoning_characters));
    let output_tokens = output_tokens.saturating_add(reasoning_tokens);
    Usage {
        input_tokens,
        cached_tokens: 0,
        cache_write_tokens: None,
        output_tokens,
        reasoning_tokens,
        total_tokens: input_tokens.saturating_add(output_tokens),
    }
}

/// Estimates the tokens of a text from its length: one for every four characters, rounded up.
pub(in crate::protocol) fn tokens(characters: usize) -> u64 {
    u64::try_from(characters.div_ceil(CHARACTERS_PER_TOKEN)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{estimate, json};
    use crate::protocol::codex::Usage;

    #[test]
    fn cache_writes_are_reported_if_they_are_known() {
        let usage = Usage { cached_tokens: 5, cache_write_tokens: Some(7), ..Usage::default() };
        let reported: Value = serde_json::from_str(&json(&usage)).unwrap();
        let expected = json!({"cached_tokens": 5, "audio_tokens": 0, "cache_write_tokens": 7});
        assert_eq!(reported["prompt_tokens_details"], expected);
    }

    #[test]
    fn an_estimate_adds_up() {
        let usage = estimate(9, 5, 6);
        assert_eq!(
            (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.total_tokens),
            (3, 7, 2, 10)
        );
    }
}
