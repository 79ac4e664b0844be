//! The content of a Responses request is sent byte for byte by the real binary, at once and when it is
//! continued.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::Bench;
use crate::bodies::{Generated, any_body};
use crate::fake::Script;
use crate::wire::Ask;

const BODIES: usize = 48;

/// The same bodies on each run.
fn bodies() -> Vec<Generated> {
    let mut runner = TestRunner::deterministic();
    (0..BODIES).map(|_| any_body().new_tree(&mut runner).unwrap().current()).collect()
}

/// A complete response with its own id and an item with unknown members.
fn answer(number: usize, item: &str) -> Script {
    let id = format!("resp_{number}");
    Script::events(&[
        &format!(r#"{{"type":"response.created","response":{{"id":"{id}"}}}}"#),
        &format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{item}}}"#),
        &format!(r#"{{"type":"response.completed","response":{{"id":"{id}","status":"completed"}}}}"#),
    ])
}

/// The last upstream request.
fn left(bench: &Bench) -> String {
    String::from_utf8(bench.upstream.requests("/responses").pop().unwrap().body).unwrap()
}

async fn passes(store: &str) {
    let bench = Bench::with(|launch| launch.setting("responses.store", store)).await;
    for (number, Generated { body, kept, items }) in bodies().into_iter().enumerate() {
        let output = format!(r#"{{ "type":"tomorrow","id":"t_{number}","n":1.0e+{number} }}"#);
        bench.upstream.replace("/responses", answer(number, &output));
        let answered = Ask::raw("/v1/responses", body).send(&bench.proxy).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        let sent = left(&bench);
        for kept in kept {
            assert!(sent.contains(&kept), "{kept}\nis not in\n{sent}");
        }

        let next = r#"{ "type":"later","n":-0.0 }"#;
        let body = format!(r#"{{"model":"m","previous_response_id":"resp_{number}","input":[{next}]}}"#);
        let answered = Ask::raw("/v1/responses", body).send(&bench.proxy).await;
        assert_eq!(answered.status, 200, "{}", answered.text());
        let conversation = format!(r#""input":[{items},{output},{next}]"#);
        assert!(left(&bench).contains(&conversation), "{conversation}\nis not in\n{}", left(&bench));
    }
}

#[tokio::test]
async fn generated_bodies_are_sent_byte_for_byte_from_memory() {
    passes("memory").await;
}

#[tokio::test]
async fn generated_bodies_are_sent_byte_for_byte_from_disk() {
    passes("disk").await;
}
