//! Replies to compaction requests.

use bytes::Bytes;
use codex_proxy::command_hint::CommandHint;
use codex_proxy::error::ProxyError;
use codex_proxy::protocol::models::Models;
use codex_proxy::protocol::responses::compact::CompactionReply;
use codex_proxy::protocol::responses::{Compaction, Options, to_error_response};
use codex_proxy::protocol::{Context, Dialect, Mode, Warnings};
use http::HeaderMap;
use serde_json::json;

use crate::cases::{Case, answered_cases_of};
use crate::runner::{answer_of, assert_cut_anywhere, document_of, split};
use crate::stored_refs::resolve_references;

fn reply(case: &Case) -> CompactionReply {
    let (body, models, headers) = (case.request.to_string(), Models::default(), HeaderMap::new());
    let mut context = Context {
        headers: &headers,
        key: None,
        path_model: None,
        commands: CommandHint::default(),
        models: &models,
        warnings: Warnings::default(),
    };
    let mut request = Compaction::decode(body.as_bytes()).unwrap();
    let references = Compaction::references(&request);
    Compaction::resolve_references(
        &mut request,
        resolve_references(case.store.as_ref().unwrap_or(&json!({})), &references),
    );
    let plan = Compaction::translate(request, &mut context, &Options::default()).unwrap();
    assert_eq!(plan.mode, Mode::Document, "for any client parameters");
    plan.reply
}

fn cases() -> Vec<Case> {
    answered_cases_of("compact", 5)
}

#[test]
fn each_case_gives_the_expected_document() {
    for case in cases() {
        let words = |error: &ProxyError| {
            let (status, _, body) = to_error_response(error, "req_test", CommandHint::default());
            (status, body)
        };
        let (status, got) = answer_of(reply(&case), &split([case.upstream_sse.as_slice()]), words);
        assert_eq!(status, case.document_status(), "{}", case.name);
        if !case.client_json.is_null() {
            assert_eq!(got, case.client_json, "{}", case.name);
        }
    }
}

#[test]
fn messages_and_the_compaction_item_keep_their_bytes() {
    let case = cases().into_iter().find(|case| case.name.starts_with("03")).unwrap();
    let spelled = String::from_utf8(case.upstream_sse.clone()).unwrap().replace("[1.0]", r#"[1.0e+0 , "\u00e9"]"#);
    let mut reply = reply(&case);
    crate::runner::drive(&mut reply, &split([spelled.as_bytes()]), &mut codex_proxy::protocol::Fold);
    let document: Bytes = codex_proxy::protocol::Reply::document(reply).unwrap();
    let document = String::from_utf8(document.to_vec()).unwrap();
    assert!(document.contains(r#""later":[1.0e+0 , "\u00e9"]"#), "{document}");
    assert!(document.contains(r#""later":1.5"#), "{document}");
}

#[test]
fn a_truncated_compaction_is_an_error() {
    for case in cases() {
        assert_cut_anywhere(
            &case,
            || reply(&case),
            |arrived: &[Bytes]| {
                assert!(document_of(reply(&case), arrived).is_err(), "{}", case.name);
            },
        );
    }
}
