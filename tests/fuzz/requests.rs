//! Mutated requests of every dialect: rejected in the client's terms, or translated to JSON.

use std::collections::BTreeMap;

use codex_proxy::command_hint::CommandHint;
use codex_proxy::error::ProxyError;
use codex_proxy::protocol::chat::{self, Chat};
use codex_proxy::protocol::codex::request::Omissions;
use codex_proxy::protocol::completions::Completions;
use codex_proxy::protocol::gemini;
use codex_proxy::protocol::messages::Messages;
use codex_proxy::protocol::ollama;
use codex_proxy::protocol::responses::{self, Responses};
use codex_proxy::protocol::tokens::TokenLimit;
use codex_proxy::protocol::{CommonOptions, Dialect};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::mutate::{Damage, damages, odd_value, replace, spoilt};
use crate::{Case, attempts, cases, translated};

/// The output may be longer than the input, but only by a constant factor.
const TIMES: usize = 16;
const MORE_BYTES: usize = 64 * 1024;

fn assert_translates<D: Dialect>(body: &[u8], options: &D::Options) {
    match translated::<D, _>(body, options, |plan| plan.upstream.encode(&Omissions::new())) {
        Ok(bytes) => {
            // Unparsed members may contain half a surrogate pair, which `Value` can't represent.
            let members: BTreeMap<String, &RawValue> =
                serde_json::from_slice(&bytes).expect("the upstream request is JSON");
            serde_json::from_str::<Vec<&RawValue>>(members["input"].get()).expect("the input is a list");
            serde_json::from_str::<String>(members["model"].get()).expect("the model is a text");
            assert!(bytes.len() <= TIMES * body.len() + MORE_BYTES, "{} of {}", bytes.len(), body.len());
        }
        Err(error @ ProxyError::Refused(_)) => {
            let (status, _, face) = D::to_error_response(&error, "req_1", CommandHint::default());
            assert!(status.is_client_error(), "{error}");
            serde_json::from_slice::<Value>(&face).expect("an error is JSON");
        }
        Err(other) => panic!("not the client's fault: {other:?}"),
    }
}

fn assert_all_translate(dialect: &str, body: &[u8]) {
    let instructions = chat::Options::default().default_instructions;
    match dialect {
        "chat" => assert_translates::<Chat>(body, &chat::Options::default()),
        "completions" => {
            assert_translates::<Completions>(
                body,
                &CommonOptions { default_instructions: instructions, token_limit: TokenLimit::Enforce },
            );
        }
        "messages" => assert_translates::<Messages>(
            body,
            &CommonOptions { default_instructions: instructions, token_limit: TokenLimit::Enforce },
        ),
        "ollama" => {
            let options = CommonOptions { default_instructions: instructions, token_limit: TokenLimit::Enforce };
            assert_translates::<ollama::Chat>(body, &options);
            assert_translates::<ollama::Generate>(body, &options);
        }
        "gemini" => {
            let options = CommonOptions { default_instructions: instructions, token_limit: TokenLimit::Enforce };
            assert_translates::<gemini::Generate>(body, &options);
        }
        "responses" => assert_translates::<Responses>(body, &responses::Options::default()),
        other => panic!("no such dialect: {other}"),
    }
}

fn case_of(dialect: &'static str) -> impl Strategy<Value = Case> {
    prop::sample::select(cases(dialect))
}

fn assert_spoilt_bytes(dialect: &str, case: &Case, damages: &[Damage]) {
    assert_all_translate(dialect, &spoilt(&case.request, damages));
}

fn assert_spoilt_values(dialect: &str, case: &Case, odd: &[(Index, Value)]) {
    let mut request: Value = serde_json::from_slice(&case.request).unwrap();
    for (at, value) in odd {
        replace(&mut request, *at, value.clone());
    }
    assert_all_translate(dialect, request.to_string().as_bytes());
}

fn odd() -> impl Strategy<Value = Vec<(Index, Value)>> {
    prop::collection::vec((any::<Index>(), odd_value()), 1..4)
}

proptest! {
    #![proptest_config(attempts())]

    #[test]
    fn chat_requests(case in case_of("chat"), damages in damages(), odd in odd()) {
        assert_spoilt_bytes("chat", &case, &damages);
        assert_spoilt_values("chat", &case, &odd);
    }

    #[test]
    fn completions_requests(case in case_of("completions"), damages in damages(), odd in odd()) {
        assert_spoilt_bytes("completions", &case, &damages);
        assert_spoilt_values("completions", &case, &odd);
    }

    #[test]
    fn messages_requests(case in case_of("messages"), damages in damages(), odd in odd()) {
        assert_spoilt_bytes("messages", &case, &damages);
        assert_spoilt_values("messages", &case, &odd);
    }

    #[test]
    fn ollama_requests(case in case_of("ollama"), damages in damages(), odd in odd()) {
        assert_spoilt_bytes("ollama", &case, &damages);
        assert_spoilt_values("ollama", &case, &odd);
    }

    #[test]
    fn gemini_requests(case in case_of("gemini"), damages in damages(), odd in odd()) {
        assert_spoilt_bytes("gemini", &case, &damages);
        assert_spoilt_values("gemini", &case, &odd);
    }

    #[test]
    fn responses_requests(case in case_of("responses"), damages in damages(), odd in odd()) {
        assert_spoilt_bytes("responses", &case, &damages);
        assert_spoilt_values("responses", &case, &odd);
    }
}
