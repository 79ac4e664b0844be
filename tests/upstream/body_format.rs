//! The form of a body: learned from a rejection, within one request and for later ones.

use codex_proxy::error::Fault;
use codex_proxy::protocol::codex::request::{Request, WireFormat};
use codex_proxy::upstream::{BodyForm, ForwardedHeaders};

use crate::fake::Script;
use crate::{Bench, WHOLE, drain, fault, request};

const REFUSAL: &str = r#"{"error":{"code":"unsupported_value","message":"this model takes responses_lite only"}}"#;

fn marks(bench: &Bench) -> Vec<String> {
    let sent = bench.fake.requests("/responses");
    sent.iter().map(|sent| sent.header("x-openai-internal-codex-responses-lite").to_owned()).collect()
}

#[tokio::test]
async fn a_change_of_form_does_not_count_as_a_retry() {
    let bench = Bench::with(|settings| settings.max_retries = 0).await;
    bench.fake.on("/responses", Script::json(400, REFUSAL));
    bench.fake.on("/responses", Script::events(&WHOLE));
    let (events, _) = drain(bench.open().await.unwrap()).await;
    assert_eq!(events, WHOLE);
    assert_eq!(marks(&bench), ["", "true"]);
}

#[tokio::test]
async fn repairs_still_apply_in_the_new_form() {
    let bench = Bench::with(|settings| settings.max_retries = 0).await;
    bench.fake.on("/responses", Script::json(400, REFUSAL));
    bench.fake.on("/responses", Script::json(401, ""));
    bench.fake.on("/responses", Script::json(400, r#"{"detail":"Unsupported parameter: prompt_cache_key"}"#));
    bench.fake.on("/responses", Script::events(&WHOLE));
    assert_eq!(bench.open().await.unwrap().warnings, ["ignored:prompt_cache_key"]);
    assert_eq!(marks(&bench), ["", "true", "true", "true"]);
}

#[tokio::test]
async fn a_lite_body_is_not_changed() {
    let own = || Request { format: WireFormat::ClientLite, ..request() };
    for body in [BodyForm::Auto, BodyForm::Classic, BodyForm::Lite] {
        let bench = Bench::with(|settings| settings.body = body).await;
        bench.fake.on("/responses", Script::json(400, REFUSAL));
        assert_eq!(
            fault(crate::open(&bench.upstream, own(), &ForwardedHeaders::default()).await),
            Fault::InvalidRequest
        );
        assert_eq!(marks(&bench), ["true"]);
        assert_eq!(bench.fake.requests("/responses")[0].json()["input"].as_array().unwrap().len(), 1);
    }
}
