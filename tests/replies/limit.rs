//! The client's token limit, if enforced: the output never has more tokens.

use codex_proxy::protocol::chat::{RenderOptions, ReplyOptions};
use codex_proxy::protocol::tokens;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fold::{fold, frames};
use crate::laws::assert_laws;
use crate::{document, stream, stripped};

/// A message and a call, in deltas.
fn answer(texts: &[String], arguments: &[String]) -> Vec<bytes::Bytes> {
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": ""});
    let delta = |kind: &str, index: u64, text: &String| json!({"type": kind, "output_index": index, "delta": text});
    let added =
        |index: u64, item: Value| json!({"type": "response.output_item.added", "output_index": index, "item": item});
    let mut events = vec![json!({"type": "response.created", "response": {"id": "resp_1"}})];
    events.push(added(0, json!({"type": "message", "content": []})));
    events.extend(texts.iter().map(|text| delta("response.output_text.delta", 0, text)));
    events.push(added(1, call));
    events.extend(arguments.iter().map(|text| delta("response.function_call_arguments.delta", 1, text)));
    events.push(json!({"type": "response.completed", "response": {"id": "resp_1"}}));
    events.iter().map(|event| event.to_string().into()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn no_more_than_the_limit_is_sent(
        limit in 1_u64..30,
        texts in prop::collection::vec("[a-zA-Z' \\n\"é日😀.]{1,8}", 0..8),
        arguments in prop::collection::vec("[a-z0-9{}\":, ]{1,8}", 0..8),
    ) {
        let api = RenderOptions { includes_usage: true, ..RenderOptions::default() };
        let options = ReplyOptions { model: "m".to_owned(), token_limit: Some(limit), api, ..ReplyOptions::default() };
        let events = answer(&texts, &arguments);
        let frames = frames(&stream(&options, &events));
        assert_laws(&options, &frames);
        let document = document(&options, &events).unwrap();
        prop_assert_eq!(fold(&frames), stripped(document.clone()));

        let choice = &document["choices"][0];
        let content = choice["message"]["content"].as_str().unwrap_or_default();
        let input = choice["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap_or_default();
        let tokens = (tokens::count(content) + tokens::count(input)) as u64;
        prop_assert!(tokens <= limit, "{} of {}", tokens, limit);
        let mut arguments = arguments.concat();
        if arguments.trim().is_empty() {
            // A call without arguments gets an empty object.
            arguments += "{}";
        }
        let whole = content == texts.concat() && input == arguments;
        prop_assert!(texts.concat().starts_with(content) && arguments.starts_with(input));
        if whole {
            prop_assert!(choice["finish_reason"] == "tool_calls");
        } else {
            prop_assert_eq!(&choice["finish_reason"], "length");
            prop_assert_eq!(document["usage"]["completion_tokens"].as_u64(), Some(tokens));
        }
    }
}
