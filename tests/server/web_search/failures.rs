//! Responses that fail after a search.

use serde_json::json;

use super::{MODEL, SEARCH, chat_request, lite, message, messages_request, round, search_call, send};
use crate::fake::Script;
use crate::limits::becomes;
use crate::wire::Ask;
use crate::with;

#[tokio::test]
async fn a_document_whose_later_round_fails_is_not_requested_again_from_the_start() {
    for streaming in [false, true] {
        let bench = lite().await;
        bench.upstream.on("/responses", round("resp_1", &[search_call()], 10));
        bench.upstream.on("/responses", Script::json(500, "{}"));
        let answer = Ask::chat(&with(chat_request(), "stream", json!(streaming))).send(&bench.proxy).await;
        assert_eq!(answer.status, if streaming { 200 } else { 502 }, "{}", answer.text());
        // The second round has an attempt and two retries.
        assert_eq!((bench.request_count(), bench.upstream.requests(SEARCH).len()), (4, 1), "{streaming}");
        // The first round is billed.
        let input = format!(r#"codex_proxy_tokens_total{{model="{MODEL}",kind="input"}}"#);
        becomes(&bench.proxy, &input, 10).await;
    }
}

#[tokio::test]
async fn a_failed_search_is_an_error_block_of_the_messages_api() {
    for streaming in [false, true] {
        let bench = lite().await;
        bench.upstream.replace(SEARCH, Script::json(403, r#"{"detail":"no"}"#));
        bench.upstream.on("/responses", round("resp_1", &[search_call()], 10));
        bench.upstream.on("/responses", round("resp_2", &[message()], 20));
        let answer = send(&bench, "/v1/messages", &with(messages_request(), "stream", json!(streaming))).await;
        let error = r#""content":{"type":"web_search_tool_result_error","error_code":"unavailable"}"#;
        assert!(answer.text().contains(error), "{}", answer.text());
    }
}
